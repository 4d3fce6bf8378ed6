"""`keys`: who may use HTTP from elsewhere."""

from __future__ import annotations

import json
from datetime import timedelta

import typer

from configs.errors import ConfigError
from dicom_node.admin_key import admin_key
from dicom_node.cli import settings_of
from dicom_node.cli.kept import kept
from dicom_node.cli.output import AS_JSON, table
from dicom_node.parts import now
from storage.audit import Audit, AuditAction, AuditOutcome
from storage.keys import PERMISSIONS, Keys
from storage.peer_records import KeyRecord
from storage.records import StudyFilter

_ACTOR = "command line"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    keys = typer.Typer(help="Keys for HTTP.", no_args_is_help=True)
    app.add_typer(keys, name="keys")
    keys.command("create")(create)
    keys.command("list")(list_keys)
    keys.command("revoke")(revoke)
    keys.command("show-admin")(show_admin)


def create(
    context: typer.Context,
    name: str = typer.Argument(help="Who it is for; letters, digits, dots, dashes."),
    permissions: str = typer.Option("read", help=f"Joined by commas: {', '.join(sorted(PERMISSIONS))}."),
    peers: str = typer.Option("", help="Only studies that these peers sent, joined by commas."),
    days: int = typer.Option(0, min=0, help="It expires after so many days; 0: never."),
) -> None:
    """Make a key; it is shown this once."""
    words = [word.strip() for word in permissions.split(",") if word.strip()]
    names = frozenset(word.strip() for word in peers.split(",") if word.strip())
    loaded = settings_of(context)
    for unknown in sorted(names - set(loaded.settings.peers)):
        raise ConfigError(f"--peers: peers.yaml has no peer {unknown!r}")
    with kept(loaded) as storage:
        secret = Keys(storage.database).create(
            name, words, StudyFilter(names or None), now(), expires_at=now() + timedelta(days=days) if days else None
        )
        Audit(storage.database).record(AuditAction.KEYS, _ACTOR, None, AuditOutcome.DONE, f"created {name}", now())
    typer.echo(secret)


def list_keys(context: typer.Context, as_json: bool = AS_JSON) -> None:
    """List keys; their secrets are not kept."""
    with kept(settings_of(context)) as storage:
        keys = Keys(storage.database).all()
    if as_json:
        typer.echo(json.dumps([_values(key) for key in keys]))
        return
    rows = [
        (
            key.name,
            ", ".join(sorted(key.permissions)),
            "all studies" if key.visible.sender_peers is None else f"of {', '.join(sorted(key.visible.sender_peers))}",
            f"{key.created_at:%Y-%m-%d}",
            _validity(key),
        )
        for key in keys
    ]
    typer.echo(table(("name", "may", "sees", "made", "state"), rows) if rows else "There is no key but the admin's.")


def _values(key: KeyRecord) -> dict[str, object]:
    peers = key.visible.sender_peers
    return {
        "name": key.name,
        "permissions": sorted(key.permissions),
        "peers": None if peers is None else sorted(peers),
        "created_at": key.created_at.isoformat(),
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
        "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
    }


def _validity(key: KeyRecord) -> str:
    if key.revoked_at:
        return f"revoked {key.revoked_at:%Y-%m-%d}"
    if key.expires_at:
        return f"{'expired' if key.expires_at <= now() else 'until'} {key.expires_at:%Y-%m-%d}"
    return "valid"


def revoke(context: typer.Context, name: str = typer.Argument(help="Name of the key.")) -> None:
    """Close a key for good."""
    with kept(settings_of(context)) as storage:
        Keys(storage.database).revoke(name, now())
        Audit(storage.database).record(AuditAction.KEYS, _ACTOR, None, AuditOutcome.DONE, f"revoked {name}", now())
    typer.echo(f"{name} opens nothing any more.")


def show_admin(context: typer.Context) -> None:
    """Show the administrator's key, on the node's own machine."""
    key = admin_key(settings_of(context).settings)
    if key is None:
        raise ConfigError("There is no admin key yet: it is made when the node starts for the first time.")
    typer.echo(key)
