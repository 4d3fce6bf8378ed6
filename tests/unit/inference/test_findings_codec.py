"""Findings as stored bytes."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from inference.errors import UnusableAnswer
from inference.findings import Findings, Measurement, Qualitative
from inference.findings_codec import MAGIC, decode_findings, encode_findings, frame_numbers_of
from inference.results import codes
from tests.builders.findings import in_many_scripts, lungs, marked, refused

UIDS = tuple(f"1.2.3.{index}" for index in range(12))


def same(one: Findings, other: Findings) -> bool:
    bare = [replace(findings, segments=()) for findings in (one, other)]
    pairs = zip(one.segments, other.segments, strict=True)
    empty = np.zeros((0, 0, 0), dtype=np.bool_)
    return bare[0].__dict__ == bare[1].__dict__ and all(
        np.array_equal(a.mask, b.mask)
        and a.mask.dtype == b.mask.dtype
        and {**a.__dict__, "mask": 0} == {**b.__dict__, "mask": 0}
        and replace(a, mask=empty).label == b.label
        for a, b in pairs
    )


@pytest.mark.parametrize(
    "findings", [lungs(), refused(), in_many_scripts(), marked()], ids=["lungs", "refusal", "scripts", "marks"]
)
def test_findings_come_back_as_they_went(findings: Findings) -> None:
    read, uids = decode_findings(encode_findings(findings, UIDS))
    assert same(read, findings)
    assert uids == UIDS


def test_answers_come_back_too() -> None:
    present = Qualitative(codes.LUNG, codes.Code("52101004", "SCT", "Present"))
    group = replace(lungs().groups[0], qualitative=(present,))
    findings = lungs(qualitative=(present,), groups=(group,))
    assert same(decode_findings(encode_findings(findings, UIDS))[0], findings)


def test_same_findings_give_the_same_bytes() -> None:
    assert encode_findings(lungs(), UIDS) == encode_findings(lungs(), UIDS)


def test_masks_take_little_room() -> None:
    assert len(encode_findings(lungs(), UIDS)) < 8000 < lungs().segments[0].mask.nbytes


@pytest.mark.parametrize("fill", [False, True])
def test_empty_and_full_masks_come_back(fill: bool) -> None:
    mask = np.full((3, 5, 7), fill, dtype=np.bool_)
    findings = replace(lungs(), segments=(replace(lungs().segments[0], mask=mask),))
    assert np.array_equal(decode_findings(encode_findings(findings, UIDS))[0].segments[0].mask, mask)


def test_floats_come_back_exactly() -> None:
    value = 0.1 + 0.2
    group = replace(lungs().groups[0], measurements=(Measurement(codes.VOLUME, value, codes.LITRE),))
    read, _ = decode_findings(encode_findings(lungs(groups=(group,)), UIDS))
    assert read.groups[0].measurements[0].value == value


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_number_that_is_none_is_refused(value: float) -> None:
    group = replace(lungs().groups[0], measurements=(Measurement(codes.VOLUME, value, codes.LITRE),))
    with pytest.raises(UnusableAnswer):
        encode_findings(lungs(groups=(group,)), UIDS)


def test_mask_that_is_no_bool_array_is_refused() -> None:
    findings = replace(
        lungs(),
        segments=(replace(lungs().segments[0], mask=np.zeros((2, 2, 2), dtype=np.uint8)),),  # type: ignore[arg-type]
    )
    with pytest.raises(UnusableAnswer, match="bool"):
        encode_findings(findings, UIDS)


def test_masks_of_different_shapes_are_refused() -> None:
    first, second = lungs().segments
    findings = replace(lungs(), segments=(first, replace(second, mask=second.mask[:3])))
    with pytest.raises(UnusableAnswer, match="shape"):
        encode_findings(findings, UIDS)


def test_other_bytes_are_refused() -> None:
    for content in (b"", b"\x80\x04\x95pickle", MAGIC, MAGIC + bytes(10)):
        with pytest.raises(UnusableAnswer):
            decode_findings(content)


def test_every_cut_is_refused() -> None:
    content = encode_findings(lungs(), UIDS)
    for length in range(0, len(content), 97):
        with pytest.raises(UnusableAnswer):
            decode_findings(content[:length])
    with pytest.raises(UnusableAnswer):
        decode_findings(content + b"\0")


def test_altered_bytes_are_refused_or_read_never_worse() -> None:
    content = bytearray(encode_findings(lungs(), UIDS))
    for position in range(0, len(content), 13):
        altered = bytearray(content)
        altered[position] ^= 0xFF
        try:
            decode_findings(bytes(altered))
        except UnusableAnswer:
            continue


def test_announced_sizes_beyond_reason_are_refused_before_memory_is_taken() -> None:
    with pytest.raises(UnusableAnswer, match="absurd"):
        decode_findings(MAGIC + struct.pack("<QQ", 5, 1 << 62) + b"abcde")
    with pytest.raises(UnusableAnswer, match="absurd"):
        decode_findings(with_shape([1 << 20, 1 << 20, 1 << 20]))


def test_bomb_is_not_inflated_beyond_what_it_announces() -> None:
    bomb = zlib.compress(bytes(100_000_000), 9)
    with pytest.raises(UnusableAnswer, match="another length"):
        decode_findings(MAGIC + struct.pack("<QQ", len(bomb), 1000) + bomb)


def with_shape(shape: list[int]) -> bytes:
    """Stored findings whose header announces masks of this shape."""
    content = encode_findings(lungs(), UIDS)
    start = len(MAGIC) + 16
    packed_size, _ = struct.unpack_from("<QQ", content, len(MAGIC))
    said: dict[str, Any] = json.loads(zlib.decompress(content[start : start + packed_size]))
    for segment in said["segments"]:
        segment["shape"] = shape
    written = json.dumps(said).encode()
    packed = zlib.compress(written)
    return MAGIC + struct.pack("<QQ", len(packed), len(written)) + packed + content[start + packed_size :]


def test_frames_of_multi_frame_images_are_kept_beside_them() -> None:
    frames = tuple(range(12, 0, -1))
    content = encode_findings(lungs(), ["1.2.3"] * 12, frames)
    assert frame_numbers_of(content) == frames
    assert decode_findings(content)[1] == ("1.2.3",) * 12


def test_images_of_one_frame_have_no_frame_numbers() -> None:
    assert frame_numbers_of(encode_findings(lungs(), UIDS)) == ()
    assert encode_findings(lungs(), UIDS, [None] * 12) == encode_findings(lungs(), UIDS)
    with pytest.raises(UnusableAnswer):
        frame_numbers_of(b"something else")
