"""`send`: send a folder by C-STORE."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import typer

from configs.errors import ConfigError
from configs.peers import Peer
from dicom_node.cli import settings_of
from dicom_node.scu.files import instances_in
from dicom_node.scu.store import Outgoing, send


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("send")(send_folder)


def send_folder(
    context: typer.Context,
    folder: Path = typer.Argument(help="Folder of DICOM files."),
    to: str = typer.Option("", help="Name of a peer, or TITLE@host:port; default: this node itself."),
    calling: str = typer.Option("", help="AE title to call as; default: this node's."),
) -> None:
    """Send all instances of a folder; exit status 1 unless all were taken."""
    settings = settings_of(context).settings
    itself = f"{settings.dimse.ae_title}@127.0.0.1:{settings.dimse.port}"
    peer = settings.peers.get(to) or _address(to or itself)
    items = list(instances_in(folder))
    if not items:
        raise ConfigError(f"{folder} holds no DICOM instances.")
    answered: Counter[int] = Counter()

    def on_status(_: Outgoing, status: int) -> None:
        answered[status] += 1

    send(peer, calling_ae_title=calling or settings.dimse.ae_title, items=items, on_status=on_status)
    for status, count in sorted(answered.items()):
        typer.echo(f"{count} instances: 0x{status:04X}")
    if answered[0] != len(items):
        raise SystemExit(1)


def _address(text: str) -> Peer:
    title, _, address = text.partition("@")
    host, _, port = address.rpartition(":")
    if not title or not host or not port.isdigit():
        raise ConfigError(f"{text!r} is neither a peer's name nor TITLE@host:port.")
    return Peer(ae_title=title, host=host, port=int(port))
