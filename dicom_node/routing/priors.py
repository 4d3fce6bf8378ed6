"""Which earlier studies are relevant, and what of them is fetched. Pure: what peers answered is an argument."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from configs.routes import PriorsWanted
from storage.header import is_uid
from storage.records import StudyRecord


@dataclass(frozen=True)
class FoundStudy:
    """One study that a peer has."""

    study_instance_uid: str
    patient_id: str
    issuer_of_patient_id: str
    study_date: str
    modalities: tuple[str, ...]


@dataclass(frozen=True)
class FoundSeries:
    """One series of it."""

    series_instance_uid: str
    modality: str
    body_part: str
    images: int


def relevant(
    found: Sequence[FoundStudy], study: StudyRecord, issuer: str, wanted: PriorsWanted, today: date
) -> list[FoundStudy]:
    """Give the studies of the same patient that a rule asks for, the latest first.

    Peers take `*` and `?` in a Patient ID for wildcards, and some match part of it: each answer is compared.
    """
    of = _date(study.study_date) or today
    oldest = of - timedelta(days=wanted.within_days)
    fitting = [
        each
        for each in found
        if is_uid(each.study_instance_uid)
        and each.study_instance_uid != study.study_instance_uid
        and each.patient_id.strip() == study.patient_id.strip()
        and (not issuer or not each.issuer_of_patient_id or issuer == each.issuer_of_patient_id)
        and (on := _date(each.study_date)) is not None
        and oldest <= on <= of
        and set(each.modalities) & set(wanted.modalities)
    ]
    fitting.sort(key=lambda each: (each.study_date, each.study_instance_uid), reverse=True)
    return list({each.study_instance_uid: each for each in fitting}.values())[: wanted.studies]


def series_to_fetch(
    found: Sequence[FoundSeries], here: Mapping[str, int], body_parts: Collection[str], wanted: PriorsWanted
) -> tuple[list[FoundSeries], int]:
    """Give the series of one earlier study that are fetched, and how many are left out for their size.

    Parameters
    ----------
    here
        Series Instance UID → instances that are kept already.
    body_parts
        Body Part Examined of the study that asks.
    """
    chosen: list[FoundSeries] = []
    left_out, images = 0, 0
    for each in found:
        other_part = wanted.same_body_part and each.body_part not in body_parts
        if not is_uid(each.series_instance_uid) or each.modality not in wanted.modalities or other_part:
            continue
        if here.get(each.series_instance_uid, 0) >= max(1, each.images):
            continue
        if images + each.images > wanted.instances:
            left_out += 1
            continue
        images += each.images
        chosen.append(each)
    return chosen, left_out


def _date(text: str) -> date | None:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8])) if len(text) == 8 else None
    except ValueError:
        return None
