# ruff: noqa: RUF001 (letters of other scripts are the subject)
from __future__ import annotations

import unicodedata
from io import BytesIO

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from storage.charset import read_as
from storage.header import Header, read_header
from storage.part10 import read_file_meta
from tests.builders.ct import encode, make_ct_instance
from tests.builders.shared_data import shared_data

MUEDE, WANG, YAMADA = "Müde^Test", "Wang^XiaoDong=王^小东", "Yamada^Tarou=山田^太郎=やまだ^たろう"


def header_of(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> Header:
    file = BytesIO(encode(dataset, syntax))
    meta = read_file_meta(file)
    body = file.read()
    return read_header(body, len(body), meta.transfer_syntax_uid)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("ISO_IR 100", MUEDE),
        ("ISO_IR 101", "Dvořák^Test"),
        ("ISO_IR 109", "Ĝoja^Test"),
        ("ISO_IR 110", "Ķēniņš^Test"),
        ("ISO_IR 126", "Διονυσιος^Τεστ"),
        ("ISO_IR 127", "قباني^لنزار"),
        ("ISO_IR 138", "שרון^דבורה"),
        ("ISO_IR 144", "Люкceмбypг^Тест"),
        ("ISO_IR 148", "Çağlar^Test"),
        ("ISO_IR 166", "สมชาย^ทดสอบ"),
        ("ISO_IR 13", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
        ("ISO_IR 192", WANG),
        ("GB18030", WANG),
        ("GBK", WANG),
        (["", "ISO 2022 IR 87"], YAMADA),
        (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        (["ISO 2022 IR 100", "ISO 2022 IR 144"], "Müde^Люкceм"),
    ],
)
def test_names_are_read_as_their_label_says(label: str | list[str], name: str, syntax: str) -> None:
    header = header_of(make_ct_instance(SpecificCharacterSet=label, PatientName=name), syntax)
    assert (header.text("PatientName"), header.note) == (unicodedata.normalize("NFC", name), "")


@pytest.mark.parametrize(
    ("label", "raw", "name"),
    [
        ("ISO 2022 IR 58", b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab ", "Zhang^XiaoDong=张^小东"),
        ("ISO 2022 IR 159", b"Test^Quiet=\x1b$(D\x30\x21\x1b(B", "Test^Quiet=丂"),
    ],
)
def test_names_with_escape_sequences_are_read_without_them(label: str, raw: bytes, name: str) -> None:
    placeholder = "P" * len(raw)
    file = encode(make_ct_instance(SpecificCharacterSet=["", label], PatientName=placeholder))
    body = BytesIO(file.replace(placeholder.encode(), raw))
    meta = read_file_meta(body)
    rest = body.read()
    header = read_header(rest, len(rest), meta.transfer_syntax_uid)
    assert (header.text("PatientName"), header.note) == (name, "")


@pytest.mark.parametrize(
    ("label", "text", "codec", "taken"),
    [
        (b"ISO_IR 100", MUEDE.encode(), "UTF8", "UTF-8"),
        (b"ISO_IR 144", MUEDE.encode(), "UTF8", "UTF-8"),
        (b"", MUEDE.encode(), "UTF8", "UTF-8"),
        (b"", MUEDE.encode("latin_1"), "latin_1", "ISO 8859-1"),
        (b"ISO_IR 192", MUEDE.encode("latin_1"), "latin_1", "ISO 8859-1"),
        (b"GB18030", b"\xff\xff", "latin_1", "ISO 8859-1"),
        (b"NO SUCH SET", MUEDE.encode(), "UTF8", "UTF-8"),
        (b"NO SUCH SET", MUEDE.encode("latin_1"), "latin_1", "ISO 8859-1"),
        (b"ISO-IR 192", MUEDE.encode(), "UTF8", "UTF8"),
        (b"iso_ir_100 ", MUEDE.encode("latin_1"), "latin_1", "latin_1"),
        (b"UTF-8", WANG.encode(), "UTF8", "UTF8"),
        (b"WINDOWS-1252", "Müde–Test".encode("cp1252"), "cp1252", "cp1252"),
        (b"GB18030\\ISO 2022 IR 87", WANG.encode("gb18030"), "GB18030", "GB18030"),
    ],
)
def test_wrong_labels_are_tolerated_and_noted(label: bytes, text: bytes, codec: str, taken: str) -> None:
    reading = read_as(label, [text])
    assert reading.codecs == (codec,)
    assert reading.note.endswith(f"the text is read as {taken}.")
    assert "Test" not in reading.note


def test_a_label_that_no_text_needs_is_not_judged_by_it() -> None:
    assert read_as(b"ISO_IR 100", [b"Test^Quiet"]).codecs == ("latin_1",)
    assert read_as(b"", [b"Test^Quiet", b""]).note == ""
    assert read_as(b"\\ISO 2022 IR 87\\ISO_IR 192", [b"Test"]).codecs == ("iso8859", "iso2022_jp")


def test_a_note_shows_no_control_characters() -> None:
    assert read_as(b"\x1b[31m\r\nX" * 40, []).note.count("?") > 3
    assert len(read_as(b"X" * 5000, []).note) < 160


def test_text_is_kept_in_normal_form_c() -> None:
    apart = unicodedata.normalize("NFD", "Müde^Test")
    header = header_of(make_ct_instance(PatientName=apart, StudyDescription=apart))
    assert header.text("PatientName") == header.text("StudyDescription") == "Müde^Test"
    assert "Müde^Test" in header.json(("PatientName", "StudyDescription"))


def test_real_files_of_many_character_sets_are_read_as_pydicom_reads_them() -> None:
    files = sorted(shared_data("charsets").glob("*.dcm"))
    assert len(files) >= 18
    for path in files:
        with path.open("rb") as file:
            meta = read_file_meta(file)
            body = file.read()
        header = read_header(body, len(body), meta.transfer_syntax_uid)
        expected = unicodedata.normalize("NFC", str(dcmread(path).get("PatientName", "")))
        assert (header.text("PatientName"), header.note) == (expected, ""), path.name
