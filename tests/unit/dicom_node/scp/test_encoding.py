"""Answers as bytes, read back by pydicom."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.filereader import read_dataset

from dicom_node.scp.encoding import Form, choose_character_set, encode_identifier

EXPLICIT, IMPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
SYNTAXES = (EXPLICIT, IMPLICIT, BIG_ENDIAN)
TEXT = st.text(
    alphabet=st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zs"), exclude_characters="\\^="), max_size=20
)


def read(encoded: bytes, syntax: str) -> Dataset:
    form = Form.of(syntax)
    return read_dataset(BytesIO(encoded), form.implicit, form.order == "<")


ANSWER: dict[int, dict[str, Any]] = {
    0x00080020: {"vr": "DA", "Value": ["20260101"]},
    0x00080061: {"vr": "CS", "Value": ["CT", "SEG", "SR"]},
    0x00080090: {"vr": "PN"},
    0x00100010: {"vr": "PN", "Value": [{"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"}]},
    0x0020000D: {"vr": "UI", "Value": ["1.2.3"]},
    0x00201208: {"vr": "IS", "Value": [12]},
    0x00280010: {"vr": "US", "Value": [512]},
    0x00400275: {"vr": "SQ", "Value": [{"00400009": {"vr": "SH", "Value": ["SPS1"]}}, {}]},
    0x00091001: {"vr": "UN", "InlineBinary": "AQID"},
    0x00180050: {"vr": "DS", "Value": [0.30000000000000004, 2]},
}


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_an_answer_reads_back_as_it_was(syntax: str) -> None:
    found = read(encode_identifier(ANSWER, Form.of(syntax), ()), syntax)
    assert found.SpecificCharacterSet == "ISO_IR 192"
    assert found.PatientName.ideographic == "山田^太郎"
    assert found["ReferringPhysicianName"].is_empty
    assert (found.StudyDate, found.ModalitiesInStudy) == ("20260101", ["CT", "SEG", "SR"])
    assert (found.StudyInstanceUID, found.NumberOfStudyRelatedInstances, found.Rows) == ("1.2.3", 12, 512)
    assert [item.get("ScheduledProcedureStepID") for item in found.RequestAttributesSequence] == ["SPS1", None]
    assert [float(each) for each in found.SliceThickness] == pytest.approx([0.3, 2])
    assert found[0x00091001].value.rstrip(b"\0") == b"\1\2\3"


@settings(max_examples=200, deadline=None)
@given(
    text=TEXT,
    syntax=st.sampled_from(SYNTAXES),
    requested=st.sampled_from(
        [
            (),
            ("ISO_IR 100",),
            ("ISO_IR 144",),
            ("ISO_IR 192",),
            ("GB18030",),
            ("", "ISO 2022 IR 87"),
            ("ISO 2022 IR 6", "ISO 2022 IR 149"),
            ("nonsense",),
        ]
    ),
)
def test_no_text_is_ever_lost(text: str, syntax: str, requested: tuple[str, ...]) -> None:
    encoded = encode_identifier({0x00081030: {"vr": "LO", "Value": [text]}}, Form.of(syntax), requested)
    assert (read(encoded, syntax).StudyDescription or "") == text


@pytest.mark.parametrize(
    ("requested", "text", "expected"),
    [
        (("ISO_IR 100",), "plain", ()),
        (("ISO_IR 144",), "Иванов", ("ISO_IR 144",)),
        ((), "Müller", ("ISO_IR 100",)),
        (("ISO_IR 144",), "Müller", ("ISO_IR 100",)),
        (("ISO_IR 100",), "山田", ("ISO_IR 192",)),
        (("", "ISO 2022 IR 87"), "山田", ("", "ISO 2022 IR 87")),
        (("GB18030",), "张三", ("GB18030",)),
    ],
)
def test_the_requested_set_is_kept_where_it_holds_the_text(
    requested: tuple[str, ...], text: str, expected: tuple[str, ...]
) -> None:
    assert choose_character_set(requested, [text])[0] == expected
