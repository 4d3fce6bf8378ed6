"""`rules`: try the rules on a study before they count."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import typer

from configs.load import Loaded, read_routes
from dicom_node.cli import settings_of
from dicom_node.cli.kept import kept
from dicom_node.cli.output import AS_JSON
from dicom_node.worker.trial import Site, as_lines, try_folder, try_kept
from inference.registry import engines
from storage.errors import NotKept
from storage.index import Index
from storage.records import Sender


def register(app: typer.Typer) -> None:
    """Add the commands."""
    rules = typer.Typer(help="The rules of routes.yaml.", no_args_is_help=True)
    rules.command("try")(try_rules)
    app.add_typer(rules, name="rules")


def try_rules(
    context: typer.Context,
    name: str = typer.Argument(metavar="STUDY|FOLDER", help="Study Instance UID, accession number, file or folder."),
    routes: Path | None = typer.Option(None, "--routes", help="Try this file in place of routes.yaml."),
    sender: str = typer.Option("", help="Of a folder: the peer that would send it."),
    calling: str = typer.Option("", help="Of a folder: the calling AE title."),
    called: str = typer.Option("", help="Of a folder: the AE title of this node that would be called."),
    as_json: bool = AS_JSON,
) -> None:
    """Show which rules match a study, which term failed and why, and what would follow; nothing is done."""
    loaded = settings_of(context)
    site = _site(loaded, routes)
    path = Path(name)
    if path.exists():
        by = (
            [Sender(sender, calling, called, "", datetime.now(UTC), active=False)]
            if sender or calling or called
            else []
        )
        tried = try_folder(path, site, by)
    else:
        with kept(loaded) as storage:
            index = Index(storage.database)
            tried = [try_kept(uid, site, index, storage.blobs) for uid in _uids(index, name)]
    if as_json:
        typer.echo(json.dumps(tried, ensure_ascii=False))
        return
    typer.echo("\n\n".join("\n".join(as_lines(each)) for each in tried))


def _site(loaded: Loaded, routes: Path | None) -> Site:
    settings = loaded.settings
    return Site(
        routes=settings.routes if routes is None else read_routes(routes, settings.peers),
        peers=settings.peers,
        engines={name: engine.description.reads for name, engine in engines(settings.engines).items()},
    )


def _uids(index: Index, name: str) -> list[str]:
    try:
        return [index.study(name).study_instance_uid]
    except NotKept:
        found = index.studies_by_accession(name)
    if not found:
        raise NotKept(f"There is no folder {name}, and no study with this UID or accession number is kept here.")
    return [study.study_instance_uid for study in found]
