"""What the model is told about the patient, out of the header and in the form in which it was trained."""

from __future__ import annotations

import re
from datetime import date

from pydicom import Dataset

from inference.engines.medversa.tasks import Modality

_SEX = {"M": ("M", "male"), "F": ("F", "female")}
_OLDEST_DECADE = 90


def context_of(header: Dataset, modality: Modality) -> str:
    """Context text; what the header does not say is left out. CT has none."""
    if modality is Modality.CT:
        return ""
    age, sex = age_years(header), _SEX.get(str(header.get("PatientSex") or "").upper())
    lines = []
    if modality is Modality.CXR:
        lines += [f"Age:{_decade(age)}."] if age is not None else []
        lines += [f"Gender:{sex[0]}."] if sex else []
        indication = indication_of(header)
        lines += [f"Indication: {indication.rstrip('.')}."] if indication else []
        lines.append("Comparison: None.")
    else:
        place = str(header.get("BodyPartExamined") or "").strip().lower()
        lines += [f"Age:{age}."] if age is not None else []
        lines += [f"Gender:{sex[1]}."] if sex else []
        lines += [f"Location:{place}."] if place else []
    return "\n".join(lines)


def age_years(header: Dataset) -> int | None:
    """Whole years: Patient's Age, or from birth to the study; None: unknown.

    Source: PS3.5 6.2 (AS: three digits and D, W, M or Y).
    """
    said = re.fullmatch(r"(\d{3})([DWMY])", str(header.get("PatientAge") or "").strip())
    if said:
        days = {"D": 1.0, "W": 7.0, "M": 30.4375, "Y": 365.25}[said[2]]
        return int(said[1]) if said[2] == "Y" else int(int(said[1]) * days / 365.25)
    born, seen = _date(header, "PatientBirthDate"), _date(header, "StudyDate")
    if born is None or seen is None or seen < born:
        return None
    return seen.year - born.year - ((seen.month, seen.day) < (born.month, born.day))


def indication_of(header: Dataset) -> str:
    """Why the images were asked for, in one line; empty: not said.

    Source: PS3.3 10.6 (Request Attributes), C.7.2.2 (Patient Study), C.4.11 (Requested Procedure).
    """
    requests = header.get("RequestAttributesSequence") or []
    for item, keyword in (
        *((request, "ReasonForTheRequestedProcedure") for request in requests),
        (header, "ReasonForTheRequestedProcedure"),
        (header, "ReasonForVisit"),
        (header, "AdmittingDiagnosesDescription"),
    ):
        value = item.get(keyword)
        text = " ".join((value if isinstance(value, str) else " ".join(value or ())).split())
        if text:
            return text
    return ""


def _decade(age: int) -> str:
    first = min(age // 10 * 10, _OLDEST_DECADE)
    return f"{first}-{first + 10}"


def _date(header: Dataset, keyword: str) -> date | None:
    text = str(header.get(keyword) or "")
    try:
        return date.fromisoformat(f"{text[:4]}-{text[4:6]}-{text[6:8]}")
    except ValueError:
        return None
