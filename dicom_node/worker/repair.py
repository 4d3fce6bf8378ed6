"""What is safe to repair of what an inspection found. Nothing that was acknowledged is ever removed."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from pydicom import Dataset
from sqlalchemy import func, insert, select, update

from configs.errors import NodeError
from configs.peers import Peer
from dicom_node.scu.find import find, identifier
from dicom_node.worker.keeping import Material, build_from
from dicom_node.worker.parts import WorkerParts
from inference.results.build import encode
from inference.results.forms import Form
from storage import tables
from storage.blobs import LocalBlobs
from storage.database import Database
from storage.deletion import delete_removed_files
from storage.errors import ForbiddenTransition
from storage.inspection import Fault, FaultKind, counts_of, findings_without_row
from storage.job_book import settle
from storage.jobs import MOST_STARTS, Queue
from storage.part10 import pass_file_meta
from storage.reconcile import take_in
from storage.records import DeliveryRecord, DeliveryState, InstanceRole, ItemState, Origin, OriginKind
from storage.visibility import is_note

log = logging.getLogger(__name__)

#: Deliveries that are looked for at their destinations at most, the latest first.
_MOST_LOOKED_FOR = 1000

Ask = Callable[[Peer, Dataset], Sequence[Dataset]]
"""Gives what a peer answers to an identifier at the IMAGE level."""


class Repairs:
    """Repairs faults, one after the other; says of each what was done, or why nothing was."""

    def __init__(self, database: Database, blobs: LocalBlobs, queue: Queue, node: WorkerParts) -> None:
        self._database = database
        self._blobs = blobs
        self._queue = queue
        self._node = node
        self._by_kind: Mapping[FaultKind, Callable[[Fault], str]] = {
            FaultKind.HALF_WRITTEN: self._sweep,
            FaultKind.ORPHAN: self._take_in,
            FaultKind.MISSING_FILE: self._build_again,
            FaultKind.WRONG_FILE: self._set_aside,
            FaultKind.FINDINGS_WITHOUT_ROW: self._remove_findings,
            FaultKind.NOT_DELETED: self._delete,
            FaultKind.MISSING_JSON: self._make_json,
            FaultKind.WRONG_COUNT: self._count,
            FaultKind.STUCK_JOB: self._job_again,
            FaultKind.STUCK_DELIVERY: self._delivery_again,
            FaultKind.UNSETTLED: self._settle,
            FaultKind.NOT_AT_DESTINATION: self._send_again,
        }

    def repair(self, fault: Fault) -> str:
        """Repair one fault; empty: it is left to a person, or cannot be repaired here."""
        work = self._by_kind.get(fault.kind)
        if work is None:
            return ""
        try:
            said = work(fault)
        except NodeError as error:
            log.warning(
                "fault not repaired", extra={"action": "repair_failed", "fault": fault.kind, "error": error.code}
            )
            return ""
        if said:
            facts = {"action": "repaired", "fault": fault.kind.value, "subject": fault.subject_id}
            log.warning("fault repaired", extra=facts)
        return said

    def _sweep(self, _: Fault) -> str:
        self._blobs.sweep()
        return "removed"

    def _take_in(self, fault: Fault) -> str:
        return f"entered again: {take_in(fault.subject_id, self._blobs, self._node.intake)}"

    def _set_aside(self, fault: Fault) -> str:
        """Let nobody get damaged bytes: the file goes aside, and a copy that comes again takes its place."""
        path = fault.why.split(" ", 1)[0]
        aside = self._blobs.set_aside(path)
        return f"set aside as {aside}; {self._build_again(fault) or 'it must be sent again'}"

    def _build_again(self, fault: Fault) -> str:
        """Build a result whose file is gone: the same bytes come out, or it stays missing."""
        instance = self._node.index.instance(fault.subject_id)
        if instance.role is not InstanceRole.RESULT or self._blobs.exists(instance.path):
            return ""
        for run_key, form in self._named(fault.subject_id):
            record = self._node.findings.of(run_key)
            if record is None or is_note(form):
                continue
            for result in build_from(Material(record, self._node), Form.of(form)):
                if str(result.dataset.SOPInstanceUID) == fault.subject_id:
                    return self._keep(encode(result), instance.sha256)
        return ""

    def _keep(self, part10: bytes, sha256: str) -> str:
        """Keep a result built again, if it is the same to the last bit."""
        file = io.BytesIO(part10)
        pass_file_meta(file)
        if hashlib.sha256(file.read()).hexdigest() != sha256:
            return ""
        self._node.intake.receive(io.BytesIO(part10), Origin(OriginKind.OURS))
        return "built again"

    def _named(self, sop_instance_uid: str) -> list[tuple[str, str]]:
        results = tables.results.c
        wanted = select(results.run_key, results.form).where(results.sop_instance_uid == sop_instance_uid)
        with self._database.read() as connection:
            return [(row.run_key, row.form) for row in connection.execute(wanted).all()]

    def _remove_findings(self, fault: Fault) -> str:
        # Looked at again: their row may have come since.
        if fault.subject_id not in set(findings_without_row(self._database, self._blobs, self._node.now())):
            return ""
        self._blobs.delete(fault.subject_id)
        return "removed"

    def _delete(self, _: Fault) -> str:
        delete_removed_files(self._database, self._blobs)
        return "deleted"

    def _make_json(self, fault: Fault) -> str:
        pending = tables.json_pending
        with self._database.write() as connection:
            known = select(pending.c.sop_instance_uid).where(pending.c.sop_instance_uid == fault.subject_id)
            if connection.execute(known).first() is None:
                connection.execute(insert(pending).values(sop_instance_uid=fault.subject_id))
        return "to be made"

    def _count(self, fault: Fault) -> str:
        studies, series, instances = tables.studies, tables.series, tables.instances
        this = studies.c.study_instance_uid == fault.subject_id
        with self._database.write() as connection:
            connection.execute(select(studies.c.state).where(this).with_for_update()).one()
            _, (count, inputs, size) = counts_of(connection, fault.subject_id)
            values = {"number_of_instances": count, "number_of_inputs": inputs, "size_bytes": size}
            connection.execute(update(studies).where(this).values(values))
            here = (
                instances.c.study_instance_uid == series.c.study_instance_uid,
                instances.c.series_instance_uid == series.c.series_instance_uid,
            )
            all_of = select(func.count()).select_from(instances).where(*here).scalar_subquery()
            inputs_of = (
                select(func.count())
                .select_from(instances)
                .where(*here, instances.c.role == InstanceRole.INPUT.value)
                .scalar_subquery()
            )
            connection.execute(
                update(series)
                .where(series.c.study_instance_uid == fault.subject_id)
                .values(number_of_instances=all_of, number_of_inputs=inputs_of)
            )
        return "counted again"

    def _job_again(self, fault: Fault) -> str:
        book, at = self._node.job_book, self._node.now()
        if fault.turn is None or not book.give_up(fault.turn, fault.why, at):
            return ""
        if book.job(fault.subject_id).attempts >= MOST_STARTS:
            return "failed: it was started too often"
        book.rerun(self._queue, fault.subject_id, at, reason="Asked for again: it was stuck.")
        return "asked for again"

    def _delivery_again(self, fault: Fault) -> str:
        at = self._node.now()
        if fault.turn is None or not self._node.deliveries.give_up(fault.turn, fault.why, at):
            return ""
        self._node.deliveries.ask_again(fault.subject_id, "Asked for again: it was stuck.", at)
        return "asked for again"

    def _settle(self, fault: Fault) -> str:
        studies = tables.studies.c
        with self._database.write() as connection:
            row = connection.execute(
                select(studies.decision_number).where(studies.study_instance_uid == fault.subject_id).with_for_update()
            ).one()
            settle(connection, fault.subject_id, row.decision_number, self._node.now())
        return "settled"

    def _send_again(self, fault: Fault) -> str:
        try:
            self._node.deliveries.ask_again(fault.subject_id, f"Sent again: {fault.why}", self._node.now())
        except ForbiddenTransition:
            return ""
        return "sent again"


def missing_elsewhere(node: WorkerParts, ask: Ask) -> list[Fault]:
    """Look for delivered results at their destinations: a success that was dropped is found.

    Who cannot be asked is passed over: not to know is no fault.
    """
    found = []
    for delivery in node.deliveries.by_state(
        [DeliveryState.DELIVERED, DeliveryState.CONFIRMED], limit=_MOST_LOOKED_FOR
    ):
        peer = node.peers.get(delivery.destination)
        if peer is None or peer.host is None or peer.port is None:
            continue
        try:
            absent = _absent(delivery, peer, ask)
        except NodeError as error:
            log.info("destination not asked", extra={"action": "destination_unasked", "error": error.code})
            continue
        if absent:
            said = f"{delivery.destination} does not have {absent} of {len(delivery.items)} instances."
            found.append(Fault(FaultKind.NOT_AT_DESTINATION, delivery.delivery_id, said))
    return found


def _absent(delivery: DeliveryRecord, peer: Peer, ask: Ask) -> int:
    """Count the instances that a destination took and does not have any more."""
    taken = {item.sop_instance_uid for item in delivery.items if item.state is ItemState.ACCEPTED}
    wanted = identifier("IMAGE", StudyInstanceUID=delivery.study_instance_uid, SeriesInstanceUID="", SOPInstanceUID="")
    there = {str(answer.get("SOPInstanceUID", "")) for answer in ask(peer, wanted)}
    return len(taken - there)


def ask_by_find(calling_ae_title: str) -> Ask:
    """Give the way to ask: C-FIND at the IMAGE level, Study Root. Source: PS3.4 C.6.2.1."""

    def ask(peer: Peer, wanted: Dataset) -> Sequence[Dataset]:
        return find(peer, calling_ae_title=peer.answer_as or calling_ae_title, identifier=wanted, most=100_000)

    return ask


#: A file whose row nobody can still be waiting to commit.
SETTLED_AFTER = timedelta(hours=1)
