"""Identifiers, sound and hostile."""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from configs.errors import NodeError
from dicom_node.errors import IdentifierMismatch
from dicom_node.scp.contexts import QUERY_RETRIEVE
from dicom_node.scp.identifier import LEVELS, QueryLevel, check_query, check_retrieval, read_identifier
from storage.matching import Key
from tests.builders.queries import identifier

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
LEVEL = b"\x08\x00\x52\x00CS\x06\x00STUDY "


def encoded(dataset: Dataset, *, implicit: bool = False) -> bytes:
    out = DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = implicit, True
    write_dataset(out, dataset)
    return out.getvalue()


def test_every_served_class_has_its_levels() -> None:
    assert set(LEVELS) == QUERY_RETRIEVE


def test_keys_and_requested_attributes_are_told_apart() -> None:
    step = Dataset()
    step.ScheduledProcedureStepID = "S*"
    asked = identifier("SERIES", StudyInstanceUID="1.2", Modality="", RequestAttributesSequence=[step], SeriesNumber=3)
    read = read_identifier(encoded(asked), EXPLICIT)
    assert read.level is QueryLevel.SERIES
    assert set(read.keys) == {
        Key((0x0020000D,), "1.2"),
        Key((0x00200011,), "3"),
        Key((0x00400275, 0x00400009), "S*"),
    }
    assert set(read.requested) == {0x00080052, 0x00080060, 0x0020000D, 0x00200011, 0x00400275}
    assert read.unique(QueryLevel.STUDY) == "1.2"
    assert read == read_identifier(encoded(asked, implicit=True), IMPLICIT)


def test_text_is_decoded_as_the_identifier_says() -> None:
    asked = identifier("STUDY", SpecificCharacterSet="ISO_IR 144", PatientName="Иванов*")
    (key,) = read_identifier(encoded(asked), EXPLICIT).keys
    assert key.value == "Иванов*"


@pytest.mark.parametrize("root", ["1", "2"])
def test_a_retrieval_needs_its_unique_keys(root: str) -> None:
    levels = LEVELS[f"1.2.840.10008.5.1.4.1.2.{root}.2"]
    whole = {"PatientID": "A", "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3", "SOPInstanceUID": ["1.4", "1.5"]}
    sound = read_identifier(encoded(identifier("IMAGE", **whole)), EXPLICIT)
    check_retrieval(sound, levels, relational=False)
    for missing in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        broken = read_identifier(encoded(identifier("IMAGE", **{**whole, missing: ""})), EXPLICIT)
        with pytest.raises(IdentifierMismatch) as raised:
            check_retrieval(broken, levels, relational=False)
        assert raised.value.offending is not None
    alone = read_identifier(encoded(identifier("IMAGE", SOPInstanceUID="1.4")), EXPLICIT)
    check_retrieval(alone, levels, relational=True)
    check_query(alone, levels, relational=True)


@settings(max_examples=400, deadline=None)
@given(content=st.binary(max_size=300), syntax=st.sampled_from([EXPLICIT, IMPLICIT]), level=st.booleans())
def test_any_bytes_are_an_identifier_or_refused(content: bytes, syntax: str, level: bool) -> None:
    try:
        read_identifier((LEVEL if level else b"") + content, syntax)
    except NodeError:
        return


def nested(depth: int) -> bytes:
    """Give an identifier whose sequences are nested that deep, of undefined length."""
    begin = b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff"
    end = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    return LEVEL + begin * depth + end * depth


@pytest.mark.parametrize(
    "hostile",
    [
        nested(6),
        nested(1_000),
        nested(100_000),
        LEVEL + b"".join(struct.pack("<HH2sH", 0x0009, number, b"LO", 2) + b"x " for number in range(0x1000, 0x1400)),
        LEVEL + b"".join(struct.pack("<HH2sH", 0x0009, number, b"LO", 2) + b"x " for number in range(0x1000, 0x1080)),
        LEVEL + bytes(5 << 20),
        LEVEL + struct.pack("<HH2sH", 0x0028, 0x0010, b"US", 3) + b"abc",
        b"",
    ],
    ids=["deep", "deeper", "deepest", "many attributes", "many keys", "long", "odd number", "nothing"],
)
def test_a_hostile_identifier_is_refused_at_once(hostile: bytes) -> None:
    began = time.process_time()
    with pytest.raises(NodeError):
        read_identifier(hostile, EXPLICIT)
    assert time.process_time() - began < 2
