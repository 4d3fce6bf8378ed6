"""Results taken back: found by what they were made from, and told to who got them by a rejection note."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from pydicom import Dataset

from dicom_node.worker.keeping import run_of
from dicom_node.worker.parts import WorkerParts
from dicom_node.worker.revisions import RunFacts
from dicom_node.worker.sources import headers_of
from inference.results.build import build_rejection, encode
from inference.results.key_objects import Rejection
from storage.errors import NotKept
from storage.records import (
    DeliveryItem,
    DeliveryRecord,
    FindingsRecord,
    ItemState,
    JobState,
    Origin,
    OriginKind,
    ResultRecord,
)
from storage.retractions import Retraction, Retractions, SourceChange
from storage.visibility import NOTE_FORM, is_note

log = logging.getLogger(__name__)

#: Reasons by the value of their code. Source: PS3.16 CID 7011.
REASONS: Mapping[str, Rejection] = {why.value.value: why for why in Rejection}


def judge(change: SourceChange, node: WorkerParts, retractions: Retractions) -> bool:
    """Take back the results that were made from images which a change concerns; False: a job must end first."""
    uid = change.study_instance_uid
    if any(job.state is JobState.RUNNING for job in node.job_book.jobs_of(uid)):
        return False
    digests = node.index.digests_of(uid)
    affected = [key for key in retractions.run_keys_of(uid) if _is_affected(key, digests, node)]
    taken = retractions.settle(change, affected, node.now())
    if taken:
        facts = {"action": "results_retracted", "study_instance_uid": uid, "runs": taken, "title": change.title}
        log.warning("results were taken back: what they were made from has changed", extra=facts)
    return True


def _is_affected(run_key: str, digests: Mapping[str, str], node: WorkerParts) -> bool:
    """Tell whether an image of a run is another one now, or counts no more."""
    record = node.findings.of(run_key)
    if record is None:
        return False
    inputs = RunFacts.from_json(record.facts).inputs
    return any(digests.get(uid) != digest for uid, digest in inputs.items())


def tell(retraction: Retraction, node: WorkerParts, retractions: Retractions) -> bool:
    """Have everybody who may have got results of a run get a note that takes back what they got; tell whether any."""
    record = node.findings.of(retraction.run_key)
    if record is None:
        raise NotKept("the findings of retracted results are missing", run_key=retraction.run_key)
    told = False
    for uids, deliveries in _by_objects(retraction, node).items():
        kept = [headers_of(node.blobs, [node.index.instance(uid)])[0] for uid in uids]
        note, form = _keep_note(retraction, record, kept, node)
        node.deliveries.ask_for(
            deliveries[0].job_id,
            record.run_key,
            form,
            record.study_instance_uid,
            [(note, "key-objects")],
            [each.destination for each in deliveries],
            not_before=node.now(),
            at=node.now(),
        )
        told = True
    retractions.noted(retraction.run_key, node.now())
    return told


def _by_objects(retraction: Retraction, node: WorkerParts) -> dict[tuple[str, ...], list[DeliveryRecord]]:
    """Group destinations by what they may have got; who asked for the rejection knows of it."""
    got: dict[tuple[str, ...], list[DeliveryRecord]] = {}
    for delivery in node.deliveries.of_study(retraction.study_instance_uid):
        ours = delivery.run_key == retraction.run_key and not is_note(delivery.form)
        if ours and delivery.destination != retraction.asked_by and (uids := tuple(_may_have(delivery))):
            got.setdefault(uids, []).append(delivery)
    return got


def _may_have(delivery: DeliveryRecord) -> Iterator[str]:
    """Give what a destination took, and what an attempt may have left there without an answer."""
    for item in delivery.items:
        if item.state is ItemState.ACCEPTED or _was_tried(delivery, item):
            yield item.sop_instance_uid


def _was_tried(delivery: DeliveryRecord, item: DeliveryItem) -> bool:
    return item.state is ItemState.WAITING and delivery.attempts > 0


def _keep_note(
    retraction: Retraction, record: FindingsRecord, objects: Sequence[Dataset], node: WorkerParts
) -> tuple[str, str]:
    """Build and keep one note; give its SOP Instance UID and its form. The same retraction gives the same note."""
    run = replace(run_of(record, node), analysed_at=retraction.asked_at)
    why = REASONS.get(retraction.title, Rejection.QUALITY)
    # Whose they are is what the objects say, right or wrong: a receiver looks for them there.
    note = build_rejection(objects, why, retraction.said, objects[0], run, node.identity)
    uid = str(note.dataset.SOPInstanceUID)
    form = f"{NOTE_FORM}{uid.rpartition('.')[2][-16:]}"
    node.results.reserve(
        [
            ResultRecord(
                run_key=record.run_key,
                form=form,
                kind="key-objects",
                study_instance_uid=record.study_instance_uid,
                series_instance_uid=str(note.dataset.SeriesInstanceUID),
                sop_instance_uid=uid,
                sop_class_uid=str(note.dataset.SOPClassUID),
                engine=record.engine,
                revision=record.revision,
                refusal=False,
                current=False,
            )
        ]
    )
    node.intake.receive(io.BytesIO(encode(note)), Origin(OriginKind.OURS))
    log.info("rejection note kept", extra={"action": "note_kept", "sop_instance_uid": uid})
    return uid, form
