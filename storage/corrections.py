"""Corrections applied: other bytes of the same image, of another identity, become the current ones.

What was current stays in the side store. The study is decided on anew, and results made from the former bytes are
to be taken back.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from storage import ledger, tables
from storage.arrivals import study_values
from storage.blobs import BlobStore
from storage.database import Database
from storage.errors import Inapplicable, NotKept
from storage.header import INSTANCE_KEYWORDS, SERIES_KEYWORDS, Header, read_header
from storage.part10 import read_file_meta
from storage.records import InstanceRole, InstanceState, StudyState, VariantRecord, VariantState
from storage.retractions import note_change

#: Code value of Incorrect Modality Worklist Entry: the images were filed under another patient or order.
WRONG_ENTRY = "113038"

#: States in which a study is decided on: a change of its images has it gather again.
_DECIDED = (
    StudyState.ANALYSING,
    StudyState.WAITING_FOR_ENGINE,
    StudyState.UNMATCHED,
    StudyState.ANSWERED,
    StudyState.DECLINED,
    StudyState.FAILED,
    StudyState.QUARANTINED,
)


class Corrections:
    """Makes corrections that wait in the side store."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    def held(self, study_instance_uid: str) -> list[VariantRecord]:
        """Give the corrections of a study that wait for a person, the oldest first."""
        variants, instances = tables.variants, tables.instances
        wanted = (
            select(variants)
            .join(instances, instances.c.sop_instance_uid == variants.c.sop_instance_uid)
            .where(instances.c.study_instance_uid == study_instance_uid, variants.c.state == VariantState.HELD)
            .order_by(variants.c.received_at, variants.c.sop_instance_uid)
        )
        with self._database.read() as connection:
            rows = connection.execute(wanted).all()
        return [VariantRecord(**{**row._mapping, "state": VariantState(row.state)}) for row in rows]

    def apply(self, variant: VariantRecord, *, by: str, at: datetime) -> None:
        """Have the bytes of a variant be the current ones of their instance.

        Raises
        ------
        Inapplicable
            They are of another study or series, or the instance is a result of this node.
        NotKept
            The variant is gone, or current already.
        """
        header = self._header(variant)
        with self._database.write() as connection:
            instance = _locked_instance(connection, variant.sop_instance_uid)
            row = _variant(connection, variant)
            _check(instance, header)
            ledger.move(connection, _key(row), VariantState.APPLIED, reason=f"Applied by {by}.", at=at)
            connection.execute(delete(tables.variants).where(*_is(row)))
            _keep_former(connection, instance, by, at)
            _change_instance(connection, instance, row, header)
            if instance.role == InstanceRole.INPUT and instance.state == InstanceState.FOLLOWS_STUDY:
                said = "An image that it was made from was filed under another identity and was corrected."
                note_change(connection, instance.study_instance_uid, WRONG_ENTRY, said, by=by, at=at)
                gather_again(connection, instance.study_instance_uid, "an image was corrected", at)

    def refuse(self, variant: VariantRecord, *, by: str, at: datetime) -> None:
        """Have a correction not be made."""
        key = (variant.sop_instance_uid, variant.sha256, variant.transfer_syntax_uid)
        with self._database.write() as connection:
            ledger.move(connection, key, VariantState.NOTED, reason=f"Refused by {by}; the first stays.", at=at)

    def _header(self, variant: VariantRecord) -> Header:
        with self._blobs.open(variant.path) as file:
            read_file_meta(file)
            begin = file.tell()
            with (
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
                memoryview(mapped) as view,
                view[begin:] as whole,
            ):
                return read_header(whole, len(whole), variant.transfer_syntax_uid)


def gather_again(connection: Connection, study_instance_uid: str, why: str, at: datetime) -> None:
    """Have a study be decided on anew, inside the transaction that changes what counts of it."""
    studies = tables.studies
    this = studies.c.study_instance_uid == study_instance_uid
    row = connection.execute(select(studies).where(this).with_for_update()).one()
    values: dict[str, Any] = {"input_version": row.input_version + 1}
    if row.state in _DECIDED:
        ledger.move(connection, study_instance_uid, StudyState.GATHERING, reason=f"decided on anew: {why}", at=at)
        values["gathering_since"] = at
    if row.state in (*_DECIDED, StudyState.GATHERING):
        values["last_instance_at"] = max(at, row.last_instance_at)
    connection.execute(update(studies).where(this).values(values))


def _locked_instance(connection: Connection, sop_instance_uid: str) -> Row[Any]:
    """Give an instance, its study locked first, as who writes to studies does."""
    instances, studies = tables.instances, tables.studies
    wanted = select(instances).where(instances.c.sop_instance_uid == sop_instance_uid)
    row = connection.execute(wanted).one_or_none()
    if row is None:
        raise NotKept("No such instance is kept here.", sop_instance_uid=sop_instance_uid)
    lock = select(studies.c.state).where(studies.c.study_instance_uid == row.study_instance_uid)
    connection.execute(lock.with_for_update()).one()
    return connection.execute(wanted.with_for_update()).one()


def _key(row: Row[Any]) -> tuple[str, str, str]:
    return row.sop_instance_uid, row.sha256, row.transfer_syntax_uid


def _is(row: Row[Any] | VariantRecord) -> Sequence[Any]:
    columns = tables.variants.c
    return (
        columns.sop_instance_uid == row.sop_instance_uid,
        columns.sha256 == row.sha256,
        columns.transfer_syntax_uid == row.transfer_syntax_uid,
    )


def _variant(connection: Connection, variant: VariantRecord) -> Row[Any]:
    row = connection.execute(select(tables.variants).where(*_is(variant)).with_for_update()).one_or_none()
    if row is None:
        raise NotKept("There is no such correction.", sop_instance_uid=variant.sop_instance_uid)
    return row


def _check(instance: Row[Any], header: Header) -> None:
    if instance.role == InstanceRole.RESULT:
        raise Inapplicable("A result of this node is taken back, never changed.")
    named = (header.study_instance_uid, header.series_instance_uid)
    if named != (instance.study_instance_uid, instance.series_instance_uid):
        raise Inapplicable(
            "It is of another study or series: send it under a SOP Instance UID of its own, and reject the first."
        )


def _keep_former(connection: Connection, instance: Row[Any], by: str, at: datetime) -> None:
    """Put what was current into the side store."""
    reason = f"Current until a correction was applied by {by}."
    values: Mapping[str, Any] = {
        "sop_instance_uid": instance.sop_instance_uid,
        "sha256": instance.sha256,
        "transfer_syntax_uid": instance.transfer_syntax_uid,
        "path": instance.path,
        "size": instance.size,
        "state": VariantState.REPLACED.value,
        "reason": reason,
        "received_at": instance.received_at,
        "peer": instance.peer,
        "calling_ae_title": instance.calling_ae_title,
        "host": instance.host,
    }
    connection.execute(insert(tables.variants).values(values))
    ledger.begin(connection, _key(instance), VariantState.REPLACED, reason=reason, at=at)


def _change_instance(connection: Connection, instance: Row[Any], variant: Row[Any], header: Header) -> None:
    instances, series, studies = tables.instances, tables.series, tables.studies
    connection.execute(
        update(instances)
        .where(instances.c.sop_instance_uid == instance.sop_instance_uid)
        .values(
            path=variant.path,
            size=variant.size,
            sha256=variant.sha256,
            transfer_syntax_uid=variant.transfer_syntax_uid,
            attributes=header.json(INSTANCE_KEYWORDS),
            patient=header.patient(),
        )
    )
    connection.execute(
        update(series)
        .where(series.c.study_instance_uid == instance.study_instance_uid)
        .where(series.c.series_instance_uid == instance.series_instance_uid)
        .values(
            attributes=header.json(SERIES_KEYWORDS),
            modality=header.text("Modality")[:32],
            series_description=header.text("SeriesDescription"),
        )
    )
    grown = variant.size - instance.size
    connection.execute(
        update(studies)
        .where(studies.c.study_instance_uid == instance.study_instance_uid)
        .values({**study_values(header), "size_bytes": studies.c.size_bytes + grown})
    )
    pending = tables.json_pending
    known = select(pending.c.sop_instance_uid).where(pending.c.sop_instance_uid == instance.sop_instance_uid)
    if connection.execute(known).first() is None:
        connection.execute(insert(pending).values(sop_instance_uid=instance.sop_instance_uid))
