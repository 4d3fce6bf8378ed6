"""The DICOM JSON model written as bytes, read back by pydicom."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from storage.errors import UnreadableInstance
from storage.model_writer import Bulk, bulk_uris, write_model


def read_back(model: dict[str, Any], **bulk: bytes) -> Dataset:
    stored = {uri: [Bulk(len(value), lambda value=value: BytesIO(value))] for uri, value in bulk.items()}  # type: ignore[misc]
    return dcmread(BytesIO(b"".join(write_model(model, lambda uri: stored[uri]))), force=True)


@pytest.mark.parametrize(
    ("vr", "values", "read"),
    [
        ("US", [0, 65535], [0, 65535]),
        ("SL", [-5], -5),
        ("FD", [1.5, -2.25], [1.5, -2.25]),
        ("FL", ["NaN"], None),
        ("UV", [2**63], 2**63),
        ("AT", ["00100020", "7FE00010"], [0x00100020, 0x7FE00010]),
        ("DS", [1.23456789012345678e-7, 2, "3.5"], [1.23456789e-7, 2.0, 3.5]),
        ("IS", [-12], -12),
        ("LO", ["a", None, "c"], ["a", "", "c"]),
        ("PN", [{"Alphabetic": "Test^Quiet", "Phonetic": "テスト"}], "Test^Quiet==テスト"),
        ("UI", ["1.2.3"], "1.2.3"),
        ("UT", ["x" * 70_000], "x" * 70_000),
        ("LO", [], ""),
    ],
)
def test_each_vr_is_written_as_it_is_read(vr: str, values: list[Any], read: Any) -> None:
    element = read_back({"00091001": {"vr": vr, "Value": values}})[0x00091001]
    assert vr == element.VR
    if read is None:
        assert element.value != element.value
    elif vr == "DS":
        assert list(element.value) == pytest.approx(read)
    else:
        assert element.value == read


def test_items_and_bulk_data_within_them_are_written_whole() -> None:
    inner = {"00091002": {"vr": "OB", "BulkDataURI": "b"}, "00080005": {"vr": "CS", "Value": ["ISO_IR 100"]}}
    model = {"00400275": {"vr": "SQ", "Value": [inner, None]}, "7FE00010": {"vr": "OW", "BulkDataURI": "a"}}
    assert bulk_uris(model) == ["b", "a"]
    there = read_back(model, a=b"123", b=b"12345")
    assert there.SpecificCharacterSet == "ISO_IR 192"
    first, second = there[0x00400275].value
    assert first[0x00091002].value == b"12345\0"
    assert "SpecificCharacterSet" not in first
    assert len(second) == 0
    assert there.PixelData == b"123\0"


@pytest.mark.parametrize(
    "attribute",
    [
        {"vr": "US", "Value": [65536]},
        {"vr": "US", "Value": [True]},
        {"vr": "US", "Value": "1"},
        {"vr": "XX", "Value": ["a"]},
        {"vr": "LO", "Value": [{"a": 1}]},
        {"vr": "LO", "Value": ["x" * 66_000]},
        {"vr": "OB", "InlineBinary": "?"},
        {"vr": "OB", "InlineBinary": 7},
        {"vr": "OB", "Value": ["x"]},
        {"vr": "AT", "Value": ["X"]},
        {"vr": "SQ", "Value": ["no item"]},
        {"vr": "PN", "Value": [7]},
        {"vr": "LO", "Value": ["\ud800"]},
    ],
)
def test_what_has_not_the_form_of_its_vr_is_unreadable(attribute: dict[str, Any]) -> None:
    with pytest.raises(UnreadableInstance):
        read_back({"00091001": attribute})
