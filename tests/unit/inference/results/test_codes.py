"""The code table against pydicom's dictionary."""

from __future__ import annotations

import pytest

from inference.findings import Code
from inference.results import codes

NAMED = {name: value for name, value in vars(codes).items() if isinstance(value, Code)}


@pytest.mark.parametrize("name", sorted(NAMED))
def test_every_named_code_is_in_the_dictionary_or_stands_beside_it_with_its_source(name: str) -> None:
    code = NAMED[name]
    assert codes.in_dictionary(code) != (code in codes.BEYOND_PYDICOM)


@pytest.mark.parametrize("code", codes.BEYOND_PYDICOM, ids=str)
def test_code_beyond_the_dictionary_names_its_source(code: Code) -> None:
    _, source = codes.BEYOND_PYDICOM[code]
    assert source
    assert not codes.in_dictionary(code)


def test_right_code_under_a_wrong_meaning_is_not_known() -> None:
    assert codes.is_known(Code("24028007", "SCT", "Right"))
    assert not codes.is_known(Code("24028007", "SCT", "Left"))


def test_meanings_fit_their_value_representation() -> None:
    assert all(len(code.meaning) <= 64 and len(code.value) <= 16 for code in codes.BEYOND_PYDICOM)


@pytest.mark.parametrize("unit", ["mm", "mm2", "mm3", "cm3", "L", "mL", "%", "[hnsf'U]", "1", "{ratio}"])
def test_units_in_use_are_ucum(unit: str) -> None:
    assert codes.is_unit(Code(unit, "UCUM", unit))


def test_unit_of_another_scheme_or_unknown_is_none() -> None:
    assert not codes.is_unit(Code("mm", "SCT", "mm"))
    assert not codes.is_unit(Code("furlong", "UCUM", "furlong"))


def test_modalities_are_coded() -> None:
    assert codes.modality_code("CT") == Code("CT", "DCM", "Computed Tomography")
    assert codes.modality_code("XYZ") is None
