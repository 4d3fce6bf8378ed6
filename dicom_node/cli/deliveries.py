"""`deliveries`: where results stand at their destinations, and sending again what failed."""

from __future__ import annotations

import json

import typer

from configs.errors import ConfigError
from dicom_node.cli import settings_of
from dicom_node.cli.kept import kept
from dicom_node.cli.output import AS_JSON, table
from dicom_node.parts import now
from storage.deliveries import Deliveries
from storage.jobs import Queue
from storage.records import DeliveryState

_BY = "asked for on the command line"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    deliveries = typer.Typer(help="Where results stand at their destinations.", no_args_is_help=True)
    app.add_typer(deliveries, name="deliveries")
    deliveries.command("list")(list_deliveries)
    deliveries.command("retry")(retry)


def list_deliveries(
    context: typer.Context,
    state: list[DeliveryState] = typer.Option([], help="Only those in this state; may be given again."),
    limit: int = typer.Option(50, min=1, help="At most so many, latest first."),
    as_json: bool = AS_JSON,
) -> None:
    """List deliveries, latest first; `--state failed` are those that wait for a person."""
    with kept(settings_of(context)) as storage:
        found = Deliveries(storage.database, Queue(storage.database)).by_state(state or None, limit=limit)
    if as_json:
        fields = ("delivery_id", "study_instance_uid", "destination", "form", "state", "attempts", "reason")
        typer.echo(json.dumps([{field: getattr(each, field) for field in fields} for each in found]))
        return
    if not found:
        typer.echo("There is none.")
        return
    rows = [(each.delivery_id, each.destination, each.state.value, str(each.attempts), each.reason) for each in found]
    typer.echo(table(("delivery", "to", "state", "attempts", "why"), rows))


def retry(
    context: typer.Context,
    name: str | None = typer.Argument(None, metavar="DELIVERY", help="A delivery, as `deliveries list` names it."),
    failed: bool = typer.Option(False, "--failed", help="All that failed."),
    to: str | None = typer.Option(None, "--to", metavar="PEER", help="With --failed: only to this destination."),
) -> None:
    """Send again what failed, from the first attempt on: after the cause is mended."""
    if (name is None) == (not failed):
        raise ConfigError("Name one delivery, or say --failed.")
    with kept(settings_of(context)) as storage:
        book = Deliveries(storage.database, Queue(storage.database))
        names = [name] if name is not None else _failed(book, to)
        for each in names:
            asked = book.ask_again(each, _BY, now())
            typer.echo(f"Sent again: {asked.delivery_id}")
    if not names:
        typer.echo("None has failed.")


def _failed(book: Deliveries, to: str | None) -> list[str]:
    found = book.by_state([DeliveryState.FAILED], limit=100_000)
    return [each.delivery_id for each in found if to is None or each.destination == to]
