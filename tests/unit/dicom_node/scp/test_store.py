from __future__ import annotations

import pytest
from pydicom.uid import UID
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import PresentationContextTuple

from dicom_node.scp.store import is_uid, named_by
from storage.errors import SopClassMismatch

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"


def request(sop_class_uid: str) -> C_STORE:
    made = C_STORE()
    made.AffectedSOPClassUID, made.AffectedSOPInstanceUID = UID(sop_class_uid), UID("1.2.3")
    return made


def test_the_instance_is_named_by_the_request_and_its_context() -> None:
    context = PresentationContextTuple(1, UID(CT), UID("1.2.840.10008.1.2"))
    assert named_by(request(CT), context) == (CT, "1.2.3", "1.2.840.10008.1.2")


def test_another_class_than_the_context_was_negotiated_for_is_a_mismatch() -> None:
    with pytest.raises(SopClassMismatch):
        named_by(request(MR), PresentationContextTuple(1, UID(CT), UID("1.2.840.10008.1.2")))


@pytest.mark.parametrize("text", ["1.2.3", "2.25.1", "1.2.003.4", "1"])
def test_what_names_an_instance(text: str) -> None:
    assert is_uid(text)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        ".",
        "..",
        "../../etc/passwd",
        "/etc/passwd",
        "1..2",
        "1.2.",
        ".1.2",
        "1.2/3",
        "1.2\n3",
        "1.2\x00",
        "NUL",
        "Doe^John",
        "1." * 40 + "1",
        "1.2.3\n",
        "１.２",  # noqa: RUF001 (digits that are no ASCII)
    ],
)
def test_what_names_none(text: str | None) -> None:
    assert not is_uid(text)
