"""`peers`: who may talk to the node, and where it sends."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import typer
from pydicom.uid import UID

from configs.errors import ConfigError, NodeError
from configs.load import Loaded, read_peers
from configs.passcode import hash_passcode
from configs.peers import Peer
from dicom_node.cli import settings_of
from dicom_node.cli.kept import kept
from dicom_node.cli.output import AS_JSON, table
from dicom_node.peers_file import add_peer, remove_peer
from dicom_node.scu.echo import echo as send_echo
from storage.associations import Associations
from storage.peer_classes import PeerClasses


def register(app: typer.Typer) -> None:
    """Add the commands."""
    peers = typer.Typer(help="Who may talk to the node, and where it sends.", no_args_is_help=True)
    app.add_typer(peers, name="peers")
    peers.command("list")(list_peers)
    peers.command("add")(add)
    peers.command("remove")(remove)
    peers.command("echo")(echo)
    peers.command("passcode")(passcode)
    peers.command("learned")(learned)
    peers.command("forget")(forget)


def passcode() -> None:
    """Ask for a passcode and print its hash, for `users` of a peer in peers.yaml."""
    given = typer.prompt("Passcode", hide_input=True, confirmation_prompt=True)
    typer.echo(hash_passcode(given))


def list_peers(
    context: typer.Context,
    refused: bool = typer.Option(False, "--refused", help="Show who was refused in the last 24 hours."),
    as_json: bool = AS_JSON,
) -> None:
    """List peers, or refused callers with a line to add each."""
    loaded = settings_of(context)
    if refused:
        show_refused(loaded, as_json=as_json)
        return
    rows = loaded.settings.peers
    if as_json:
        typer.echo(json.dumps({name: peer.model_dump(mode="json", by_alias=True) for name, peer in rows.items()}))
        return
    typer.echo(
        table(
            ("name", "AE title", "calls from", "at", "may", "gets"),
            [
                (
                    name,
                    peer.ae_title,
                    ", ".join(peer.may_call_from),
                    peer.where or "-",
                    ", ".join(peer.accept),
                    ", ".join(peer.deliver.send) if peer.deliver else "-",
                )
                for name, peer in rows.items()
            ],
        )
    )


def learned(
    context: typer.Context,
    name: str = typer.Argument(help="Name of the destination."),
    as_json: bool = AS_JSON,
) -> None:
    """Show which SOP Classes a destination took and refused: what it refused is not tried first."""
    with kept(settings_of(context)) as storage:
        known = PeerClasses(storage.database).of(name)
    if as_json:
        fields = ("sop_class_uid", "accepted", "reason")
        typer.echo(json.dumps([{field: getattr(each, field) for field in fields} for each in known]))
        return
    if not known:
        typer.echo(f"Nothing is known of {name} yet.")
        return
    rows = [
        (
            f"{each.at:%Y-%m-%d %H:%M} UTC",
            "takes" if each.accepted else "refuses",
            UID(each.sop_class_uid).name,
            each.reason,
        )
        for each in known
    ]
    typer.echo(table(("since", name, "SOP Class", "why"), rows))


def forget(context: typer.Context, name: str = typer.Argument(help="Name of the destination.")) -> None:
    """Forget what a destination takes, so that everything is tried again: after a change there."""
    with kept(settings_of(context)) as storage:
        number = PeerClasses(storage.database).forget(name)
    typer.echo(f"{number} answers of {name} forgotten; the next result is tried in its first form again.")


def show_refused(loaded: Loaded, *, as_json: bool) -> None:
    """Show callers that were not let in."""
    with kept(loaded) as storage:
        callers = Associations(storage.database).refused_since(datetime.now(UTC) - timedelta(hours=24))
    if as_json:
        fields = ("calling_ae_title", "called_ae_title", "host", "reason", "count")
        typer.echo(json.dumps([{field: getattr(caller, field) for field in fields} for caller in callers]))
        return
    if not callers:
        typer.echo("Nobody was refused in the last 24 hours.")
    for caller in callers:
        typer.echo(f"{caller.last_at:%Y-%m-%d %H:%M} UTC  {caller.count}x  {caller.reason}")


def add(
    context: typer.Context,
    name: str = typer.Argument(help="The name that routes use."),
    ae: str = typer.Option(..., "--ae", help="AE title of the peer."),
    host: str | None = typer.Option(None, help="Where the node calls it."),
    port: int | None = typer.Option(None, min=1, max=65535, help="Its DICOM port."),
    source: list[str] = typer.Option(
        [],
        "--from",
        metavar="ADDRESS",
        help="Address, name or network that may call as it; may be given again. Default: host.",
    ),
    deliver: bool = typer.Option(True, help="Send results there (needs host and port)."),
) -> None:
    """Let a peer in, and send it results."""
    loaded = settings_of(context)
    entry: dict[str, object] = {"ae_title": ae}
    if host:
        entry["host"] = host
    if port:
        entry["port"] = port
    if source:
        entry["from"] = source
    entry["accept"] = ["echo", "store"]
    if deliver and host and port:
        entry["deliver"] = {"by": "dimse", "send": ["sr", "seg"]}
    path = loaded.config_dir / "peers.yaml"
    typer.echo(add_peer(path, name, entry))
    typer.echo(f"Written to {path}; a running node takes it within a second.")
    if deliver and "deliver" not in entry:
        typer.echo("No results go there: that needs --host and --port.")
    if host and port:
        say_echo(name, read_peers(path)[name], loaded.settings.dimse.ae_title)


def remove(context: typer.Context, name: str = typer.Argument(help="Name of the peer.")) -> None:
    """Take a peer off the list."""
    path: Path = settings_of(context).config_dir / "peers.yaml"
    remove_peer(path, name)
    typer.echo(f"{name} is off the list in {path}.")


def echo(context: typer.Context, name: str = typer.Argument(help="Name of the peer.")) -> None:
    """Ask a peer for a C-ECHO."""
    loaded = settings_of(context)
    peer = loaded.settings.peers.get(name)
    if peer is None or peer.host is None or peer.port is None:
        raise ConfigError(f"peers.yaml has no peer {name!r} with host and port")
    if not say_echo(name, peer, loaded.settings.dimse.ae_title):
        raise SystemExit(1)


def say_echo(name: str, peer: Peer, own_title: str) -> bool:
    """Ask for a C-ECHO and say how it went."""
    calling = peer.answer_as or own_title
    try:
        send_echo(peer, calling_ae_title=calling)
    except NodeError as error:
        typer.echo(f"C-ECHO from {calling} to {name}: {error}")
        return False
    typer.echo(f"C-ECHO from {calling} to {name} ({peer.ae_title} at {peer.host}:{peer.port}): answered.")
    return True
