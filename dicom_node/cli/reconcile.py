"""`reconcile`: disk, index, queue and destinations held against each other."""

from __future__ import annotations

import json
from collections.abc import Iterator

import typer

from dicom_node.cli import settings_of
from dicom_node.cli.kept import kept
from dicom_node.cli.output import AS_JSON
from dicom_node.parts import now
from dicom_node.roles.worker import worker_parts
from dicom_node.worker.repair import SETTLED_AFTER, Repairs, ask_by_find, missing_elsewhere
from storage.inspection import REPAIRS, Fault, Inspection
from storage.jobs import Queue


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(reconcile)


def reconcile(
    context: typer.Context,
    repair: bool = typer.Option(False, "--repair", help="Repair what is safe; without it nothing is changed."),
    digests: bool = typer.Option(
        False, "--digests", help="Read every file and compare its SHA-256, not its size alone."
    ),
    destinations: bool = typer.Option(False, "--destinations", help="Ask destinations (C-FIND) for what they took."),
    as_json: bool = AS_JSON,
) -> None:
    """Compare disk, index, queue and destinations; exit status 1 where something is left that does not agree.

    Nothing that was acknowledged is ever removed.
    """
    loaded = settings_of(context)
    settings = loaded.settings
    with kept(loaded) as storage:
        queue, intake = Queue(storage.database), storage.intake(settings)
        node = worker_parts(settings, storage, intake, settings.peers)
        ask = ask_by_find(settings.dimse.ae_title)
        try:
            found = list(
                Inspection(storage.database, storage.blobs, queue).faults(before=now() - SETTLED_AFTER, digests=digests)
            )
            found += missing_elsewhere(node, ask) if destinations else []
            repairs = Repairs(storage.database, storage.blobs, queue, node) if repair else None
            told = [(fault, repairs.repair(fault) if repairs else "") for fault in found]
        finally:
            intake.close()
            queue.close()
    _say(told, repaired=repair, as_json=as_json)
    if any(not done for _, done in told):
        raise SystemExit(1)


def _say(told: list[tuple[Fault, str]], *, repaired: bool, as_json: bool) -> None:
    if as_json:
        rows = [
            {"kind": fault.kind.value, "subject_id": fault.subject_id, "why": fault.why, "done": done}
            for fault, done in told
        ]
        typer.echo(json.dumps({"faults": rows, "repaired": sum(bool(done) for _, done in told)}))
        return
    for line in _lines(told, repaired=repaired):
        typer.echo(line)


def _lines(told: list[tuple[Fault, str]], *, repaired: bool) -> Iterator[str]:
    for fault, done in told:
        would = REPAIRS.get(fault.kind, "left to a person")
        then = done or ("left to a person" if repaired else f"--repair: {would}")
        yield f"{fault.kind}: {fault.subject_id}: {fault.why} ({then})"
    left = sum(not done for _, done in told)
    yield f"{len(told)} faults found, {len(told) - left} repaired, {left} left."
