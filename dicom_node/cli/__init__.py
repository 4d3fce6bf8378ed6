"""The command line: `dicom-node`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from configs.errors import NodeError
from configs.load import Loaded, load

#: Command → module that registers it. Only the module of the command asked for is imported:
#: `up` must stay free of what its roles may not hold.
COMMANDS: dict[str, str] = {
    "up": "node",
    "check": "node",
    "version": "node",
    "demo": "demo",
    "send": "send",
    "studies": "studies",
    "show": "studies",
    "rerun": "studies",
    "ledger": "studies",
    "peers": "peers",
    "deliveries": "deliveries",
    "keys": "keys",
    "engines": "engines",
    "reconcile": "reconcile",
    "correct": "correct",
    "retract": "correct",
    "rules": "rules",
    "reproduce": "results",
    "verify-result": "results",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; a foreseen failure is one sentence on the error stream and exit status 1."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    app = make_app(next((word for word in words if word in COMMANDS), None))
    try:
        app(args=words, prog_name="dicom-node", standalone_mode=True)
    except NodeError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from None


def make_app(command: str | None) -> typer.Typer:
    """Build the application with one command, or with all of them for the help page."""
    app = typer.Typer(
        help="A DICOM-native PACS integration node. Research use.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def everywhere(
        context: typer.Context,
        config: Path | None = typer.Option(
            None, "--config", help="Directory of node.yaml, peers.yaml, routes.yaml, engines.yaml."
        ),
    ) -> None:
        context.obj = config

    modules = {COMMANDS[command]: None} if command else dict.fromkeys(COMMANDS.values())
    for module in modules:
        importlib.import_module(f"dicom_node.cli.{module}").register(app)
    return app


def settings_of(context: typer.Context, *, to_start: bool = False) -> Loaded:
    """Read the settings that a command works with; `to_start`: refuse those that no node may start with."""
    return load(context.obj, os.environ, to_start=to_start)
