from __future__ import annotations

import base64
import json
import logging
import math
import struct
import time
import tracemalloc
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, config, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.filereader import read_dataset

from storage import dicom_json, json_values
from storage.dicom_json import BASE, JsonEncoder, resolved
from storage.json_walk import INLINE_AT_MOST
from tests.builders.ct import encode, make_ct_instance
from tests.builders.encoded import Writing, Written, head, write
from tests.builders.shared_data import shared_data

pytestmark = pytest.mark.filterwarnings("ignore")  # pydicom remarks on the odd values here

Json = dict[str, Any]
EXPLICIT, IMPLICIT, BIG = Writing(), Writing(implicit=True), Writing(little=False)
DELIMITED = Writing(delimited=True)
WRITINGS = (EXPLICIT, IMPLICIT, BIG, DELIMITED, Writing(implicit=True, delimited=True))
PIXELS = "7FE00010"


def ours(data_set: bytes, writing: Writing, encoder: JsonEncoder | None = None) -> Json:
    written = (encoder or JsonEncoder()).encode(data_set, writing.transfer_syntax_uid, bulk_base=b"bulk/")
    return dict(json.loads(written))


def reference(data_set: bytes, writing: Writing) -> Json:
    """Give what pydicom makes of it, attribute by attribute; what it cannot write is missing."""
    read = read_dataset(BytesIO(data_set), writing.implicit, writing.little)
    return reference_of(read)


def reference_of(read: Dataset) -> Json:
    found: Json = {}
    for tag in read.keys():  # noqa: SIM118 (it iterates over values)
        try:
            element = read[tag]
            found[f"{tag:08X}"] = element.to_json_dict(lambda _: "bulk", INLINE_AT_MOST * 4 // 3 + 4)
            json.dumps(found[f"{tag:08X}"])
        except Exception:  # noqa: BLE001 (it raises what it likes)
            found.pop(f"{tag:08X}", None)
    return found


#: Source: PS3.3 C.7.6.3.1.5, C.11.1.1.
LUT_DESCRIPTORS = ("00281101", "00281102", "00281103", "00283002")


def as_the_table_says(given: Json) -> Json:
    """Change pydicom's answer by the table of differences in `json_values`."""
    changed: Json = {}
    for name, attribute in given.items():
        if name.endswith("0000"):
            continue
        made = dict(attribute)
        values = made.get("Value")
        if name == PIXELS:
            made = {"vr": made["vr"], "BulkDataURI": "bulk"}
        elif made["vr"] == "SQ":
            made["Value"] = [as_the_table_says(item) for item in values or []]
            if not values:
                del made["Value"]
        elif made["vr"] == "PN" and values is not None:
            made["Value"] = [{key: each for key, each in value.items() if each} or None for value in values]
            if values == [{"Alphabetic": ""}]:
                del made["Value"]
        elif values is not None:
            made["Value"] = [_number_or_null(each, made["vr"]) for each in values]
            if name in LUT_DESCRIPTORS and len(values) == 3:
                made["Value"] = [values[0] % 65536, values[1], values[2] % 65536]
        changed[name] = made
    return changed


def _number_or_null(value: Any, vr: str) -> Any:
    if value == "":
        return None
    if vr in ("FL", "FD") and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def same(mine: Json, theirs: Json, way: str = "") -> list[str]:
    """Name the attributes that differ, as far as pydicom could write them."""
    wrong = []
    for name, other in theirs.items():
        attribute = mine.get(name)
        if attribute is None or attribute["vr"] != other["vr"]:
            wrong.append(f"{way}{name}: {attribute} is not {other}")
        elif other["vr"] == "SQ":
            pairs = zip(attribute.get("Value", []), other.get("Value", []), strict=True)
            for number, (item, other_item) in enumerate(pairs, 1):
                wrong += same(item, other_item, f"{way}{name}/{number}/")
        elif "BulkDataURI" in other:
            if attribute.get("BulkDataURI", "").endswith(f"{way}{name}") is False:
                wrong.append(f"{way}{name}: {attribute} is no reference")
        elif attribute != other:
            wrong.append(f"{way}{name}: {attribute} is not {other}")
    return wrong


#: Public and private tags of every VR, ambiguous and unknown ones included.
TAGS = {
    "AE": 0x00080054,
    "AS": 0x00101010,
    "AT": 0x00280009,
    "CS": 0x00080008,
    "DA": 0x00080020,
    "DS": 0x00200032,
    "DT": 0x0008002A,
    "FD": 0x00189073,
    "FL": 0x00089459,
    "IS": 0x00200013,
    "LO": 0x00081030,
    "LT": 0x00104000,
    "OB": 0x00420011,
    "OD": 0x00701A07,
    "OF": 0x00640009,
    "OL": 0x00660129,
    "OV": 0x7FE00001,
    "OW": 0x00281201,
    "PN": 0x00100010,
    "SH": 0x00080050,
    "SL": 0x00186020,
    "SS": 0x00189219,
    "ST": 0x00080081,
    "SV": 0x00720082,
    "TM": 0x00080030,
    "UC": 0x00080119,
    "UI": 0x00080018,
    "UL": 0x00186018,
    "UN": 0x00091001,
    "UR": 0x00081190,
    "US": 0x00280010,
    "UT": 0x00100218,
    "UV": 0x00720083,
}
AMBIGUOUS = (0x00280106, 0x00280107, 0x00280120, 0x00281101, 0x00283002, 0x00283006, 0x54001010, 0x60003000)
_TEXT = st.text("AZaz09 .-+^=\\\0_ä", max_size=24).map(lambda text: text.encode("latin-1"))
_NUMBER = st.one_of(
    st.integers(-(10**10), 10**10).map(str), st.floats(width=32).map(str), st.sampled_from(["", " 1 ", "1.0", "x"])
)
_NUMBERS = st.lists(_NUMBER, max_size=4).map(lambda each: "\\".join(each).encode())
_BYTES = st.binary(max_size=40)


def _value(vr: str) -> st.SearchStrategy[bytes]:
    if vr in ("DS", "IS"):
        return st.one_of(_NUMBERS, _TEXT)
    if vr in ("AT", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"):
        size = {"AT": 4, "FL": 4, "SL": 4, "UL": 4, "SS": 2, "US": 2}.get(vr, 8)
        return st.one_of(st.lists(st.binary(min_size=size, max_size=size), max_size=4).map(b"".join), _BYTES)
    return st.one_of(_TEXT, _BYTES)


_ELEMENT = st.sampled_from(sorted(TAGS)).flatmap(
    lambda vr: _value(vr).map(lambda value: Written(TAGS[vr], vr, value + bytes(len(value) % 2)))
)
_CHARACTER_SET = st.sampled_from(
    [b"", b"ISO_IR 100", b"ISO_IR 192", b"ISO_IR 144", b"\\ISO 2022 IR 87", b"GB18030", b"ISO-8859-1", b"nobody knows"]
).map(lambda label: Written(0x00080005, "CS", label + b" " * (len(label) % 2)))
_AMBIGUOUS = st.sampled_from(AMBIGUOUS).flatmap(
    lambda tag: st.sampled_from([b"", b"\1\0", b"\xff\xff", b"\xff\xff\0\0\x10\0", b"\0\1\2\3"]).map(
        lambda value: Written(tag, "US" if tag >> 16 == 0x28 else "OW", value)
    )
)
_REPRESENTATION = st.sampled_from([0, 1]).map(lambda number: Written(0x00280103, "US", struct.pack("<H", number)))
_PRIVATE = st.sampled_from(
    [
        Written(0x00190010, "LO", b"GEMS_ACQU_01"),
        Written(0x00191002, "SL", struct.pack("<i", -7)),
        Written(0x0019101E, "DS", b"36.5"),
        Written(0x00191099, "UN", b"\1\2\3\4"),
    ]
)


def _unique(elements: list[Written]) -> list[Written]:
    return list({element.tag: element for element in elements}.values())


_PLAIN = st.lists(st.one_of(_ELEMENT, _ELEMENT, _CHARACTER_SET, _AMBIGUOUS, _REPRESENTATION, _PRIVATE), max_size=8).map(
    _unique
)
_SEQUENCES = st.sampled_from([0x00081140, 0x00400275, 0x0040A730])
_DATA_SETS = st.recursive(
    _PLAIN,
    lambda inner: st.tuples(_PLAIN, st.lists(st.tuples(_SEQUENCES, st.lists(inner, max_size=2)), max_size=2)).map(
        lambda both: _unique([*both[0], *(Written(tag, "SQ", items) for tag, items in both[1])])
    ),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_DATA_SETS, st.sampled_from([EXPLICIT, IMPLICIT, DELIMITED, Writing(implicit=True, delimited=True)]))
def test_every_attribute_that_pydicom_can_write_is_written_alike(elements: list[Written], writing: Writing) -> None:
    data_set = write(elements, writing)
    mine, theirs = ours(data_set, writing), as_the_table_says(reference(data_set, writing))
    unsettled = {name for name, attribute in theirs.items() if " or " in attribute["vr"]}
    assert same(mine, {name: theirs[name] for name in theirs if name not in unsettled}) == []


@settings(max_examples=60, deadline=None)
@given(_DATA_SETS)
def test_numbers_in_big_endian_are_the_same_numbers(elements: list[Written]) -> None:
    data_set = write(elements, BIG)
    mine, theirs = ours(data_set, BIG), as_the_table_says(reference(data_set, BIG))
    words = {f"{TAGS[vr]:08X}" for vr in ("OW", "OF", "OL", "OD", "OV")} | {f"{tag:08X}" for tag in AMBIGUOUS}

    def without(given: Json) -> Json:
        return {
            name: {**each, "Value": [without(item) for item in each["Value"]]}
            if each["vr"] == "SQ" and "Value" in each
            else each
            for name, each in given.items()
            if name not in words and " or " not in each["vr"]
        }

    assert same(without(mine), without(theirs)) == []


@settings(max_examples=40, deadline=None)
@given(st.lists(_DATA_SETS, min_size=2, max_size=4), st.sampled_from(WRITINGS))
def test_what_an_encoder_saw_before_never_changes_what_it_writes(
    data_sets: list[list[Written]], writing: Writing
) -> None:
    encoder = JsonEncoder()
    for elements in [*data_sets, *data_sets]:
        data_set = write(elements, writing)
        assert ours(data_set, writing, encoder) == ours(data_set, writing)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(WRITINGS))
def test_any_bytes_at_all_give_valid_json(noise: bytes, writing: Writing) -> None:
    logging.disable(logging.CRITICAL)
    try:
        assert isinstance(ours(noise, writing), dict)
    finally:
        logging.disable(logging.NOTSET)


@settings(max_examples=80, deadline=None)
@given(_DATA_SETS, st.sampled_from(WRITINGS), st.integers(0, 400), st.binary(min_size=1, max_size=4))
def test_a_data_set_with_broken_bytes_gives_valid_json(
    elements: list[Written], writing: Writing, at: int, other: bytes
) -> None:
    data_set = write(elements, writing)
    at = min(at, len(data_set))
    logging.disable(logging.CRITICAL)
    try:
        assert isinstance(ours(data_set[:at] + other + data_set[at + len(other) :], writing), dict)
    finally:
        logging.disable(logging.NOTSET)


DIFFERENCES = [
    ("FL", struct.pack("<3f", math.nan, math.inf, -math.inf), ["NaN", "inf", "-inf"]),
    ("LO", b"one\\\\two ", ["one", None, "two"]),
    ("DS", b"1.5\\\\2 ", [1.5, None, 2.0]),
    ("PN", b"=Kanji", [{"Ideographic": "Kanji"}]),
    ("PN", b"A^B\\\\C ", [{"Alphabetic": "A^B"}, None, {"Alphabetic": "C"}]),
    ("IS", b"1.5 ", [1.5]),
    ("IS", b"1.0 ", [1]),
    ("IS", b"99999999999999999999", [99999999999999999999]),
]


@pytest.mark.parametrize(("vr", "value", "expected"), DIFFERENCES)
def test_the_table_of_differences_holds(vr: str, value: bytes, expected: list[Any]) -> None:
    data_set = write([Written(TAGS[vr], vr, value)], EXPLICIT)
    assert ours(data_set, EXPLICIT)[f"{TAGS[vr]:08X}"] == {"vr": vr, "Value": expected}
    for word in ("NaN", "null", "component group", "fraction", "big endian", "ambiguous", "Pixel Data"):
        assert word in str(json_values.__doc__)


def test_words_of_a_big_endian_source_are_inlined_little_endian() -> None:
    data_set = write([Written(0x00281201, "OW", b"\1\2\3\4")], BIG)
    assert base64.b64decode(ours(data_set, BIG)["00281201"]["InlineBinary"]) == b"\2\1\4\3"


@pytest.mark.parametrize(("representation", "vr", "value"), [(None, "US", 65535), (0, "US", 65535), (1, "SS", -1)])
def test_pixel_values_follow_the_pixel_representation_into_items(
    representation: int | None, vr: str, value: int
) -> None:
    inner = [Written(0x00280106, "US", b"\xff\xff")]
    outer = [Written(0x00081140, "SQ", []), Written(0x00480105, "SQ", [inner]), Written(0x00280106, "US", b"\xff\xff")]
    if representation is not None:
        outer.append(Written(0x00280103, "US", struct.pack("<H", representation)))
    written = ours(write(outer, IMPLICIT), IMPLICIT)
    assert written["00280106"] == {"vr": vr, "Value": [value]}
    assert written["00480105"]["Value"][0]["00280106"] == {"vr": vr, "Value": [value]}


def test_lut_descriptors_and_data_are_read_as_the_standard_says() -> None:
    one = [Written(0x00283002, "SS", struct.pack("<3h", -1, -5, 16)), Written(0x00283006, "OW", bytes(8))]
    written = ours(write([Written(0x00280103, "US", b"\1\0"), Written(0x00283010, "SQ", [one])], IMPLICIT), IMPLICIT)
    assert written["00283010"]["Value"][0]["00283002"] == {"vr": "SS", "Value": [65535, -5, 16]}
    assert written["00283010"]["Value"][0]["00283006"]["vr"] == "OW"
    single = ours(
        write([Written(0x00283002, "US", struct.pack("<3H", 1, 0, 16)), Written(0x00283006, "OW", b"\7\0")], IMPLICIT),
        IMPLICIT,
    )
    assert single["00283006"] == {"vr": "US", "Value": [7]}


def test_an_item_may_have_a_character_set_of_its_own() -> None:
    cyrillic = [Written(0x00080005, "CS", b"ISO_IR 144"), Written(0x00100010, "PN", "Яш ".encode("iso8859_5"))]
    latin = [Written(0x00100010, "PN", "Äneas ".encode("latin-1"))]
    data_set = write([Written(0x00080005, "CS", b"ISO_IR 100"), Written(0x00081140, "SQ", [cyrillic, latin])], EXPLICIT)
    first, second = ours(data_set, EXPLICIT)["00081140"]["Value"]
    assert first["00100010"]["Value"] == [{"Alphabetic": "Яш"}]
    assert second["00100010"]["Value"] == [{"Alphabetic": "Äneas"}]


def test_private_elements_are_read_by_the_creator_of_their_own_block() -> None:
    elements = [
        Written(0x00190010, "LO", b"GEMS_ACQU_01"),
        Written(0x00190011, "LO", b"Nobody knows"),
        Written(0x00191002, "SL", struct.pack("<i", -7)),
        Written(0x00191102, "SL", struct.pack("<i", -7)),
    ]
    written = ours(write(elements, IMPLICIT), IMPLICIT)
    assert written["00191002"] == {"vr": "SL", "Value": [-7]}
    assert written["00191102"]["vr"] == "UN"


def test_values_beyond_the_threshold_are_given_by_reference_wherever_they_stand() -> None:
    large = Written(0x00420011, "OB", bytes(INLINE_AT_MOST + 2))
    small = Written(0x00420011, "OB", bytes(INLINE_AT_MOST))
    written = ours(write([large, Written(0x00081140, "SQ", [[small], [large]])], EXPLICIT), EXPLICIT)
    assert written["00420011"] == {"vr": "OB", "BulkDataURI": "bulk/00420011"}
    items = written["00081140"]["Value"]
    assert "InlineBinary" in items[0]["00420011"]
    assert items[1]["00420011"]["BulkDataURI"] == "bulk/00081140/2/00420011"


def test_pixel_data_are_a_reference_and_what_follows_them_is_written_too() -> None:
    fragments = struct.pack("<HHI", 0xFFFE, 0xE000, 0) + struct.pack("<HHI", 0xFFFE, 0xE000, 4) + b"abcd"
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    encapsulated = head(0x7FE00010, "OB", 0xFFFFFFFF, EXPLICIT) + fragments + end
    after = write([Written(0x7FE10010, "LO", b"Somebody")], EXPLICIT)
    written = ours(encapsulated + after, EXPLICIT)
    assert written["7FE00010"] == {"vr": "OB", "BulkDataURI": "bulk/7FE00010"}
    assert written["7FE10010"]["Value"] == ["Somebody"]


def test_a_sequence_named_un_is_read_as_implicit() -> None:
    item = write([Written(0x00080100, "SH", b"T-1 ")], IMPLICIT)
    content = struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item
    for length in (len(content), 0xFFFFFFFF):
        end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) if length == 0xFFFFFFFF else b""
        data_set = head(0x00082218, "UN", length, EXPLICIT) + content + end
        assert ours(data_set, EXPLICIT)["00082218"]["Value"] == [{"00080100": {"vr": "SH", "Value": ["T-1"]}}]


def test_a_value_that_no_json_holds_is_left_out_and_logged_by_its_tag(caplog: pytest.LogCaptureFixture) -> None:
    elements = [
        Written(0x00280010, "US", b"\1\0\2"),
        Written(0x00200013, "IS", b"Test^Quiet"),
        Written(0x00080060, "CS", b"CT"),
    ]
    with caplog.at_level(logging.WARNING):
        assert ours(write(elements, EXPLICIT), EXPLICIT) == {"00080060": {"vr": "CS", "Value": ["CT"]}}
    assert {vars(record)["tag"] for record in caplog.records} == {"00280010", "00200013"}
    assert "Quiet" not in "".join(f"{vars(record)}" for record in caplog.records)


@pytest.mark.parametrize("depth", [10, 100, 1_000, 100_000])
def test_nesting_is_bounded(depth: int) -> None:
    opening = head(0x00081140, "SQ", 0xFFFFFFFF, EXPLICIT) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    closing = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    data_set = write([Written(0x00080060, "CS", b"CT")], EXPLICIT) + opening * depth + closing * depth
    began = time.monotonic()
    written = ours(data_set, EXPLICIT)
    assert time.monotonic() - began < 5
    assert written["00080060"]["Value"] == ["CT"]
    assert ("00081140" in written) is (depth <= 64)


def test_lengths_that_lie_end_the_walk_and_what_came_before_stays() -> None:
    lying = head(0x00100010, "UT", 0xFFFFFFF0, EXPLICIT) + b"x"
    assert ours(write([Written(0x00080060, "CS", b"CT")], EXPLICIT) + lying, EXPLICIT) == {
        "00080060": {"vr": "CS", "Value": ["CT"]}
    }


def test_json_of_one_data_set_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.json_walk.LONGEST_JSON", 10_000)
    texts = [Written(0x00420000 + each, "UT", b"x" * 2_000) for each in range(1, 20)]
    written = ours(write(texts, EXPLICIT), EXPLICIT)
    assert 3 <= len(written) <= 5


def test_what_an_encoder_remembers_is_bounded() -> None:
    encoder = JsonEncoder()
    tracemalloc.start()
    try:
        for number in range(60_000):
            encoder.encode(
                write([Written(0x00104000, "LT", b"%0400d" % number)], EXPLICIT), EXPLICIT.transfer_syntax_uid
            )
        assert tracemalloc.get_traced_memory()[0] < 40 << 20
    finally:
        tracemalloc.stop()


def kept(part10: bytes) -> Json:
    written = JsonEncoder().encode_instance(BytesIO(part10), study_instance_uid="1.2", series_instance_uid="1.3")
    return dict(json.loads(resolved(written, "https://pacs.example/dicom-web")))


def test_a_kept_instance_names_its_bulk_data_below_the_address_that_was_asked(tmp_path: Path) -> None:
    content = encode(make_ct_instance())
    (tmp_path / "x.dcm").write_bytes(content)
    with (tmp_path / "x.dcm").open("rb") as file:
        written = JsonEncoder().encode_instance(file, study_instance_uid="1.2", series_instance_uid="1.3")
    assert BASE in written
    answer = json.loads(resolved(written, "https://pacs.example/dicom-web"))
    sop = make_ct_instance().SOPInstanceUID
    place = f"https://pacs.example/dicom-web/studies/1.2/series/1.3/instances/{sop}/bulkdata/7FE00010"
    assert answer[PIXELS] == {"vr": "OW", "BulkDataURI": place}
    assert answer["00083002"]["Value"] == ["1.2.840.10008.1.2.1"]
    assert answer == kept(content)


def test_a_forged_host_cannot_write_json() -> None:
    written = b'{"x":"' + BASE + b'/a"}'
    assert json.loads(resolved(written, 'https://x","y":"z')) == {"x": "https://x,y:z/a"}


def test_a_deflated_instance_is_written_like_any_other() -> None:
    plain = encode(make_ct_instance())
    begin = 132 + 12 + struct.unpack_from("<I", plain, 140)[0]
    stream = zlib.compressobj(wbits=-15)
    deflated = plain[:begin].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    grown = len(deflated) - begin
    deflated = deflated[:140] + struct.pack("<I", begin - 144 + grown) + deflated[144:]
    at = deflated.index(b"1.2.840.10008.1.2.1.99")
    deflated = deflated[: at - 2] + struct.pack("<H", 22) + deflated[at:]
    mine = kept(deflated + stream.compress(plain[begin:]) + stream.flush())
    assert {name: each for name, each in mine.items() if name != "00083002"} == {
        name: each for name, each in kept(plain).items() if name != "00083002"
    }


def test_all_real_files_come_out_as_pydicom_reads_them() -> None:
    logging.disable(logging.CRITICAL)
    compared = attributes = 0
    # Explicit VR under UN, which pydicom reads as Implicit; and files that are cut short, as intake keeps none.
    garbled = {
        "GH626.dcm": {"2005140F"},
        "MR_truncated.dcm": {PIXELS},
        "rtplan_truncated.dcm": {"300A00B0"},
    }
    encoder = JsonEncoder()
    try:
        for path in sorted(shared_data(".").rglob("*")):
            try:
                read = dcmread(path)
                syntax = str(read.file_meta.TransferSyntaxUID)
            except Exception:  # noqa: BLE001, S112 (no DICOM file, or one that pydicom cannot read)
                continue
            theirs = as_the_table_says(reference_of(read))
            try:
                written = encoder.encode_instance(
                    BytesIO(path.read_bytes()), study_instance_uid="1", series_instance_uid="2"
                )
            except dicom_json.UnreadableInstance:  # File Meta that our own never lacks
                continue
            assert syntax
            mine = json.loads(resolved(written, "x"))
            wrong = [each for each in same(mine, theirs) if each[:8] not in garbled.get(path.name, set())]
            assert wrong == [], path.name
            compared, attributes = compared + 1, attributes + len(theirs)
    finally:
        logging.disable(logging.NOTSET)
    assert compared > 300
    assert attributes > 20_000
    assert config.settings.reading_validation_mode == config.IGNORE


def test_tags_of_this_test_have_the_vr_that_they_stand_for() -> None:
    for vr, tag in TAGS.items():
        assert vr == "UN" or dictionary_VR(tag) == vr, vr
