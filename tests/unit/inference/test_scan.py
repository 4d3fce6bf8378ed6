"""The quick reading of headers says what the full parser says, or leaves it to that."""

from __future__ import annotations

import struct
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from inference.scan import Scanned, scan
from tests.builders.codecs import in_syntax
from tests.builders.ct import encode, make_ct_instance
from tests.builders.shared_data import shared_data

IMPLICIT, EXPLICIT, DEFLATED, BIG, RLE = (
    *("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"),
    "1.2.840.10008.1.2.5",
)


def check(part10: bytes, scanned: Scanned) -> None:
    whole = dcmread(BytesIO(part10))
    said = scanned.dataset()
    assert len(said) > 3
    for element in said:
        assert element.value == whole[element.tag].value, element.keyword
    position = [float(each.strip(b" \0")) for each in scanned.position.split(b"\\") if scanned.position]
    assert position == [float(each) for each in whole.get("ImagePositionPatient") or []]
    value = part10[scanned.pixels_at :]
    assert scanned.pixels_length in (0xFFFFFFFF, len(whole.PixelData))
    if scanned.pixels_length != 0xFFFFFFFF:
        assert value[: scanned.pixels_length] == whole.PixelData
    else:
        assert value.startswith(b"\xfe\xff\x00\xe0")


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, RLE])
def test_a_generated_image_is_read_as_the_full_parser_reads_it(syntax: str) -> None:
    code = Dataset()
    code.CodeValue = "1"
    made = make_ct_instance(ProcedureCodeSequence=[code], ConvolutionKernel=["Br40f", "3"], PixelPaddingValue=5)
    made["ProcedureCodeSequence"].is_undefined_length = True
    part10 = in_syntax(made, syntax)
    scanned = scan(BytesIO(part10))
    assert scanned is not None
    check(part10, scanned)


@pytest.mark.parametrize("syntax", [DEFLATED, BIG])
def test_unusual_syntaxes_are_left_to_the_full_parser(syntax: str) -> None:
    assert scan(BytesIO(in_syntax(make_ct_instance(), syntax))) is None


@pytest.mark.filterwarnings("ignore")
def test_real_images_are_read_as_the_full_parser_reads_them() -> None:
    read = 0
    for folder in ("ct_chest", "enhanced", "mr", "odd", "other", "syntaxes", "us"):
        for path in sorted(shared_data(folder).rglob("*"))[:40]:
            if not path.is_file():
                continue
            part10 = path.read_bytes()
            scanned = scan(BytesIO(part10))
            if scanned is not None:
                check(part10, scanned)
                read += 1
    assert read > 100


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 900), st.binary(min_size=1, max_size=8))
def test_damaged_headers_lead_to_a_reading_or_to_the_full_parser(at: int, damage: bytes) -> None:
    part10 = encode(make_ct_instance())
    scan(BytesIO(part10[:at] + damage + part10[at + len(damage) :]))
    scan(BytesIO(part10[:at]))


def test_sequences_that_never_end_are_left_to_the_full_parser() -> None:
    # A sequence in an item in a sequence ... of undefined length, deeper than any real header.
    nested = (struct.pack("<HH2sHI", 0x0008, 0x1032, b"SQ", 0, 0xFFFFFFFF) + b"\xfe\xff\x00\xe0\xff\xff\xff\xff") * 5000
    part10 = encode(Dataset())
    assert scan(BytesIO(part10 + nested)) is None
    with pytest.raises((InvalidDicomError, RecursionError, EOFError, struct.error)):
        dcmread(BytesIO(part10 + nested))
