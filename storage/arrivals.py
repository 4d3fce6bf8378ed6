"""What the index writes when instances arrive, inside one transaction for many of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any

from sqlalchemy import BindParameter, Column, ColumnElement, Connection, Integer, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql import Executable

from storage import ledger
from storage.correction_tables import rejection_notes
from storage.header import INSTANCE_KEYWORDS, SERIES_KEYWORDS, STUDY_KEYWORDS, Header, fold
from storage.prepared import Prepared, stamp
from storage.records import (
    InstanceRole,
    InstanceState,
    Kept,
    NoteState,
    Origin,
    OriginKind,
    Outcome,
    StudyState,
    VariantState,
)
from storage.results import note_kept
from storage.roles import role_of
from storage.tables import contributions, instances, json_pending, results, series, studies, variants

#: Source: PS3.4 B.5.
_KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"


@dataclass(frozen=True)
class Arrival:
    """One instance whose file is placed and whose row is not yet written."""

    header: Header
    origin: Origin
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    path: str
    size: int
    sha256: str
    received_at: datetime

    @cached_property
    def role(self) -> InstanceRole:
        """What it is to the node, unless a result of ours has its UID."""
        return InstanceRole.RESULT if self.origin.kind is OriginKind.OURS else role_of(self.header)

    @cached_property
    def row(self) -> dict[str, Any]:
        """Its row in the index, but for its role."""
        return _row(self)

    def answer(self, outcome: Outcome, role: InstanceRole, path: str) -> Kept:
        """Say what keeping it came to."""
        names = (self.study_instance_uid, self.series_instance_uid, self.sop_instance_uid)
        return Kept(outcome, role, *names, path=path, sha256=self.sha256)


#: An arrival that is not kept yet, and what it is to the node.
_New = tuple[Arrival, InstanceRole]


@dataclass(frozen=True)
class _Known:
    """What is kept under a SOP Instance UID."""

    sha256: str
    transfer_syntax_uid: str
    path: str
    role: InstanceRole


def record_arrivals(connection: Connection, arrivals: Sequence[Arrival]) -> list[Kept]:
    """Write rows for what is new and say, in order, what each came to.

    The same instance again adds nothing; other bytes under a kept UID go to the side store, and what is kept
    stays as it is.
    """
    known = _known(connection, arrivals)
    ours = _reserved_results(connection, arrivals)
    answers: list[Kept] = []
    new: list[_New] = []
    for arrival in arrivals:
        there = known.get(arrival.sop_instance_uid)
        if there is None:
            role = _role(arrival, ours)
            new.append((arrival, role))
            known[arrival.sop_instance_uid] = _Known(arrival.sha256, arrival.transfer_syntax_uid, arrival.path, role)
            answers.append(arrival.answer(Outcome.KEPT, role, arrival.path))
        elif (there.sha256, there.transfer_syntax_uid) == (arrival.sha256, arrival.transfer_syntax_uid):
            answers.append(arrival.answer(Outcome.ALREADY_KEPT, there.role, there.path))
        else:
            answers.append(_set_aside(connection, arrival, there, new))
            new = []
    _add(connection, new)
    return answers


def point_to(connection: Connection, arrival: Arrival, missing: str) -> bool:
    """Have an instance or a variant refer to the arrival's file in place of one that is missing; False: it does not."""
    changed = 0
    # The copy came from elsewhere: its File Meta may be longer or shorter.
    former = select(instances.c.size).where(instances.c.path == missing, _is_it(arrival))
    if (size := connection.execute(former).scalar_one_or_none()) is not None:
        more = studies.c.size_bytes + arrival.size - size
        of_study = studies.c.study_instance_uid == arrival.study_instance_uid
        connection.execute(update(studies).where(of_study).values(size_bytes=more))
    for table in (instances, variants):
        same = (table.c.sop_instance_uid == arrival.sop_instance_uid, table.c.path == missing)
        values = {"path": arrival.path, "size": arrival.size}
        changed += connection.execute(update(table).where(*same).values(values)).rowcount
    return changed > 0


def _is_it(arrival: Arrival) -> ColumnElement[bool]:
    return instances.c.sop_instance_uid == arrival.sop_instance_uid


def _known(connection: Connection, arrivals: Sequence[Arrival]) -> dict[str, _Known]:
    uids = sorted({arrival.sop_instance_uid for arrival in arrivals})
    rows = _select_known(len(uids)).rows(connection, {f"uid_{n}": uid for n, uid in enumerate(uids)})
    return {
        row.sop_instance_uid: _Known(row.sha256, row.transfer_syntax_uid, row.path, InstanceRole(row.role))
        for row in rows
    }


@lru_cache(maxsize=64)
def _select_known(count: int) -> Prepared:
    """What is kept under any of so many UIDs."""
    key = instances.c.sop_instance_uid
    columns = (key, instances.c.sha256, instances.c.transfer_syntax_uid, instances.c.path, instances.c.role)
    return Prepared(lambda _: select(*columns).where(key.in_([bindparam(f"uid_{n}") for n in range(count)])))


def _reserved_results(connection: Connection, arrivals: Sequence[Arrival]) -> frozenset[str]:
    """UIDs among the arrivals that results of ours have, also where the result is not kept yet."""
    documents = (arrival for arrival in arrivals if arrival.role is InstanceRole.DOCUMENT)
    uids = {arrival.sop_instance_uid for arrival in documents}
    if not uids:
        return frozenset()
    rows = connection.execute(select(results.c.sop_instance_uid).where(results.c.sop_instance_uid.in_(uids)))
    return frozenset(rows.scalars())


def _role(arrival: Arrival, ours: frozenset[str]) -> InstanceRole:
    return InstanceRole.RESULT if arrival.sop_instance_uid in ours else arrival.role


def _set_aside(connection: Connection, arrival: Arrival, there: _Known, before: Sequence[_New]) -> Kept:
    """Keep other bytes under a kept UID in the side store; the rows of earlier arrivals come first."""
    _add(connection, before)
    key = (arrival.sop_instance_uid, arrival.sha256, arrival.transfer_syntax_uid)
    row = connection.execute(
        select(variants.c.path).where(
            variants.c.sop_instance_uid == key[0],
            variants.c.sha256 == key[1],
            variants.c.transfer_syntax_uid == key[2],
        )
    ).one_or_none()
    if row is not None:
        return arrival.answer(Outcome.SET_ASIDE, there.role, row.path)
    state, reason = VariantState.UNCLASSED, "other bytes under a kept SOP Instance UID"
    if there.role is InstanceRole.RESULT:
        state, reason = VariantState.NOTED, "a peer's copy of a result of ours with other bytes; ours stays"
    connection.execute(
        insert(variants).values(
            sop_instance_uid=key[0],
            sha256=key[1],
            transfer_syntax_uid=key[2],
            path=arrival.path,
            size=arrival.size,
            state=state.value,
            reason=reason,
            received_at=arrival.received_at,
            peer=arrival.origin.peer,
            calling_ae_title=arrival.origin.calling_ae_title,
            host=arrival.origin.host,
        )
    )
    ledger.begin(connection, key, state, reason=reason, at=arrival.received_at)
    return arrival.answer(Outcome.SET_ASIDE, there.role, arrival.path)


def _add(connection: Connection, new: Sequence[_New]) -> None:
    """Write what is new: each statement once for all, the studies in one order for all writers."""
    if not new:
        return
    by_study: dict[str, list[_New]] = {}
    for each in sorted(new, key=_study_of):
        by_study.setdefault(each[0].study_instance_uid, []).append(each)
    rows = _studies_of(connection, by_study)
    new_series = _add_series(connection, new)
    _INSERT_INSTANCE.change_many(connection, [instance_values(arrival, role) for arrival, role in new])
    INSERT_PENDING.change_many(connection, [{"sop_instance_uid": arrival.sop_instance_uid} for arrival, _ in new])
    changes = [_study_change(connection, rows[uid], group, new_series[uid]) for uid, group in by_study.items()]
    _UPDATE_STUDY.change_many(connection, changes)
    note_contributions(connection, _inputs(new))
    _note_selections(connection, new)
    if results_kept := [arrival for arrival, role in new if role is InstanceRole.RESULT]:
        uids = [arrival.sop_instance_uid for arrival in results_kept]
        note_kept(connection, uids, max(arrival.received_at for arrival in results_kept))


def _study_of(new: _New) -> str:
    return new[0].study_instance_uid


def _inputs(new: Sequence[_New]) -> list[Arrival]:
    return [arrival for arrival, role in new if role is InstanceRole.INPUT]


def _studies_of(connection: Connection, by_study: Mapping[str, Sequence[_New]]) -> dict[str, Any]:
    """Give the row of each study, locked, those of new ones written."""
    found = _select_studies(len(by_study)).rows(connection, {f"uid_{n}": uid for n, uid in enumerate(by_study)})
    rows = {row.study_instance_uid: row for row in found}
    for uid, group in by_study.items():
        if uid not in rows:
            inputs = _inputs(group)
            rows[uid] = _begin_study(connection, uid, group[0][0], inputs[0] if inputs else None)
    return rows


def _begin_study(connection: Connection, uid: str, first: Arrival, first_input: Arrival | None) -> Any:
    state = StudyState.GATHERING if first_input else StudyState.DOCUMENTS
    reason = "first image arrived" if first_input else "nothing to analyse arrived yet"
    at = first.received_at
    values = study_values((first_input or first).header) | {
        "study_instance_uid": uid,
        "state": state.value,
        "reason": reason,
        "state_since": at,
        "first_received_at": at,
        "gathering_since": at,
        "last_instance_at": at,
    }
    connection.execute(insert(studies).values(values))
    ledger.begin(connection, uid, state, reason=reason, at=at)
    (row,) = _select_studies(1).rows(connection, {"uid_0": uid})
    return row


def study_values(header: Header) -> dict[str, Any]:
    """What a study's row says of patient and study, as one of its instances has it."""
    return {
        "patient_name": header.text("PatientName"),
        "patient_name_folded": fold(header.text("PatientName")),
        "patient_id": header.text("PatientID"),
        "issuer_of_patient_id": header.text("IssuerOfPatientID"),
        "patient_birth_date": header.text("PatientBirthDate")[:64],
        "patient_sex": header.text("PatientSex")[:64],
        "study_date": header.text("StudyDate")[:64],
        "study_time": header.text("StudyTime")[:64],
        "accession_number": header.text("AccessionNumber"),
        "study_id": header.text("StudyID"),
        "study_description": header.text("StudyDescription"),
        "referring_physician_name": header.text("ReferringPhysicianName"),
        "attributes": header.json(STUDY_KEYWORDS),
    }


def _study_change(connection: Connection, row: Any, new: Sequence[_New], new_series: int) -> dict[str, Any]:
    """Give the new values of a study's row."""
    inputs = _inputs(new)
    modalities = set(filter(None, row.modalities.split("\\"))) | set(_modalities(new))
    values: dict[str, Any] = {
        "uid": row.study_instance_uid,
        "modalities": "\\".join(sorted(modalities)),
        "number_of_series": row.number_of_series + new_series,
        "number_of_instances": row.number_of_instances + len(new),
        "number_of_inputs": row.number_of_inputs + len(inputs),
        "size_bytes": row.size_bytes + sum(arrival.size for arrival, _ in new),
        "input_version": row.input_version + len(inputs),
        "last_instance_at": row.last_instance_at,
    }
    if inputs:
        values["last_instance_at"] = stamp(max(arrival.received_at for arrival in inputs))
        _begin_again(connection, row, inputs)
    return values


def _begin_again(connection: Connection, row: Any, inputs: Sequence[Arrival]) -> None:
    """Have a study gather that did not, and be described by an input that was described by a document."""
    values: dict[str, Any] = {}
    if row.number_of_inputs == 0 and row.number_of_instances:
        values |= study_values(inputs[0].header)
    state = StudyState(row.state)
    if state not in (StudyState.GATHERING, StudyState.QUARANTINED):
        count = f"{len(inputs)} image" + ("s" if len(inputs) > 1 else "")
        reason = f"late: {count} after decision {row.decision_number}" if row.decision_number else "first image arrived"
        at = max(arrival.received_at for arrival in inputs)
        ledger.move(connection, row.study_instance_uid, StudyState.GATHERING, reason=reason, at=at)
        values["gathering_since"] = min(arrival.received_at for arrival in inputs)
    if values:
        connection.execute(update(studies).where(studies.c.study_instance_uid == row.study_instance_uid).values(values))


def _modalities(new: Sequence[_New]) -> Iterable[str]:
    return (modality for arrival, _ in new if (modality := arrival.header.text("Modality")))


def _add_series(connection: Connection, new: Sequence[_New]) -> dict[str, int]:
    """Write or raise the rows of the series; give how many are new in each study."""
    groups: dict[tuple[str, str], list[_New]] = {}
    for each in new:
        groups.setdefault((each[0].study_instance_uid, each[0].series_instance_uid), []).append(each)
    more = {
        (study, uid): {"study": study, "series": uid, "instances": len(group), "inputs": len(_inputs(group))}
        for (study, uid), group in sorted(groups.items())
    }
    added = dict.fromkeys((study for study, _ in groups), 0)
    if RAISE_SERIES.change_many(connection, list(more.values())) == len(more):
        return added
    of_studies = select(series.c.study_instance_uid, series.c.series_instance_uid).where(
        series.c.study_instance_uid.in_(added)
    )
    there = {(row.study_instance_uid, row.series_instance_uid) for row in connection.execute(of_studies)}
    for key, counts in more.items():
        if key not in there:
            connection.execute(insert(series).values(_series_values(groups[key][0][0], counts)))
            added[key[0]] += 1
    return added


def _series_values(first: Arrival, counts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "study_instance_uid": first.study_instance_uid,
        "series_instance_uid": first.series_instance_uid,
        "modality": first.header.text("Modality")[:32],
        "series_number": _in_range(first.header.number("SeriesNumber")),
        "series_description": first.header.text("SeriesDescription"),
        "attributes": first.header.json(SERIES_KEYWORDS),
        "number_of_instances": counts["instances"],
        "number_of_inputs": counts["inputs"],
        "first_received_at": first.received_at,
    }


def instance_values(arrival: Arrival, role: InstanceRole) -> dict[str, Any]:
    """Give the row of a new instance."""
    return {**arrival.row, "role": role.value}


def _row(arrival: Arrival) -> dict[str, Any]:
    header, origin = arrival.header, arrival.origin
    return {
        "sop_instance_uid": arrival.sop_instance_uid,
        "study_instance_uid": arrival.study_instance_uid,
        "series_instance_uid": arrival.series_instance_uid,
        "sop_class_uid": arrival.sop_class_uid,
        "transfer_syntax_uid": arrival.transfer_syntax_uid,
        "instance_number": _in_range(header.number("InstanceNumber")),
        "number_of_frames": _in_range(header.number("NumberOfFrames")) or 1,
        "attributes": header.json(INSTANCE_KEYWORDS),
        "patient": header.patient(),
        "state": InstanceState.FOLLOWS_STUDY.value,
        "reason": "",
        "path": arrival.path,
        "size": arrival.size,
        "sha256": arrival.sha256,
        "received_at": stamp(arrival.received_at),
        "origin_kind": origin.kind.value,
        "peer": origin.peer,
        "calling_ae_title": origin.calling_ae_title,
        "called_ae_title": origin.called_ae_title,
        "host": origin.host,
        "association_id": origin.association_id,
    }


def _in_range(number: int | None) -> int | None:
    """Drop a number that no 32-bit column holds."""
    return number if number is not None and -(2**31) <= number < 2**31 else None


def _note_selections(connection: Connection, new: Sequence[_New]) -> None:
    """Have Key Object Selections of peers be read: one may reject other instances."""
    for arrival, role in new:
        if arrival.sop_class_uid != _KEY_OBJECT_SELECTION or role is not InstanceRole.DOCUMENT:
            continue
        uid, at = arrival.sop_instance_uid, arrival.received_at
        connection.execute(
            insert(rejection_notes).values(
                sop_instance_uid=uid,
                study_instance_uid=arrival.study_instance_uid,
                state=NoteState.UNREAD.value,
                peer=arrival.origin.peer,
                received_at=at,
            )
        )
        ledger.begin(connection, uid, NoteState.UNREAD, reason="", at=at)


def note_contributions(connection: Connection, inputs: Sequence[Arrival]) -> None:
    """Note, once for each association, who brought inputs of each study."""
    noted: dict[tuple[str, str], dict[str, Any]] = {}
    for arrival in inputs:
        origin = arrival.origin
        association_id = origin.association_id or f"{origin.kind.value}:{origin.peer or origin.host}"[:64]
        noted[arrival.study_instance_uid, association_id] = {
            "study_instance_uid": arrival.study_instance_uid,
            "association_id": association_id,
            "peer": origin.peer,
            "calling_ae_title": origin.calling_ae_title,
            "called_ae_title": origin.called_ae_title,
            "host": origin.host,
            "last_instance_at": stamp(arrival.received_at),
        }
    if noted:
        _UPSERT_CONTRIBUTION.change_many(connection, list(noted.values()))


def open_values(columns: Iterable[Column[Any]]) -> dict[str, BindParameter[Any]]:
    """Leave the values of columns open, under the columns' names."""
    return {column.name: bindparam(column.name) for column in columns}


def _upsert_contribution(dialect: str) -> Executable:
    make = postgresql.insert if dialect == "postgresql" else sqlite.insert
    key = [contributions.c.study_instance_uid, contributions.c.association_id]
    statement = make(contributions).values(open_values(contributions.c))
    return statement.on_conflict_do_update(
        index_elements=key, set_={"last_instance_at": statement.excluded.last_instance_at}
    )


@lru_cache(maxsize=64)
def _select_studies(count: int) -> Prepared:
    """The rows of so many studies, locked in the order of their UIDs."""
    uid = studies.c.study_instance_uid
    columns = (
        *(uid, studies.c.state, studies.c.modalities, studies.c.decision_number),
        *(studies.c.number_of_series, studies.c.number_of_instances, studies.c.number_of_inputs),
        *(studies.c.input_version, studies.c.size_bytes, studies.c.last_instance_at),
    )
    these = uid.in_([bindparam(f"uid_{n}") for n in range(count)])
    return Prepared(lambda _: select(*columns).where(these).order_by(uid).with_for_update())


_UPDATE_STUDY = Prepared(
    lambda _: (
        update(studies)
        .where(studies.c.study_instance_uid == bindparam("uid"))
        .values(
            open_values(
                (
                    *(studies.c.modalities, studies.c.number_of_series, studies.c.number_of_instances),
                    *(studies.c.number_of_inputs, studies.c.input_version, studies.c.size_bytes),
                    studies.c.last_instance_at,
                )
            )
        )
    )
)
RAISE_SERIES = Prepared(
    lambda _: (
        update(series)
        .where(series.c.study_instance_uid == bindparam("study"), series.c.series_instance_uid == bindparam("series"))
        .values(
            number_of_instances=series.c.number_of_instances + bindparam("instances", type_=Integer),
            number_of_inputs=series.c.number_of_inputs + bindparam("inputs", type_=Integer),
        )
    )
)
_INSERT_INSTANCE = Prepared(lambda _: insert(instances).values(open_values(instances.c)))
INSERT_PENDING = Prepared(lambda _: insert(json_pending).values(open_values([json_pending.c.sop_instance_uid])))
_UPSERT_CONTRIBUTION = Prepared(_upsert_contribution)
