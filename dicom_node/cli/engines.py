"""`engines`: what can analyse studies here."""

from __future__ import annotations

import json

import typer

from dicom_node.cli import settings_of
from dicom_node.cli.output import AS_JSON, table
from inference.registry import engines as make_engines


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def engines(context: typer.Context, as_json: bool = AS_JSON) -> None:
        """List the engines of this installation."""
        rows = [engine.description for engine in make_engines(settings_of(context).settings.engines).values()]
        if as_json:
            said = [
                {"name": each.name, "version": each.version, "kind": each.kind, "reads": list(each.reads.modalities)}
                for each in rows
            ]
            typer.echo(json.dumps(said))
            return
        headings = ("name", "version", "kind", "reads")
        typer.echo(
            table(headings, [(each.name, each.version, each.kind, ", ".join(each.reads.modalities)) for each in rows])
        )
