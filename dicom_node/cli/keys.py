"""`keys`: who may use HTTP from elsewhere."""

from __future__ import annotations

import typer

from configs.errors import ConfigError
from dicom_node.admin_key import admin_key
from dicom_node.cli import settings_of
from dicom_node.cli.output import table
from dicom_node.parts import Storage, now
from storage.audit import Audit, AuditAction, AuditOutcome
from storage.keys import Keys
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
    name: str,
    permissions: str = typer.Option("read", help="Joined by commas: read, store, predict, console, operate, …"),
    peers: str = typer.Option("", help="Only studies that these peers sent, joined by commas."),
) -> None:
    """Make a key; it is shown this once."""
    words = [word.strip() for word in permissions.split(",") if word.strip()]
    names = frozenset(word.strip() for word in peers.split(",") if word.strip())
    storage = Storage.open(settings_of(context).settings)
    secret = Keys(storage.database).create(name, words, StudyFilter(names or None), now())
    Audit(storage.database).record(AuditAction.KEYS, _ACTOR, None, AuditOutcome.DONE, f"created {name}", now())
    storage.close()
    typer.echo(secret)


def list_keys(context: typer.Context) -> None:
    """List keys."""
    storage = Storage.open(settings_of(context).settings)
    rows = [
        (
            key.name,
            ", ".join(sorted(key.permissions)),
            "all studies" if key.visible.sender_peers is None else f"of {', '.join(sorted(key.visible.sender_peers))}",
            f"{key.created_at:%Y-%m-%d}",
            f"revoked {key.revoked_at:%Y-%m-%d}" if key.revoked_at else "valid",
        )
        for key in Keys(storage.database).all()
    ]
    storage.close()
    typer.echo(table(("name", "may", "sees", "made", "state"), rows) if rows else "There is no key but the admin's.")


def revoke(context: typer.Context, name: str) -> None:
    """Close a key for good."""
    storage = Storage.open(settings_of(context).settings)
    Keys(storage.database).revoke(name, now())
    Audit(storage.database).record(AuditAction.KEYS, _ACTOR, None, AuditOutcome.DONE, f"revoked {name}", now())
    storage.close()
    typer.echo(f"{name} opens nothing any more.")


def show_admin(context: typer.Context) -> None:
    """Show the administrator's key, on the node's own machine."""
    key = admin_key(settings_of(context).settings)
    if key is None:
        raise ConfigError("There is no admin key yet: it is made when the node starts for the first time.")
    typer.echo(key)
