"""Which of the used images show best what was found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.findings import Findings, ImageLocation
from inference.results.evidence import Evidence

#: Images that are chosen where nothing is asked.
USUAL = 3


@dataclass(frozen=True)
class KeyImage:
    """One of the used images, and what it shows."""

    index: int
    """Into the evidence, the order of the masks' slices."""
    shows: tuple[str, ...]
    """Labels of the segments on it."""


def key_images(findings: Findings, evidence: Evidence, most: int = USUAL) -> tuple[KeyImage, ...]:
    """Choose images in their order: those with marks first, then evenly through what is outlined, else the middle.

    The same findings always give the same images.
    """
    marked = _marked(findings, evidence)
    areas = _areas(findings, len(evidence))
    outlined = np.flatnonzero(areas)
    chosen = list(dict.fromkeys(marked))[:most]
    for share in _shares(most - len(chosen)):
        if outlined.size:
            index = int(outlined[round(share * (outlined.size - 1))])
            if index not in chosen:
                chosen.append(index)
    if not chosen:
        chosen = [len(evidence) // 2]
    return tuple(KeyImage(index, _labels(findings, index)) for index in sorted(chosen))


def _shares(count: int) -> list[float]:
    """Evenly spread places between 0 and 1, without the ends."""
    return [(place + 0.5) / count for place in range(count)]


def is_on(place: ImageLocation, sop_instance_uid: str, frame_number: int | None) -> bool:
    """Tell whether a mark lies on an image, or on this frame of it; one that names no frame lies on all."""
    return place.sop_instance_uid == sop_instance_uid and place.frame_number in (None, frame_number)


def _marked(findings: Findings, evidence: Evidence) -> list[int]:
    """Indices of images with marks, in the order of the marks."""
    index: dict[tuple[str, int | None], int] = {}
    for at, (header, number) in enumerate(zip(evidence, evidence.frame_numbers, strict=True)):
        index.setdefault((str(header.SOPInstanceUID), number), at)
        index.setdefault((str(header.SOPInstanceUID), None), at)
    places = (group.location for group in findings.groups)
    named = ((place.sop_instance_uid, place.frame_number) for place in places if isinstance(place, ImageLocation))
    return [index[name] for name in named if name in index]


def _areas(findings: Findings, count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    total = np.zeros(count, dtype=np.int64)
    for segment in findings.segments:
        if segment.mask.shape[0] == count:
            total += segment.mask.sum(axis=(1, 2))
    return total


def _labels(findings: Findings, index: int) -> tuple[str, ...]:
    return tuple(
        segment.label for segment in findings.segments if index < segment.mask.shape[0] and segment.mask[index].any()
    )
