"""What the index reads of an instance: right on sound ones, refused or left out on hostile ones, never a crash."""

from __future__ import annotations

import json
import random
import struct
import zlib

import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from storage import header as header_module
from storage.errors import UnreadableInstance
from storage.header import (
    INSTANCE_KEYWORDS,
    ROLE_KEYWORDS,
    SERIES_KEYWORDS,
    STUDY_KEYWORDS,
    Header,
    fold,
    is_uid,
    read_header,
)
from storage.roles import role_of
from storage.scan import BeyondBuffer
from tests.builders.ct import make_ct_instance, uid
from tests.builders.wire import bare

EXPLICIT, IMPLICIT, DEFLATED = (
    str(ExplicitVRLittleEndian),
    str(ImplicitVRLittleEndian),
    str(DeflatedExplicitVRLittleEndian),
)


def header(content: bytes, syntax: str = EXPLICIT) -> Header:
    return read_header(content, len(content), syntax)


def deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


def look_at_everything(read: Header) -> None:
    """Ask for all that intake asks for."""
    for keyword in (*STUDY_KEYWORDS, *SERIES_KEYWORDS, *INSTANCE_KEYWORDS, *ROLE_KEYWORDS):
        read.text(keyword).encode("utf-8")
        assert "\0" not in read.text(keyword)
        read.number(keyword)
    for keywords in (STUDY_KEYWORDS, SERIES_KEYWORDS, INSTANCE_KEYWORDS):
        written = read.json(keywords)
        written.encode("utf-8")
        assert "\\u0000" not in written
        json.loads(written)
    read.patient().encode("utf-8")
    role_of(read)


def test_names_and_numbers_are_read() -> None:
    read = header(bare(make_ct_instance(3)))
    assert (read.study_instance_uid, read.series_instance_uid) == (uid(1), uid(1, 1))
    assert (read.text("PatientName"), read.number("InstanceNumber"), read.has_pixels) == ("Test^Quiet", 3, True)
    assert json.loads(read.json(("Modality",))) == {"00080060": {"vr": "CS", "Value": ["CT"]}}
    assert fold("Tést^QUIET") == "test^quiet"


@pytest.mark.parametrize("text", ["1.2.3", "1", "1.02.3", "1.2.3\0", "1.2.3 ", "1." + "2" * 62])
def test_uids_are_uids(text: str) -> None:
    assert is_uid(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1.",
        ".1",
        "1..2",
        "1.2.x",
        "../1",
        "1.2/3",
        "\0001.2",
        "1.\0002",
        "1." + "2" * 63,
        "1.2\n",
        "\N{ARABIC-INDIC DIGIT ONE}.2",
    ],
)
def test_what_is_no_uid_is_none(text: str) -> None:
    assert not is_uid(text)


def test_a_deflated_data_set_is_read_like_any_other() -> None:
    plain = bare(make_ct_instance(3))
    assert header(deflate(plain), DEFLATED).study_instance_uid == uid(1)
    with pytest.raises(UnreadableInstance, match="cut short"):
        header(deflate(plain)[:-20], DEFLATED)
    with pytest.raises(UnreadableInstance, match="inflate"):
        header(b"\xff" * 500, DEFLATED)
    with pytest.raises(BeyondBuffer):
        read_header(deflate(plain)[:50], len(deflate(plain)), DEFLATED)


def test_a_deflate_bomb_is_refused_before_it_is_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header_module, "_INFLATED_AT_MOST", 1 << 20)
    head = bare(make_ct_instance(PixelData=None)) + b"\xe0\x7f\x10\x00OW\0\0" + struct.pack("<I", 8 << 20)
    with pytest.raises(UnreadableInstance, match="beyond any sensible size"):
        header(deflate(head + bytes(8 << 20)), DEFLATED)


def test_broken_values_are_left_out_and_the_rest_is_read() -> None:
    made = make_ct_instance()
    item = Dataset()
    item.CodeValue = "1"
    made.RequestAttributesSequence = Sequence([item])
    content = bare(made).replace(b"IS\x02\x001 ", b"IS\x02\x00x ")
    read = header(content)
    assert read.number("SeriesNumber") is None
    assert read.study_instance_uid == uid(1)
    look_at_everything(read)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_no_mutation_makes_reading_fail_otherwise(syntax: str) -> None:
    chance = random.Random(23)
    made = make_ct_instance()
    made.SpecificCharacterSet = ["", "ISO 2022 IR 87", "ISO_IR 999"]
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = "113691", "DCM"
    made.ConceptNameCodeSequence = Sequence([item])
    made.ContributingEquipmentSequence = Sequence([item])
    made["ContributingEquipmentSequence"].is_undefined_length = True
    made.ImageType = ["DERIVED", "PRIMARY"]
    whole = bare(made)
    read_to_the_end = 0
    for _ in range(400):
        mutated = bytearray(whole)
        for _ in range(chance.randint(1, 5)):
            mutated[chance.randrange(len(mutated))] = chance.choice((0, 0xFF, 0x1B, 0x5C, chance.randrange(256)))
        try:
            look_at_everything(header(bytes(mutated), syntax))
        except UnreadableInstance:
            continue
        read_to_the_end += 1
    assert read_to_the_end > 30 or syntax == IMPLICIT
