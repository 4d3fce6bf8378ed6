"""`studies`, `show`, `rerun`, `ledger`: what is kept, and what became of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import typer

from configs.errors import ConfigError
from configs.load import Loaded
from dicom_node.cli import settings_of
from dicom_node.cli.kept import kept
from dicom_node.cli.output import AS_JSON, table
from dicom_node.parts import Storage, now
from dicom_node.pictures import KeptReadings
from dicomweb import views
from storage.decisions import decisions_of
from storage.deliveries import Deliveries
from storage.errors import NotKept
from storage.findings_store import FindingsStore
from storage.index import Index
from storage.job_book import JobBook
from storage.jobs import Queue
from storage.ledger_report import Patience, account
from storage.records import ItemState, JobRecord, JobState, StudyRecord, StudyState
from storage.reopening import TRIED_ANEW, decide_anew
from storage.results import ResultBook
from storage.visibility import CANONICAL_FORM, ORIGINALS
from storage.way import way_of


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(studies)
    app.command()(show)
    app.command()(rerun)
    app.command()(ledger)


def studies(
    context: typer.Context,
    limit: int = typer.Option(50, min=1, help="The latest so many."),
    as_json: bool = AS_JSON,
) -> None:
    """List studies with their states, the latest first."""
    with kept(settings_of(context)) as storage:
        found = Index(storage.database).studies(limit=limit, offset=0)
    if as_json:
        typer.echo(json.dumps([views.study_line(study) for study in found], ensure_ascii=False))
        return
    if not found:
        typer.echo("Nothing was received yet.")
        return
    headings = ("arrived (UTC)", "modalities", "images", "state", "study", "why")
    typer.echo(
        table(
            headings,
            [
                (
                    f"{study.first_received_at:%Y-%m-%d %H:%M:%S}",
                    ",".join(study.modalities),
                    study.number_of_inputs,
                    study.state.value,
                    study.study_instance_uid,
                    study.reason,
                )
                for study in found
            ],
        )
    )


def show(
    context: typer.Context,
    name: str = typer.Argument(metavar="UID|ACCESSION", help="Study Instance UID or accession number."),
    as_json: bool = AS_JSON,
) -> None:
    """Show the way of a study, its report and its deliveries."""
    loaded = settings_of(context)
    with kept(loaded) as storage:
        for study in _find(Index(storage.database), name):
            page = _page(storage, study)
            typer.echo(json.dumps(page, ensure_ascii=False) if as_json else _as_text(loaded, page))


def _find(index: Index, name: str) -> list[StudyRecord]:
    try:
        return [index.study(name)]
    except NotKept:
        found = index.studies_by_accession(name)
    if not found:
        raise NotKept(f"No study with the UID or accession number {name} is kept here.")
    return found


def _page(storage: Storage, study: StudyRecord) -> dict[str, Any]:
    database, uid = storage.database, study.study_instance_uid
    index = Index(database)
    readings = KeptReadings(index, storage.blobs, FindingsStore(database, storage.blobs))
    results = ResultBook(database).of_study(uid)
    current = [each for each in results if each.current and each.kind == "sr" and each.form == CANONICAL_FORM]
    return views.study_line(study) | {
        "way": [views.step(each) for each in way_of(database, uid)],
        "decisions": [views.decision(each) for each in decisions_of(database, uid)],
        "results": [views.result(each) for each in results],
        "deliveries": [views.delivery(each) for each in Deliveries(database, Queue(database)).of_study(uid)],
        "reports": [readings.text(each.sop_instance_uid) for each in current],
    }


def _as_text(loaded: Loaded, page: dict[str, Any]) -> str:
    uid = page["study_instance_uid"]
    lines = [f"Study {uid}: {page['state']}", f"  {page['reason']}", "", "Way"]
    lines += [f"  {step['at']}  {step['subject']:<9} {step['to_state']:<20} {step['reason']}" for step in page["way"]]
    for decision in page["decisions"]:
        lines += ["", f"Decision {decision['decision_number']}: {decision['reason']}"]
        for route in decision["routes"]:
            said = "matched" if route["matched"] else "not matched"
            lines.append(f"  rule {route['route']} → {route['engine'] or 'no engine'}: {said}: {route['reason']}")
    for report in page["reports"]:
        lines += ["", report.rstrip("\n")]
    for delivery in page["deliveries"]:
        lines += ["", f"Delivery to {delivery['destination']}: {delivery['state']}. {delivery['reason']}"]
        lines += [
            f"  {item['kind']}  {item['state']}  {item['status'] or ''}  {item['sop_instance_uid']}"
            for item in delivery["items"]
            if delivery["form"] != ORIGINALS or item["state"] != ItemState.ACCEPTED
        ]
    return "\n".join([*lines, "", f"Console: {loaded.settings.http.base_url()}/console/studies/{uid}"])


def rerun(
    context: typer.Context,
    name: str | None = typer.Argument(None, metavar="UID|ACCESSION", help="A study; or use --waiting."),
    waiting: bool = typer.Option(False, "--waiting", help="All jobs that waited for an engine."),
) -> None:
    """Do jobs again; an unchanged study leads to no new result. Where no rule matched, try the rules anew."""
    if (name is None) == (not waiting):
        raise ConfigError("Name one study, or say --waiting.")
    with kept(settings_of(context)) as storage:
        book, queue, tried = JobBook(storage.database), Queue(storage.database), 0
        if waiting:
            jobs = book.waiting()
        else:
            jobs = []
            for study in _find(Index(storage.database), name or ""):
                mine = book.jobs_of(study.study_instance_uid)
                jobs += [job for job in mine if job.decision_number == study.decision_number]
                tried += _tried_anew(storage, study, jobs)
        again = [job for job in jobs if job.state not in (JobState.QUEUED, JobState.RUNNING)]
        for job in again:
            book.rerun(queue, job.job_id, now())
            typer.echo(f"Asked for again: {job.engine} on {job.study_instance_uid}")
    if not again and not tried:
        typer.echo("There is no job to do again.")


def _tried_anew(storage: Storage, study: StudyRecord, jobs: Sequence[JobRecord]) -> int:
    """Have the rules be tried on a study that none matched; give for how many that is."""
    if study.state is not StudyState.UNMATCHED or jobs:
        return 0
    decide_anew(storage.database, study.study_instance_uid, "asked for on the command line", now())
    typer.echo(f"{study.study_instance_uid}: {TRIED_ANEW} dicom-node show {study.study_instance_uid}")
    return 1


def ledger(
    context: typer.Context,
    files: bool = typer.Option(True, help="Look for the file of each instance."),
    as_json: bool = AS_JSON,
) -> None:
    """Account for every kept instance and every study; exit status 1 unless 0 are unexplained."""
    loaded = settings_of(context)
    patience = Patience(gathering_at_most_s=loaded.settings.quiet.at_most_s)
    with kept(loaded) as storage:
        queue = Queue(storage.database)
        said = account(storage.database, storage.blobs, now(), queue=queue, patience=patience, check_files=files)
    if as_json:
        typer.echo(json.dumps(views.ledger(said)))
    else:
        for subject, states in said.counts.items():
            since = said.oldest[subject]
            told = (f"{count} {state} (oldest {since[state]:%Y-%m-%d %H:%M})" for state, count in states.items())
            typer.echo(f"{subject:<12}" + (", ".join(told) or "none"))
        for each in said.unexplained:
            typer.echo(f"UNEXPLAINED {each.subject} {each.subject_id}: {each.why}")
        typer.echo(f"{len(said.unexplained)} unexplained")
    if said.unexplained:
        raise SystemExit(1)
