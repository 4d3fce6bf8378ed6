from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ComprehensiveSRStorage, SegmentationStorage

from dicom_node.demo.checks import check_received
from tests.builders.ct import encode, make_ct_instance, uid

PACS, SENT = "pacs", "sent"


def result(modality: str, *refers_to: str, **overrides: Any) -> Dataset:
    """Make the skeleton of a result on study 1: what the checks look at, no whole object."""
    image = make_ct_instance()
    made = Dataset()
    for name in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
        setattr(made, name, image.get(name))
    made.StudyInstanceUID, made.StudyDate, made.Modality = uid(1), image.StudyDate, modality
    made.SOPClassUID = SegmentationStorage if modality == "SEG" else ComprehensiveSRStorage
    made.SOPInstanceUID = f"2.25.{len(modality)}"
    items = []
    for referenced in refers_to:
        item = Dataset()
        item.ReferencedSOPInstanceUID = referenced
        items.append(item)
    made.ReferencedInstanceSequence = Sequence(items)
    made.update(overrides)
    return made


def problems(tmp_path: Path, *results: Dataset) -> tuple[str, ...]:
    """Check results of one image, as far as the IOD is not concerned."""
    for name, objects in ((SENT, [make_ct_instance()]), (PACS, results)):
        (tmp_path / name).mkdir()
        for number, made in enumerate(objects):
            (tmp_path / name / f"{number}.dcm").write_bytes(encode(made))
    _, found = check_received(tmp_path / PACS, tmp_path / SENT, uid(1))
    return tuple(problem for problem in found if "Error" not in problem)


def test_a_closed_set_of_the_same_patient_passes(tmp_path: Path) -> None:
    assert problems(tmp_path, result("SEG", uid(1, 1, 1)), result("SR", uid(1, 1, 1), "2.25.3")) == ()


@pytest.mark.parametrize(("there", "missing"), [("SEG", "SR"), ("SR", "SEG")])
def test_one_without_the_other_is_a_problem(tmp_path: Path, there: str, missing: str) -> None:
    assert problems(tmp_path, result(there)) == (f"0 {missing} objects arrived, not one",)


def test_two_of_a_kind_are_a_problem(tmp_path: Path) -> None:
    again = result("SR", SOPInstanceUID="2.25.99")
    assert problems(tmp_path, result("SEG"), result("SR"), again) == ("2 SR objects arrived, not one",)


def test_another_patient_is_a_problem(tmp_path: Path) -> None:
    other = result("SR", PatientID="TEST-2")
    assert problems(tmp_path, result("SEG"), other) == ("SR: PatientID differs from the source",)


def test_a_reference_to_nothing_is_a_problem(tmp_path: Path) -> None:
    stray = result("SEG", uid(9, 9, 9))
    assert problems(tmp_path, stray, result("SR")) == ("SEG: refers to 1 objects that neither were sent nor arrived",)


def test_objects_of_other_studies_do_not_count(tmp_path: Path) -> None:
    other = result("SR", StudyInstanceUID=uid(2))
    assert "0 SR objects arrived, not one" in problems(tmp_path, result("SEG"), other)
