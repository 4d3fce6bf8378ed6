"""`send`: send a folder by C-STORE."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import typer

from configs.errors import ConfigError, NodeError
from configs.peers import Peer
from dicom_node.cli import settings_of
from dicom_node.scu.files import instances_in
from dicom_node.scu.store import Outgoing, send


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("send")(send_folder)


def send_folder(
    context: typer.Context,
    folder: Path = typer.Argument(help="Folder of DICOM files, or one file."),
    to: str = typer.Option("", help="Name of a peer, or TITLE@host:port; default: this node itself."),
    calling: str = typer.Option("", help="AE title to call as; default: this node's."),
) -> None:
    """Send all instances of a folder; exit status 1 unless all were taken."""
    if not folder.exists():
        raise ConfigError(f"{folder}: no such file or folder")
    settings = settings_of(context).settings
    itself = f"{settings.dimse.ae_title}@127.0.0.1:{settings.dimse.port}"
    peer = settings.peers.get(to) or _address(to or itself)
    items = list(instances_in(folder))
    if not items:
        raise ConfigError(f"{folder} holds no DICOM instances.")
    answered: Counter[str] = Counter()

    def on_status(_: Outgoing, status: int) -> None:
        answered[f"0x{status:04X}"] += 1

    def on_refused(_: Outgoing, refusal: NodeError) -> None:
        answered[str(refusal)] += 1

    title = calling or settings.dimse.ae_title
    try:
        send(peer, calling_ae_title=title, items=items, on_status=on_status, on_refused=on_refused)
    finally:
        for answer, count in sorted(answered.items()):
            typer.echo(f"{count} of {len(items)} instances: {answer}")
    if answered["0x0000"] != len(items):
        raise SystemExit(1)


def _address(text: str) -> Peer:
    title, _, address = text.partition("@")
    host, _, port = address.rpartition(":")
    if not title or not host or not port.isdigit():
        raise ConfigError(f"{text!r} is neither a peer's name nor TITLE@host:port.")
    return Peer(ae_title=title, host=host, port=int(port))
