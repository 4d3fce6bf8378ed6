"""Patients, found through their studies: one for each (Patient ID, Issuer of Patient ID).

Source: PS3.4 C.6.1.1.2 (patient level).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from sqlalchemy import Row, Select, func, select

from storage.matching import Level, Matcher, Query, name_of
from storage.records import StudyFilter
from storage.search import SearchAnswer, conditions_of
from storage.tables import studies
from storage.visibility import may_see, unlisted_instances_in_study, unlisted_series_in_study

PATIENT_KEYWORDS = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")
_COUNTS = {
    "00201200": "studies_of_patient",
    "00201202": "series_of_patient",
    "00201204": "instances_of_patient",
}
_TAGS = frozenset(tag for word in PATIENT_KEYWORDS if (tag := tag_for_keyword(word)) is not None)


def known_of_patients() -> frozenset[int]:
    """Give the tags that a match can be asked for."""
    return _TAGS | {int(name, 16) for name in _COUNTS}


def patients_statement(query: Query, visible: StudyFilter, *, dialect: str) -> tuple[Select[Any], tuple[str, ...]]:
    """Turn a query into one statement; also name what is not matched at this level.

    A patient looks as in the study that is latest by date.

    Raises
    ------
    MalformedQuery
        A value cannot be matched as its attribute asks.
    """
    known = tuple(key for key in query.keys if key.path[0] in _TAGS)
    matcher = Matcher(dialect, fuzzy=query.fuzzy)
    conditions, unmatched = conditions_of(Level.STUDY, Query(known), matcher)
    patient = (studies.c.patient_id, studies.c.issuer_of_patient_id)
    latest = (studies.c.study_date.desc(), studies.c.study_time.desc(), studies.c.study_instance_uid)
    ranked = (
        select(
            *patient,
            studies.c.attributes,
            func.row_number().over(partition_by=patient, order_by=latest).label("place"),
            func.count().over(partition_by=patient).label("studies_of_patient"),
            func.sum(studies.c.number_of_series - unlisted_series_in_study())
            .over(partition_by=patient)
            .label("series_of_patient"),
            func.sum(studies.c.number_of_instances - unlisted_instances_in_study())
            .over(partition_by=patient)
            .label("instances_of_patient"),
        )
        .where(*conditions, may_see(visible, studies.c.study_instance_uid))
        .subquery()
    )
    statement = (
        select(ranked)
        .where(ranked.c.place == 1)
        .order_by(ranked.c.patient_id, ranked.c.issuer_of_patient_id)
        .limit(None if query.limit is None else query.limit + 1)
        .offset(query.offset)
    )
    from_elsewhere = tuple(name_of(key.path) for key in query.keys if key.path[0] not in _TAGS)
    return statement, (*unmatched, *from_elsewhere)


def patients_answer(query: Query, rows: Sequence[Row[Any]], unsupported: tuple[str, ...]) -> SearchAnswer:
    """Turn rows into DICOM JSON."""
    limit = len(rows) if query.limit is None else query.limit
    return SearchAnswer([_match(row) for row in rows[:limit]], more=len(rows) > limit, unsupported=unsupported)


def _match(row: Row[Any]) -> dict[str, Any]:
    kept = json.loads(row.attributes)
    found: dict[str, Any] = {}
    for tag in sorted(_TAGS):
        name = f"{tag:08X}"
        found[name] = kept.get(name) or {"vr": dictionary_VR(tag)}
    for name, column in _COUNTS.items():
        found[name] = {"vr": "IS", "Value": [int(row._mapping[column])]}
    return found
