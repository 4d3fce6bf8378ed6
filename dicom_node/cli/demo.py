"""`demo`: the main job in one command."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import typer
from rich.console import Console

from configs.errors import ConfigError
from dicom_node.demo.run import play


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def demo(
        source: Path | None = typer.Option(None, "--from", help="Folder of real DICOM files; default: a phantom."),
        keep: bool = typer.Option(False, "--keep", help="Leave the demo's node up (on a terminal)."),
        folder: Path = typer.Option(Path("build/demo"), help="Where everything of the demo goes; emptied first."),
    ) -> None:
        """Play the main job: a study goes in by C-STORE, SR and SEG come back to a PACS stand-in."""
        if source is not None and not source.is_dir():
            raise ConfigError(f"{source}: no such folder")
        if keep and not sys.stdin.isatty():
            typer.echo("There is no terminal to end it from: the demo's node is not left up.", err=True)
        # Asked to end, it ends its node and stand-in too, as after Ctrl-C.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        good = play(folder.absolute(), source=source, keep=keep and sys.stdin.isatty(), console=Console())
        if not good:
            raise SystemExit(1)
