"""Records as JSON values: what the API answers and what the console shows."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from configs.errors import NodeError
from dicomweb.ports import WebParts
from storage.decisions import decisions_of
from storage.ledger_report import Account
from storage.peer_records import RefusedCaller
from storage.prior_book import PriorBook, PriorFetch
from storage.records import (
    Decision,
    DeliveryRecord,
    InstanceRecord,
    InstanceRole,
    JobRecord,
    ResultRecord,
    StudyFilter,
    StudyRecord,
    Transition,
    VariantRecord,
)
from storage.rejections import Note
from storage.retractions import Retraction
from storage.way import way_of

RESULTS_SCHEMA, STATED_SCHEMA = "results/1", "stated/1"
#: Segmentation and Label Map Segmentation Storage. Source: PS3.4 B.5.
SEGMENTATIONS = frozenset({"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"})
#: Enhanced, Comprehensive and Comprehensive 3D SR Storage.
REPORTS = frozenset(f"1.2.840.10008.5.1.4.1.1.88.{number}" for number in (22, 33, 34))
#: Objects of others that one answer reads at most.
MOST_STATED = 50


def moment(at: datetime | None) -> str | None:
    """Give a time as ISO 8601, UTC, to the millisecond."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else None


def study_line(study: StudyRecord) -> dict[str, Any]:
    """One study as lists show it."""
    return {
        "study_instance_uid": study.study_instance_uid,
        "patient_id": study.patient_id,
        "patient_name": study.patient_name,
        "accession_number": study.accession_number,
        "study_date": study.study_date,
        "study_description": study.study_description,
        "modalities": list(study.modalities),
        "number_of_series": study.number_of_series,
        "number_of_instances": study.number_of_instances,
        "number_of_inputs": study.number_of_inputs,
        "state": study.state.value,
        "reason": study.reason,
        "state_since": moment(study.state_since),
        "first_received_at": moment(study.first_received_at),
        "last_instance_at": moment(study.last_instance_at),
        "decision_number": study.decision_number,
    }


def study_page(parts: WebParts, study_instance_uid: str, visible: StudyFilter) -> dict[str, Any]:
    """One study with its whole way: states, decisions, jobs, results, deliveries."""
    study = parts.index.study(study_instance_uid, visible)
    return study_line(study) | {
        "way": [step(each) for each in way_of(parts.database, study_instance_uid)],
        "decisions": [decision(each) for each in decisions_of(parts.database, study_instance_uid)],
        "jobs": [job(each) for each in parts.job_book.jobs_of(study_instance_uid)],
        "priors": [prior(each) for each in PriorBook(parts.database).of_study(study_instance_uid)],
        "results": [result(each) for each in parts.results.of_study(study_instance_uid)],
        "deliveries": [delivery(each) for each in parts.deliveries.of_study(study_instance_uid)],
    }


def study_results(parts: WebParts, study_instance_uid: str, visible: StudyFilter) -> dict[str, Any]:
    """What engines said of a study, newest revision of each: for programs that know no DICOM."""
    study = parts.index.study(study_instance_uid, visible)
    records = parts.results.of_study(study_instance_uid)
    deliveries = [delivery(each) for each in parts.deliveries.of_study(study_instance_uid)]
    runs: dict[str, dict[str, Any]] = {}
    for record in records:
        if not record.current:
            continue
        run = runs.setdefault(record.run_key, parts.readings.findings(record.run_key) | {"objects": []})
        run["objects"].append(result(record))
    for run_key, run in runs.items():
        run["delivery"] = [each for each in deliveries if each["run_key"] == run_key]
    return {
        "schema": RESULTS_SCHEMA,
        "study_instance_uid": study_instance_uid,
        "state": study.state.value,
        "reason": study.reason,
        "results": list(runs.values()),
    }


def stated_by_others(parts: WebParts, study_instance_uid: str, visible: StudyFilter) -> dict[str, Any]:
    """What reports and segmentations of other makers state about a study; nothing of it was checked here."""
    parts.index.study(study_instance_uid, visible)
    found = [
        each
        for each in parts.index.instances_of(study_instance_uid, visible=visible)
        if each.role is InstanceRole.DOCUMENT and each.sop_class_uid in (*SEGMENTATIONS, *REPORTS)
    ]
    return {
        "schema": STATED_SCHEMA,
        "study_instance_uid": study_instance_uid,
        "objects": [_stated(parts, each) for each in found[:MOST_STATED]],
        "left_out": max(0, len(found) - MOST_STATED),
    }


def _stated(parts: WebParts, instance: InstanceRecord) -> dict[str, Any]:
    findings, refusal = None, ""
    try:
        findings = parts.readings.stated(instance.sop_instance_uid)
    except NodeError as error:
        refusal = str(error)
    return {
        "series_instance_uid": instance.series_instance_uid,
        "sop_instance_uid": instance.sop_instance_uid,
        "sop_class_uid": instance.sop_class_uid,
        "findings": findings,
        "not_read": refusal,
    }


def step(transition: Transition) -> dict[str, Any]:
    """One change of state."""
    return {
        "at": moment(transition.at),
        "subject": transition.subject,
        "subject_id": transition.subject_id,
        "from_state": transition.from_state,
        "to_state": transition.to_state,
        "reason": transition.reason,
    }


def decision(taken: Decision) -> dict[str, Any]:
    """One decision that a study is complete."""
    return {
        "decision_number": taken.decision_number,
        "decided_at": moment(taken.decided_at),
        "evidence": taken.evidence,
        "reason": taken.reason,
        "routes": [
            {"route": each.route, "engine": each.engine, "matched": each.matched, "reason": each.reason}
            for each in taken.routes
        ],
    }


def prior(fetch: PriorFetch) -> dict[str, Any]:
    """What a rule's request for earlier studies came to."""
    return {
        "route": fetch.route,
        "state": fetch.state.value,
        "reason": fetch.reason,
        "attempts": fetch.attempts,
        "next_attempt_at": moment(fetch.next_attempt_at),
        "ended_at": moment(fetch.ended_at),
    }


def job(record: JobRecord) -> dict[str, Any]:
    """One job."""
    return {
        "job_id": record.job_id,
        "study_instance_uid": record.study_instance_uid,
        "engine": record.engine,
        "route": record.route,
        "state": record.state.value,
        "reason": record.reason,
        "attempts": record.attempts,
        "priority": record.priority.value,
        "not_before": moment(record.not_before),
        "deliver_to": list(record.deliver_to),
        "created_at": moment(record.created_at),
        "started_at": moment(record.started_at),
        "ended_at": moment(record.ended_at),
    }


def result(record: ResultRecord) -> dict[str, Any]:
    """One result object."""
    return {
        "kind": record.kind,
        "form": record.form,
        "run_key": record.run_key,
        "engine": record.engine,
        "revision": record.revision,
        "state": record.state.value,
        "reason": record.reason,
        "current": record.current,
        "refusal": record.refusal,
        "sop_class_uid": record.sop_class_uid,
        "series_instance_uid": record.series_instance_uid,
        "sop_instance_uid": record.sop_instance_uid,
    }


def delivery(record: DeliveryRecord) -> dict[str, Any]:
    """One result set, or originals, on the way to one destination."""
    return {
        "delivery_id": record.delivery_id,
        "run_key": record.run_key,
        "form": record.form,
        "counts": dict(Counter(item.state.value for item in record.items)),
        "destination": record.destination,
        "state": record.state.value,
        "reason": record.reason,
        "attempts": record.attempts,
        "next_attempt_at": moment(record.next_attempt_at),
        "ended_at": moment(record.ended_at),
        "items": [
            {
                "kind": item.kind,
                "sop_instance_uid": item.sop_instance_uid,
                "state": item.state.value,
                "status": None if item.status is None else f"0x{item.status:04X}",
                "reason": item.reason,
                "accepted_at": moment(item.accepted_at),
                "transfer_syntax_uid": item.transfer_syntax_uid or None,
            }
            for item in record.items
        ],
    }


def held_correction(variant: VariantRecord) -> dict[str, Any]:
    """One correction that waits for a person."""
    return {
        "sop_instance_uid": variant.sop_instance_uid,
        "sha256": variant.sha256,
        "peer": variant.peer,
        "reason": variant.reason,
        "received_at": moment(variant.received_at),
    }


def note(said: Note) -> dict[str, Any]:
    """One Key Object Selection from a peer."""
    return {
        "sop_instance_uid": said.sop_instance_uid,
        "title": said.title,
        "state": said.state.value,
        "reason": said.reason,
        "peer": said.peer,
        "received_at": moment(said.received_at),
    }


def retraction(taken: Retraction) -> dict[str, Any]:
    """The results of one run, taken back."""
    return {
        "run_key": taken.run_key,
        "title": taken.title,
        "said": taken.said,
        "asked_by": taken.asked_by,
        "asked_at": moment(taken.asked_at),
    }


def ledger(said: Account) -> dict[str, Any]:
    """The account of everything that is kept."""
    return {
        "counts": {subject: dict(states) for subject, states in said.counts.items()},
        "oldest": {
            subject: {state: moment(at) for state, at in states.items()} for subject, states in said.oldest.items()
        },
        "unexplained": [vars(each) for each in said.unexplained],
    }


def refused(caller: RefusedCaller) -> dict[str, Any]:
    """One caller that was not let in, with the line that lets it in."""
    return {
        "calling_ae_title": caller.calling_ae_title,
        "called_ae_title": caller.called_ae_title,
        "host": caller.host,
        "reason": caller.reason,
        "count": caller.count,
        "last_at": moment(caller.last_at),
    }
