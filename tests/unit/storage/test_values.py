"""Values decoded by ours and by pydicom are the same, whatever a sender writes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR, tag_for_keyword

from storage.header import INSTANCE_KEYWORDS, SERIES_KEYWORDS, STUDY_KEYWORDS, Header, read_header
from storage.scan import Encoding
from storage.values import RawValue, decode
from tests.builders.pydicom_header import PydicomHeader

EXPLICIT, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
LEVELS = (STUDY_KEYWORDS, SERIES_KEYWORDS, INSTANCE_KEYWORDS)
KEYWORDS = sorted({keyword for level in LEVELS for keyword in level}, key=lambda word: tag_for_keyword(word) or 0)
LABELS = (
    *("", "ISO_IR 100", "ISO_IR 192", "GB18030", "GBK", "ISO_IR 13", "ISO_IR 144", "ISO_IR 166", "ISO_IR 126"),
    *("\\ISO 2022 IR 87", "ISO 2022 IR 13\\ISO 2022 IR 87", "\\ISO 2022 IR 149", "ISO_IR 101", "NONSENSE"),
)
SHORT = {"AE", "AS", "CS", "DA", "DS", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UI", "US", "FL"}


def element(tag: int, vr: str, value: bytes, syntax: str) -> bytes:
    order = ">" if syntax == BIG else "<"
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if syntax == IMPLICIT:
        return head + struct.pack("<L", len(value)) + value
    if vr in SHORT:
        return head + vr.encode() + struct.pack(order + "H", len(value)) + value
    return head + vr.encode() + b"\0\0" + struct.pack(order + "L", len(value)) + value


def compare(values: dict[str, bytes], syntax: str, *, vrs: dict[str, str] | None = None) -> Header:
    """Read a data set of these values, and have every answer of ours compared with pydicom's."""
    encoded = b""
    for keyword in KEYWORDS:
        if keyword in values:
            tag = tag_for_keyword(keyword)
            assert tag is not None
            encoded += element(tag, (vrs or {}).get(keyword, dictionary_VR(tag)), values[keyword], syntax)
    header = read_header(encoded, len(encoded), syntax)
    theirs = PydicomHeader(read_header(encoded, len(encoded), syntax).dataset, has_pixels=False)
    for keyword in KEYWORDS:
        assert header.text(keyword) == theirs.text(keyword), keyword
        assert header.number(keyword) == theirs.number(keyword), keyword
    for level in LEVELS:
        assert header.json(level) == theirs.json(level)
    assert header.patient() == theirs.patient()
    return header


text = st.one_of(
    st.binary(max_size=24),
    st.text("AB^=\\ 09.-\0\n\t", max_size=24).map(str.encode),
    st.text(max_size=12).map(lambda each: each.encode("utf-8", "replace")),
    st.sampled_from(
        [
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
            b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=",
            b"=",
            b"5 ",
            b" 5",
            b"+5",
            b"1\\2",
            b"1.5",
            b"5\0",
        ]
    ),
)


@settings(deadline=None, max_examples=400)
@given(
    st.dictionaries(st.sampled_from([word for word in KEYWORDS if not word.endswith("Sequence")]), text, max_size=8),
    st.sampled_from(LABELS),
    st.sampled_from([EXPLICIT, IMPLICIT, BIG]),
)
@example({"PatientName": b"\0"}, "", EXPLICIT)
@example({"PatientID": b" \0 \0", "ImageType": b"\0A\\B\0"}, "", EXPLICIT)
@example({"Rows": b"\1\0\2\0", "Columns": b""}, "", BIG)
def test_any_value_is_the_same(values: dict[str, bytes], label: str, syntax: str) -> None:
    compare({**values, "SpecificCharacterSet": label.encode()}, syntax)


@pytest.mark.parametrize("keyword", [word for word in KEYWORDS if not word.endswith("Sequence")])
@pytest.mark.parametrize("value", [b"", b" ", b"\0", b"\0\0", b"A ", b" A", b"A\0B", b"A\\B", b"\\", b"12", b"1 2"])
def test_each_attribute_with_odd_padding_is_the_same(keyword: str, value: bytes) -> None:
    compare({keyword: value}, EXPLICIT)


@pytest.mark.parametrize("vr", ["UN", "LO", "UT", "OB", "SH", "US", "XX"])
def test_a_value_under_another_vr_is_the_same(vr: str) -> None:
    values = {"PatientID": b"ID 1", "Modality": b"CT", "Rows": b"\1\0", "PatientName": b"Test^Quiet"}
    compare(values, EXPLICIT, vrs=dict.fromkeys(values, vr))


@pytest.mark.parametrize(
    ("vr", "value"),
    [
        *((b"UI", b"1.2\0"), (b"CS", b"DERIVED\\PRIMARY "), (b"LO", b"Test chest"), (b"PN", b"Test^Quiet")),
        *((b"IS", b"12 "), (b"US", b"\0\2"), (b"DA", b"20260102"), (b"TM", b"101500"), (b"SH", b"ACC1")),
    ],
)
def test_what_senders_usually_write_needs_no_pydicom(vr: bytes, value: bytes) -> None:
    for codec in ("UTF8", "iso8859", "GB18030"):
        assert decode(vr, RawValue(vr, value, undefined=False), codec, Encoding(implicit=False, little=True))
