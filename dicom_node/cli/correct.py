"""`correct`, `retract`: what a person says to images of a wrong identity, and to results that are wrong."""

from __future__ import annotations

import typer

from configs.errors import ConfigError
from dicom_node.cli import settings_of
from dicom_node.cli.kept import kept
from dicom_node.parts import now
from storage.audit import Audit, AuditAction, AuditOutcome
from storage.corrections import Corrections
from storage.identity_change import CHANGEABLE, IdentityChange
from storage.index import Index
from storage.rejections import TITLES, Rejections
from storage.retractions import Retraction, Retractions
from storage.variants import Variants
from storage.waiting import apply_all, refuse_all, waiting

_BY = "command line"
_WHY = {"quality": "113001", "safety": "113037", "worklist": "113038", "retention": "113039"}
_UID = typer.Argument(metavar="UID", help="Study Instance UID.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(correct)
    app.command()(retract)


def correct(
    context: typer.Context,
    study: str = _UID,
    apply: bool = typer.Option(False, "--apply", help="Make the corrections, and follow the notes, that wait."),
    refuse: bool = typer.Option(False, "--refuse", help="Refuse them: the first images stay."),
    change: list[str] = typer.Option([], "--set", metavar="KEYWORD=VALUE", help=f"One of {', '.join(CHANGEABLE)}."),
) -> None:
    """Show what waits to be corrected in a study, decide on it, or correct whose the study is."""
    if apply + refuse + bool(change) > 1:
        raise ConfigError("Say one of --apply, --refuse and --set.")
    loaded = settings_of(context)
    with kept(loaded) as storage:
        index, corrections = Index(storage.database), Corrections(storage.database, storage.blobs)
        index.study(study)
        if change:
            values = dict(_pair(each) for each in change)
            intake = storage.intake(loaded.settings)
            try:
                made = IdentityChange(index, storage.blobs, intake, corrections, Variants(storage.database))
                said = (
                    f"{made.change(study, values, by=_BY, at=now())} instances corrected: {', '.join(sorted(values))}."
                )
            finally:
                intake.close()
        else:
            said = _decide(study, corrections, Rejections(storage.database), apply=apply, refuse=refuse)
        if apply or refuse or change:
            Audit(storage.database).record(AuditAction.OPERATE, _BY, study, AuditOutcome.DONE, said, now())
    typer.echo(said)


def _decide(study: str, corrections: Corrections, rejections: Rejections, *, apply: bool, refuse: bool) -> str:
    found = waiting(study, corrections, rejections)
    if apply:
        apply_all(found, corrections, rejections, by=_BY, at=now())
        return f"{found} applied."
    if refuse:
        refuse_all(found, corrections, rejections, by=_BY, at=now())
        return f"{found} refused."
    return "\n".join([f"{found} wait.", *(f"  {line}" for line in found.lines())])


def _pair(text: str) -> tuple[str, str]:
    keyword, separator, value = text.partition("=")
    if not separator:
        raise ConfigError("--set takes KEYWORD=VALUE, such as PatientID=1234")
    return keyword, value


def retract(
    context: typer.Context,
    study: str = _UID,
    why: str = typer.Option("quality", help=f"One of {', '.join(_WHY)}."),
    said: str = typer.Option(..., help="Why, for who gets the note; no patient data."),
) -> None:
    """Take the results of a study back; who got them gets a rejection note."""
    if why not in _WHY:
        raise ConfigError(f"--why is one of {', '.join(_WHY)}")
    with kept(settings_of(context)) as storage:
        Index(storage.database).study(study)
        retractions = Retractions(storage.database)
        runs = retractions.run_keys_of(study)
        for run_key in runs:
            retractions.ask(Retraction(run_key, study, _WHY[why], said[:200], _BY, now()))
        detail = f"{len(runs)} runs retracted: {TITLES[_WHY[why]]}"
        Audit(storage.database).record(AuditAction.RETRACT, _BY, study, AuditOutcome.DONE, detail, now())
    typer.echo(f"{detail}." if runs else "There is nothing to take back.")
