"""No text is ever damaged."""

from __future__ import annotations

import io

import pytest
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement

from inference.results.charset import UTF_8, as_ascii, choose
from inference.results.identity import COPIED, SourceIdentity
from tests.builders.findings import ct_headers, in_many_scripts, lungs
from tests.builders.result_sets import built, lung_set, texts
from tests.builders.shared_data import shared_data

SIGNS = "\u2265 0.01 L \u00b1 5 \u00b5L \u2013 \u201cquoted\u201d"


@pytest.mark.parametrize(
    ("declared", "copied", "generated", "chosen"),
    [
        ((), {"Test^Quiet"}, {"plain"}, ()),
        ((), {"Test^Quiet"}, {"\u2265 1"}, UTF_8),
        (("ISO_IR 100",), {"M\u00fcller"}, {"plain \u00b5 \u00b1"}, ("ISO_IR 100",)),
        (("ISO_IR 100",), {"M\u00fcller"}, {"\u2265 1"}, UTF_8),
        (("ISO_IR 100",), {"M\u00fcller"}, {"\u80ba"}, UTF_8),
        (("ISO_IR 144",), {"\u041b\u044e\u043a"}, {"plain"}, ("ISO_IR 144",)),
        (("ISO_IR 144",), {"\u041b\u044e\u043a"}, {"\u00b1 5"}, UTF_8),
        (("ISO_IR 192",), {"\u738b^\u5c0f\u6771"}, {"\u2265"}, UTF_8),
        (("GB18030",), {"\u738b^\u5c0f\u4e1c"}, {"plain"}, ("GB18030",)),
        (("GB18030",), {"\u738b^\u5c0f\u4e1c"}, {"\u80ba"}, UTF_8),
        (("", "ISO 2022 IR 87"), {"Yamada^Tarou=\u5c71\u7530^\u592a\u90ce"}, {"plain"}, ("", "ISO 2022 IR 87")),
        (("", "ISO 2022 IR 87"), {"Yamada"}, {"\u5c71"}, UTF_8),
        (("ISO_IR 999",), {"Test"}, {"plain"}, UTF_8),
    ],
)
def test_source_set_is_kept_only_if_everything_fits(
    declared: tuple[str, ...], copied: set[str], generated: set[str], chosen: tuple[str, ...]
) -> None:
    assert choose(declared, copied=copied, generated=generated) == chosen


def test_generated_text_becomes_ascii_without_losing_its_sense() -> None:
    assert as_ascii(SIGNS) == '>= 0.01 L +/- 5 uL - "quoted"'
    assert as_ascii("caf\u00e9") == "cafe"
    assert as_ascii("\u80ba") == "[U+80BA]"


@pytest.mark.parametrize("charset", ["ISO_IR 100", "ISO_IR 192", "ISO_IR 144", None])
def test_text_of_many_scripts_survives_whatever_the_source_declares(charset: str | None) -> None:
    headers = ct_headers(SpecificCharacterSet=charset)
    findings = in_many_scripts()
    read = texts(built(findings, evidence=headers).sr)
    assert set(findings.narrative) <= set(read)


def test_ascii_text_keeps_the_set_of_the_source() -> None:
    assert lung_set().sr.SpecificCharacterSet == "ISO_IR 100"


def test_default_repertoire_stays_undeclared() -> None:
    assert "SpecificCharacterSet" not in built(lungs(), evidence=ct_headers(SpecificCharacterSet=None)).sr


NAMES = [
    ("ISO_IR 100", "\u00c4neas^R\u00fcdiger"),
    ("ISO_IR 101", "Wa\u0142\u0119sa"),
    ("ISO_IR 144", "\u041b\u044e\u043ace\u043c\u0431yp\u0433"),
    ("ISO_IR 126", "\u0394\u03b9\u03bf\u03bd\u03c5\u03c3\u03b9\u03bf\u03c2"),
    ("ISO_IR 127", "\u0642\u0628\u0627\u0646\u064a^\u0644\u0646\u0632\u0627\u0631"),
    ("ISO_IR 138", "\u05e9\u05e8\u05d5\u05df^\u05d3\u05d1\u05d5\u05e8\u05d4"),
    ("ISO_IR 166", "\u0e19\u0e32\u0e22^\u0e01\u0e23"),
    ("GB18030", "Wang^XiaoDong=\u738b^\u5c0f\u4e1c"),
    ("ISO_IR 192", "Wang^XiaoDong=\u738b^\u5c0f\u6771"),
    (["", "ISO 2022 IR 87"], "Yamada^Tarou=\u5c71\u7530^\u592a\u90ce=\u3084\u307e\u3060^\u305f\u308d\u3046"),
    (["", "ISO 2022 IR 149"], "Hong^Gildong=\u6d2a^\u5409\u6d1e=\ud64d^\uae38\ub3d9"),
]


@pytest.mark.parametrize(("charset", "patient"), NAMES, ids=[str(charset) for charset, _ in NAMES])
@pytest.mark.parametrize("findings", [lungs(), in_many_scripts()], ids=["plain report", "many scripts"])
def test_patient_name_is_equal_in_every_set(charset: str | list[str], patient: str, findings: object) -> None:
    headers = [_stored(header) for header in ct_headers(SpecificCharacterSet=charset, PatientName=patient)]
    result = built(findings, evidence=headers)  # type: ignore[arg-type]
    assert str(result.sr.PatientName) == patient
    assert str(result.seg.PatientName) == patient


def test_undeclared_letters_are_copied_byte_for_byte_and_our_text_gives_way() -> None:
    headers = [
        _stored(header, b"Test^Quiet", b"M\xfcl^J\xf6rg\xdf ") for header in ct_headers(SpecificCharacterSet=None)
    ]
    result = built(in_many_scripts(), evidence=headers)
    assert b"M\xfcl^J\xf6rg\xdf " in result.part10("sr")
    assert "SpecificCharacterSet" not in result.sr
    assert all(text.isascii() for text in texts(result.sr))


def test_label_that_does_not_fit_the_bytes_is_kept_with_them() -> None:
    headers = [
        _stored(header, b"Test^Quiet", b"Test^Qui\xe9\xe9") for header in ct_headers(SpecificCharacterSet="ISO_IR 192")
    ]
    result = built(lungs(), evidence=headers)
    assert b"Test^Qui\xe9\xe9" in result.part10("sr")
    assert result.sr.SpecificCharacterSet == "ISO_IR 192"


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "file",
    [
        "chrArab", "chrFren", "chrFrenMulti", "chrGerm", "chrGreek", "chrH31", "chrH32", "chrHbrw", "chrI2",
        "chrJapMulti", "chrJapMultiExplicitIR6", "chrKoreanMulti", "chrRuss", "chrX1", "chrX2", "gb18030_chinese",
    ],
)  # fmt: skip
def test_names_of_foreign_files_are_equal_after_decoding(file: str) -> None:
    source = dcmread(shared_data("charsets", f"{file}.dcm"), stop_before_pixels=True)
    before = str(source.PatientName)
    target = Dataset()
    target.ContentDescription = "plain"
    identity = SourceIdentity(source)
    identity.put_into(target, COPIED)
    identity.write_character_set(target)
    target.set_original_encoding(False, True, target._character_set)
    read = dcmread(io.BytesIO(_bytes(target)), force=True)
    assert str(read.PatientName) == before
    assert "?" not in str(read.PatientName) or "?" in before


def _bytes(dataset: Dataset) -> bytes:
    target = io.BytesIO()
    dataset.save_as(target, implicit_vr=False, little_endian=True)
    return target.getvalue()


def _stored(dataset: Dataset, old: bytes = b"", new: bytes = b"") -> Dataset:
    """As it comes from disk: elements undecoded, some bytes replaced by others of the same length."""
    assert len(old) == len(new)
    read = dcmread(io.BytesIO(_bytes(dataset).replace(old, new) if old else _bytes(dataset)), force=True)
    assert isinstance(read.get_item("PatientName"), RawDataElement)
    return read
