"""A study filed under the wrong patient or order, put right by a person: corrected bytes enter by the one door."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import datetime

from pydicom import Dataset, dcmread, dcmwrite
from pydicom.charset import convert_encodings
from pydicom.errors import InvalidDicomError

from storage.blobs import BlobStore
from storage.corrections import Corrections
from storage.errors import Inapplicable
from storage.index import Index
from storage.intake import Intake
from storage.records import InstanceRecord, InstanceRole, Origin, OriginKind, Outcome
from storage.variants import Variants

#: What may be changed, and the most characters that it may have. Source: PS3.5 6.2 (LO, PN, DA, CS, SH).
CHANGEABLE: Mapping[str, int] = {
    "PatientID": 64,
    "IssuerOfPatientID": 64,
    "PatientName": 64 * 3,
    "PatientBirthDate": 8,
    "PatientSex": 16,
    "AccessionNumber": 16,
}


class IdentityChange:
    """Changes whose a study is, instance by instance; each step may be repeated after a kill."""

    def __init__(
        self, index: Index, blobs: BlobStore, intake: Intake, corrections: Corrections, variants: Variants
    ) -> None:
        self._index = index
        self._blobs = blobs
        self._intake = intake
        self._corrections = corrections
        self._variants = variants

    def change(self, study_instance_uid: str, values: Mapping[str, str], *, by: str, at: datetime) -> int:
        """Correct every instance of a study that is no result of ours; give how many were changed.

        Results are not changed: those made from the former images are taken back, and the study is decided on anew.

        Raises
        ------
        Inapplicable
            A value is not one that may be changed, or cannot be written in the character set of an instance.
        """
        _check(values)
        found = [
            instance
            for instance in self._index.instances_of(study_instance_uid)
            if instance.role is not InstanceRole.RESULT
        ]
        for instance in found:  # all can be made, or none is
            _check_letters(self._read(instance, header_alone=True), values)
        return sum(self._keep(instance, self._corrected(instance, values), by, at) for instance in found)

    def _corrected(self, instance: InstanceRecord, values: Mapping[str, str]) -> bytes:
        dataset = self._read(instance)
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
        target = io.BytesIO()
        dcmwrite(target, dataset)
        return target.getvalue()

    def _read(self, instance: InstanceRecord, *, header_alone: bool = False) -> Dataset:
        try:
            with self._blobs.open(instance.path) as file:
                return dcmread(file, stop_before_pixels=header_alone)
        except (InvalidDicomError, EOFError) as error:
            raise Inapplicable("An instance of the study cannot be read.") from error

    def _keep(self, instance: InstanceRecord, part10: bytes, by: str, at: datetime) -> bool:
        origin = Origin(OriginKind.UPLOAD, peer=by)
        kept = self._intake.receive(io.BytesIO(part10), origin)
        if kept.outcome is Outcome.ALREADY_KEPT:
            return False
        (variant,) = [each for each in self._variants.of(instance.sop_instance_uid) if each.sha256 == kept.sha256]
        self._corrections.apply(variant, by=by, at=at)
        return True


def _check(values: Mapping[str, str]) -> None:
    if not values:
        raise Inapplicable(f"Nothing is to be changed. These can be: {', '.join(CHANGEABLE)}.")
    for keyword, value in values.items():
        if keyword not in CHANGEABLE:
            raise Inapplicable(f"{keyword[:64]} cannot be changed. These can be: {', '.join(CHANGEABLE)}.")
        if len(value) > CHANGEABLE[keyword] or "\\" in value or not value.isprintable():
            raise Inapplicable(f"The value for {keyword} is too long or holds characters that it must not.")
    date = values.get("PatientBirthDate", "")
    if date and not (len(date) == 8 and date.isdigit()):
        raise Inapplicable("PatientBirthDate is written as YYYYMMDD.")


def _check_letters(dataset: Dataset, values: Mapping[str, str]) -> None:
    """Raise where a value cannot be written as the instance writes its text: no letter is ever replaced."""
    declared = dataset.get("SpecificCharacterSet")
    # The default repertoire is ASCII (PS3.5 6.1.1), though more would be written.
    codecs = ["ascii"] if not declared else convert_encodings(declared if isinstance(declared, str) else list(declared))
    for value in values.values():
        if not any(_fits(value, codec) for codec in codecs):
            raise Inapplicable("A value has letters that the character set of the images does not have.")


def _fits(value: str, codec: str) -> bool:
    try:
        value.encode(codec)
    except UnicodeError:
        return False
    return True
