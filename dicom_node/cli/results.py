"""`verify-result`, `reproduce`: whether results are what they should be, and can be made again."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from configs.errors import ConfigError
from dicom_node.cli import settings_of
from dicom_node.cli.kept import kept
from dicom_node.cli.output import AS_JSON
from dicom_node.roles.worker import worker_parts
from dicom_node.worker.reproduce import infer_again, rebuild
from dicom_node.worker.verify import verify
from storage.index import Index


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(name="verify-result")(verify_result)
    app.command()(reproduce)


def verify_result(
    context: typer.Context,
    files: list[Path] = typer.Argument(metavar="FILE...", help="SR, SEG or other results of one kept study."),
    as_json: bool = AS_JSON,
) -> None:
    """Hold result objects against the kept study that they speak of; exit status 1 unless they pass."""
    try:
        objects = [dcmread(path) for path in files]
    except (OSError, InvalidDicomError) as error:
        raise ConfigError(f"A file cannot be read as DICOM: {type(error).__name__}. Name result files.") from error
    with kept(settings_of(context)) as storage:
        problems = verify(objects, Index(storage.database), storage.blobs)
    if as_json:
        typer.echo(json.dumps({"passed": not problems, "problems": problems}))
    else:
        typer.echo("\n".join(problems) if problems else "They pass the gate.")
    if problems:
        raise SystemExit(1)


def reproduce(
    context: typer.Context,
    sop_instance_uid: str = typer.Argument(metavar="UID", help="SOP Instance UID of a kept result of this node."),
    infer: bool = typer.Option(False, "--infer", help="Have the engine read the recorded inputs again too."),
    as_json: bool = AS_JSON,
) -> None:
    """Make a kept result again and compare; exit status 1 unless it is the same."""
    loaded = settings_of(context)
    with kept(loaded) as storage:
        intake = storage.intake(loaded.settings)
        try:
            parts = worker_parts(loaded.settings, storage, intake, loaded.settings.peers)
            said = [rebuild(sop_instance_uid, parts), *([infer_again(sop_instance_uid, parts)] if infer else [])]
        finally:
            intake.close()
    if as_json:
        typer.echo(json.dumps([{"what": e.what, "same": e.same, "differences": list(e.differences)} for e in said]))
    else:
        for each in said:
            typer.echo(f"{each.what}: {'the same' if each.same else 'different'}")
            for difference in each.differences:
                typer.echo(f"  {difference}")
    if not all(each.same for each in said):
        raise SystemExit(1)
