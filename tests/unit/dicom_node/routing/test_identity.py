from __future__ import annotations

import pytest

from dicom_node.routing.identity import differing, quarantine_reason, same_patient

ONE = ("TEST-1", "SITE", "TEST^QUIET", "19700101", "F")


@pytest.mark.parametrize(
    ("other", "attributes"),
    [
        (ONE, ()),
        (("", "", "", "", ""), ()),
        (("TEST-2", "SITE", "TEST^QUIET", "19700101", "F"), ("Patient ID",)),
        (("TEST-1", "ELSEWHERE", "TEST^QUIET", "19700101", "F"), ("Issuer of Patient ID",)),
        (("", "ELSEWHERE", "TEST^QUIET", "19700101", "F"), ()),
        (("TEST-1", "", "TEST^LOUD", "", "M"), ("Patient's Name", "Patient's Sex")),
        (("TEST-1", "SITE", "TEST^QUIET", "19700102", ""), ("Patient's Birth Date",)),
    ],
)
def test_only_values_that_are_there_can_differ(other: tuple[str, ...], attributes: tuple[str, ...]) -> None:
    assert differing([ONE, other]) == attributes
    assert same_patient([ONE, other]) == (not attributes)


def test_the_reason_names_attributes_and_no_value() -> None:
    reason = quarantine_reason(differing([ONE, ("TEST-2", "", "TEST^LOUD", "", "M")]))
    assert "differ in Patient ID, Patient's Name and Patient's Sex." in reason
    assert "TEST-" not in reason
    assert "LOUD" not in reason


def test_a_study_without_images_is_of_one_patient() -> None:
    assert same_patient([])
