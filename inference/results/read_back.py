"""Outlines read back from the encoded object and compared with the findings, voxel by voxel."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydicom import Dataset

from inference.errors import UnusableAnswer
from inference.findings import Findings, Mask, Segment
from inference.results.elements import first_of
from inference.results.evidence import Evidence
from inference.results.frames import frame_facts
from inference.results.read import planes_in, source_of


def check_masks(findings: Findings, seg: Dataset, evidence: Evidence) -> None:
    """Let a segmentation pass that outlines what the findings outline, slice for slice, and nothing else.

    Raises
    ------
    UnusableAnswer
        It does not.
    """
    labels = {str(item.SegmentLabel): int(item.SegmentNumber) for item in seg.SegmentSequence}
    numbered = {labels[segment.label]: segment for segment in findings.segments if segment.label in labels}
    missing = [segment.label for segment in findings.segments if segment.outlined.any() and segment.label not in labels]
    drawn = _differing(seg, evidence, numbered) if len(numbered) == len(labels) else missing
    if missing or drawn:
        raise UnusableAnswer(f"the outline of {(missing or drawn)[0]!r} was not encoded as it is")


def _differing(seg: Dataset, evidence: Evidence, numbered: Mapping[int, Segment]) -> list[str]:
    """Labels of segments whose frames are not what was outlined."""
    names = [(str(header.SOPInstanceUID), n or 1) for header, n in zip(evidence, evidence.frame_numbers, strict=True)]
    index = {name: place for place, name in enumerate(names)}
    shared = first_of(first_of(seg, "SharedFunctionalGroupsSequence"), "SegmentIdentificationSequence")
    alone = shared.get("ReferencedSegmentNumber")
    is_map = seg.SegmentationType == "LABELMAP"
    places: dict[int, list[int]] = {number: [] for number in numbered}
    other: list[str] = []
    for facts, plane in zip(frame_facts(seg), planes_in(seg), strict=True):
        place = index.get(source_of(facts), -1)
        number = alone if facts.segment_number is None else facts.segment_number
        of_frame = [n for n in numbered if place >= 0 and (numbered[n].outlined[place] if is_map else n == number)]
        if not of_frame:  # it shows what was not outlined, or no image that we know
            return [next(iter(numbered.values())).label]
        for each in of_frame:
            places[each].append(place)
            box = numbered[each].box[1:] if is_map else ...  # all of a label map is counted below
            shown = plane[box] == each if is_map else plane.view(np.bool_)
            if not np.array_equal(shown, numbered[each].mask[place][box]):
                other.append(numbered[each].label)
        if is_map and np.count_nonzero(plane) != _voxels(numbered, of_frame, place):
            other.append(numbered[of_frame[0]].label)
    other += [numbered[n].label for n, found in places.items() if sorted(found) != _slices(numbered[n].outlined)]
    return other


def _voxels(numbered: Mapping[int, Segment], of_frame: list[int], place: int) -> int:
    return sum(int(np.count_nonzero(numbered[number].mask[place][numbered[number].box[1:]])) for number in of_frame)


def _slices(outlined: Mask) -> list[int]:
    return [int(place) for place in np.flatnonzero(outlined)]
