"""Findings as bytes: what is stored once, and every result is made from.

A header of canonical JSON, then one block per mask: its bounding box only, one bit per voxel, deflated.
No pickle: reading never runs anything, and never takes more memory than the header honestly announces.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from inference.errors import UnusableAnswer
from inference.findings import (
    Code,
    Findings,
    ImageLocation,
    Mask,
    Measurement,
    MeasurementGroup,
    NotComputed,
    Observed,
    Qualitative,
    Segment,
    SpaceLocation,
)

#: Name of the form and its version.
MAGIC = b"DNFINDINGS\x00\x01"
_HEADER = struct.Struct("<QQ")  # bytes of the deflated and of the inflated JSON
_BLOCK = struct.Struct("<Q")  # bytes of a deflated mask

#: Bounds of what is read: far beyond any study, far below what would hurt.
MOST_JSON_BYTES = 64 << 20
MOST_SEGMENTS = 4096
MOST_VOXELS = 1 << 31


def encode_findings(
    findings: Findings, sop_instance_uids: Sequence[str], frame_numbers: Sequence[int | None] = ()
) -> bytes:
    """Encode findings and the instances that their masks' slices belong to; the same in, the same out.

    Parameters
    ----------
    sop_instance_uids
        Source instance of each slice, in the masks' order; of a refusal the considered ones.
    frame_numbers
        Frame of each slice in its instance, from 1; None, or nothing at all: of a single-frame image.

    Raises
    ------
    UnusableAnswer
        A number is not finite, a mask is no three-dimensional bool array, or masks differ in shape.
    """
    blocks = []
    segments = []
    for segment in findings.segments:
        described, block = _encode_segment(segment)
        segments.append(described)
        blocks.append(block)
    if len({tuple(described["shape"]) for described in segments}) > 1:
        raise UnusableAnswer("masks of one answer differ in shape")
    said: dict[str, Any] = {
        "summary": findings.summary,
        "segments": segments,
        "groups": [_group_value(group) for group in findings.groups],
        "qualitative": [_pair(answer) for answer in findings.qualitative],
        "observed": [_observed_value(one) for one in findings.observed],
        "narrative": list(findings.narrative),
        "refusal": findings.refusal,
        "facts": [[name, value] for name, value in findings.facts],
        "sop_instance_uids": list(sop_instance_uids),
    }
    if any(number is not None for number in frame_numbers):
        said["frame_numbers"] = list(frame_numbers)
    try:
        text = json.dumps(said, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
        written = text.encode("utf-8")
    except (TypeError, ValueError) as error:
        raise UnusableAnswer("the answer holds a value that JSON cannot: not finite, or no plain value") from error
    packed = zlib.compress(written, 6)
    parts = [MAGIC, _HEADER.pack(len(packed), len(written)), packed]
    for block in blocks:
        parts += [_BLOCK.pack(len(block)), block]
    return b"".join(parts)


def decode_findings(content: bytes) -> tuple[Findings, tuple[str, ...]]:
    """Decode stored findings and the instances of their slices.

    Raises
    ------
    UnusableAnswer
        The bytes are no findings, of another version, damaged, or of an absurd size.
    """
    try:
        said, position = _header(content)
        if len(said["segments"]) > MOST_SEGMENTS:
            raise UnusableAnswer(f"stored findings have more than {MOST_SEGMENTS} segments")
        segments = []
        for described in said["segments"]:
            (length,) = _BLOCK.unpack_from(content, position)
            position += _BLOCK.size
            segments.append(_decode_segment(described, content[position : position + length]))
            position += length
        if position != len(content):
            raise UnusableAnswer("stored findings have another length than they say")
        return _findings(said, tuple(segments)), tuple(str(uid) for uid in said["sop_instance_uids"])
    except (struct.error, zlib.error, KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
        raise UnusableAnswer("stored findings cannot be read: they are damaged") from error


def frame_numbers_of(content: bytes) -> tuple[int | None, ...]:
    """Frame of each slice in its instance, of stored findings; empty: all images have one frame.

    Raises
    ------
    UnusableAnswer
        The bytes are no findings.
    """
    try:
        said, _ = _header(content)
        return tuple(None if number is None else int(number) for number in said.get("frame_numbers", ()))
    except (struct.error, zlib.error, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UnusableAnswer("stored findings cannot be read: they are damaged") from error


def _header(content: bytes) -> tuple[dict[str, Any], int]:
    if content[: len(MAGIC)] != MAGIC:
        raise UnusableAnswer("these are no stored findings, or of another version")
    packed_size, size = _HEADER.unpack_from(content, len(MAGIC))
    start = len(MAGIC) + _HEADER.size
    if size > MOST_JSON_BYTES or start + packed_size > len(content):
        raise UnusableAnswer("stored findings announce an absurd size")
    said = json.loads(_inflate(content[start : start + packed_size], size).decode("utf-8"))
    if not isinstance(said, dict):
        raise UnusableAnswer("stored findings cannot be read: they are damaged")
    return said, start + packed_size


def _inflate(packed: bytes, size: int) -> bytes:
    """Inflate to exactly this many bytes, and never more."""
    inflater = zlib.decompressobj()
    inflated = inflater.decompress(packed, size + 1)
    if len(inflated) != size or not inflater.eof or inflater.unused_data:
        raise UnusableAnswer("stored findings have another length than they say")
    return inflated


def _encode_segment(segment: Segment) -> tuple[dict[str, Any], bytes]:
    mask = segment.mask
    if mask.ndim != 3 or mask.dtype != np.bool_:
        raise UnusableAnswer(f"the mask of {segment.label!r} is no three-dimensional bool array")
    box = _bounding_box(mask)
    part = mask[tuple(slice(start, stop) for start, stop in box)]
    described = {
        "label": segment.label,
        "category": _code_value(segment.category),
        "type": _code_value(segment.type),
        "laterality": _code_value(segment.laterality),
        "tracking_id": segment.tracking_id,
        "colour": [int(value) for value in segment.colour],
        "shape": [int(size) for size in mask.shape],
        "box": box,
    }
    return described, zlib.compress(np.packbits(part, axis=None).tobytes(), 6)


def _bounding_box(mask: Mask) -> list[list[int]]:
    """First and one past the last index of what is set, on each axis; an empty mask has an empty box."""
    box = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        found = np.flatnonzero(mask.any(axis=others))
        box.append([int(found[0]), int(found[-1]) + 1] if found.size else [0, 0])
    return box


def _decode_segment(described: dict[str, Any], packed: bytes) -> Segment:
    shape = tuple(int(size) for size in described["shape"])
    box = [(int(start), int(stop)) for start, stop in described["box"]]
    if len(shape) != 3 or min(shape) < 0 or math.prod(shape) > MOST_VOXELS:
        raise UnusableAnswer("stored findings announce an absurd size")
    if len(box) != 3 or any(not 0 <= start <= stop <= size for (start, stop), size in zip(box, shape, strict=True)):
        raise UnusableAnswer("stored findings cannot be read: they are damaged")
    part_shape = tuple(stop - start for start, stop in box)
    voxels = math.prod(part_shape)
    bits = np.frombuffer(_inflate(packed, (voxels + 7) // 8), dtype=np.uint8)
    mask = np.zeros(shape, dtype=np.bool_)
    part = np.unpackbits(bits, count=voxels).reshape(part_shape).view(np.bool_)
    mask[tuple(slice(start, stop) for start, stop in box)] = part
    red, green, blue = (int(value) for value in described["colour"])
    return Segment(
        label=str(described["label"]),
        category=_code(described["category"]),
        type=_code(described["type"]),
        laterality=_maybe_code(described["laterality"]),
        mask=mask,
        tracking_id=str(described["tracking_id"]),
        colour=(red, green, blue),
    )


def _findings(said: dict[str, Any], segments: tuple[Segment, ...]) -> Findings:
    return Findings(
        summary=str(said["summary"]),
        segments=segments,
        groups=tuple(_group(value) for value in said["groups"]),
        qualitative=tuple(_pairs(said["qualitative"])),
        observed=tuple(_observed(value) for value in said.get("observed", ())),  # absent in findings of before
        narrative=tuple(str(text) for text in said["narrative"]),
        refusal=None if said["refusal"] is None else str(said["refusal"]),
        facts=tuple((str(name), value) for name, value in said["facts"]),
    )


def _group_value(group: MeasurementGroup) -> dict[str, Any]:
    return {
        "tracking_id": group.tracking_id,
        "finding": _code_value(group.finding),
        "site": _code_value(group.site),
        "laterality": _code_value(group.laterality),
        "segments": list(group.segments),
        "measurements": [_measurement_value(figure) for figure in group.measurements],
        "not_computed": [
            [_code_value(withheld.name), _code_value(withheld.unit), withheld.reason] for withheld in group.not_computed
        ],
        "qualitative": [_pair(answer) for answer in group.qualitative],
        "location": _location_value(group.location),
    }


def _measurement_value(figure: Measurement) -> list[Any]:
    return [
        _code_value(figure.name),
        float(figure.value),
        _code_value(figure.unit),
        _code_value(figure.method),
        _code_value(figure.derivation),
        figure.caution,
    ]


def _group(value: dict[str, Any]) -> MeasurementGroup:
    return MeasurementGroup(
        tracking_id=str(value["tracking_id"]),
        finding=_code(value["finding"]),
        site=_code(value["site"]),
        laterality=_maybe_code(value["laterality"]),
        segments=tuple(str(label) for label in value["segments"]),
        measurements=tuple(
            Measurement(_code(name), float(number), _code(unit), _maybe_code(method), _maybe_code(derivation), caution)
            for name, number, unit, method, derivation, caution in value["measurements"]
        ),
        not_computed=tuple(
            NotComputed(_code(name), _code(unit), reason) for name, unit, reason in value["not_computed"]
        ),
        qualitative=tuple(_pairs(value["qualitative"])),
        location=_location(value.get("location")),
    )


def _observed_value(one: Observed) -> list[Any]:
    return [
        _code_value(one.finding),
        one.presence,
        one.tracking_id,
        _code_value(one.site),
        _code_value(one.laterality),
        one.score,
        one.threshold,
    ]


def _observed(value: Sequence[Any]) -> Observed:
    finding, presence, tracking_id, site, laterality, score, threshold = value
    if presence not in ("present", "absent", "indeterminate"):
        raise ValueError(presence)
    return Observed(
        _code(finding),
        presence,
        str(tracking_id),
        _maybe_code(site),
        _maybe_code(laterality),
        None if score is None else float(score),
        None if threshold is None else float(threshold),
    )


def _location_value(location: ImageLocation | SpaceLocation | None) -> dict[str, Any] | None:
    if location is None:
        return None
    return {name: getattr(location, name) for name in location.__dataclass_fields__}


def _location(value: dict[str, Any] | None) -> ImageLocation | SpaceLocation | None:
    if value is None:
        return None
    said = {**value, "points": tuple(tuple(float(each) for each in point) for point in value["points"])}
    return ImageLocation(**said) if "sop_instance_uid" in value else SpaceLocation(**said)


def _pair(answer: Qualitative) -> list[Any]:
    return [_code_value(answer.name), _code_value(answer.value)]


def _pairs(values: Sequence[Any]) -> Iterator[Qualitative]:
    for name, value in values:
        yield Qualitative(_code(name), _code(value))


def _code_value(code: Code | None) -> list[str] | None:
    return None if code is None else [code.value, code.scheme, code.meaning]


def _code(value: Sequence[str]) -> Code:
    code, scheme, meaning = value
    return Code(str(code), str(scheme), str(meaning))


def _maybe_code(value: Sequence[str] | None) -> Code | None:
    return None if value is None else _code(value)
