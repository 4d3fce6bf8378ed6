"""The walk over encoded data sets: it believes no length, and goes no deeper than any real data set."""

from __future__ import annotations

import random
import struct

import pytest
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from storage.errors import UnreadableInstance
from storage.scan import PIXEL_DATA, BeyondBuffer, Encoding, scan
from tests.builders.ct import make_ct_instance

ENCODINGS = [
    Encoding(implicit=False, little=True),
    Encoding(implicit=True, little=True),
    Encoding(implicit=False, little=False),
]


def encoded(dataset: Dataset, encoding: Encoding) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = encoding.little, encoding.implicit
    write_dataset(buffer, dataset)
    return bytes(buffer.getvalue())


def tags(content: bytes, encoding: Encoding) -> list[int]:
    return [element.tag for element in scan(content, len(content), encoding)]


def with_sequences(*, depth: int, undefined: bool, padding: int = 0) -> Dataset:
    inner = Dataset()
    inner.CodeValue = "1"
    if padding:
        inner.ImageComments = "x" * padding
    for _ in range(depth):
        outer = Dataset()
        outer.ConceptCodeSequence = Sequence([inner])
        outer["ConceptCodeSequence"].is_undefined_length = undefined
        inner = outer
    made = make_ct_instance()
    made.RequestAttributesSequence = Sequence([inner])
    made["RequestAttributesSequence"].is_undefined_length = undefined
    return made


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("undefined", [True, False])
def test_the_top_level_elements_are_found_in_order(encoding: Encoding, undefined: bool) -> None:
    made = with_sequences(depth=3, undefined=undefined, padding=3000)
    assert tags(encoded(made, encoding), encoding) == [int(element.tag) for element in made]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("undefined", [True, False])
def test_real_nesting_is_taken_and_absurd_nesting_refused(encoding: Encoding, undefined: bool) -> None:
    assert tags(encoded(with_sequences(depth=40, undefined=undefined), encoding), encoding)[-1] == PIXEL_DATA
    with pytest.raises(UnreadableInstance, match="deeper"):
        tags(encoded(with_sequences(depth=90, undefined=undefined), encoding), encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_nesting_of_both_kinds_counts_together(encoding: Encoding) -> None:
    made = with_sequences(depth=90, undefined=False)
    made["RequestAttributesSequence"].is_undefined_length = True
    with pytest.raises(UnreadableInstance, match="deeper"):
        tags(encoded(made, encoding), encoding)


def test_a_long_value_that_looks_like_a_sequence_is_none_where_its_vr_says_so() -> None:
    made = make_ct_instance()
    made.EncapsulatedDocument = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" * 4000
    assert tags(encoded(made, ENCODINGS[0]), ENCODINGS[0])[-1] == PIXEL_DATA


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("undefined", [True, False])
def test_a_data_set_cut_anywhere_ends_at_an_element_or_is_refused(encoding: Encoding, undefined: bool) -> None:
    whole = encoded(with_sequences(depth=3, undefined=undefined), encoding)
    ends = {element.offset + element.length for element in scan(whole, len(whole), encoding)}
    for cut in range(len(whole)):
        try:
            tags(whole[:cut], encoding)
        except UnreadableInstance:
            continue
        assert cut in ends or cut == 0


@pytest.mark.parametrize("length", [0xFFFFFFFE, 0x7FFFFFFF, 100_000, 0xFFFFFFFF])
def test_a_length_that_lies_is_refused(length: int) -> None:
    content = b"\x08\x00\x05\x00OB\0\0" + struct.pack("<I", length) + b"x" * 50
    with pytest.raises(UnreadableInstance):
        tags(content, ENCODINGS[0])


def test_what_the_buffer_does_not_hold_is_asked_for() -> None:
    whole = encoded(make_ct_instance(), ENCODINGS[0])
    with pytest.raises(BeyondBuffer):
        list(scan(whole[:50], len(whole), ENCODINGS[0]))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_no_mutation_makes_the_walk_fail_otherwise_or_go_on_for_ever(encoding: Encoding) -> None:
    chance = random.Random(17)
    whole = encoded(with_sequences(depth=3, undefined=True, padding=2000), encoding)
    for _ in range(400):
        mutated = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            mutated[chance.randrange(len(mutated))] = chance.choice((0, 0xFF, 0xFE, 0xE0, chance.randrange(256)))
        try:
            assert len(tags(bytes(mutated), encoding)) <= len(mutated)
        except UnreadableInstance:
            continue
