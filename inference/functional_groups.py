"""Frames of a multi-frame image, each with a header as a single-frame image would have it.

Source: PS3.3 C.7.6.16 (functional groups), C.8.15 (enhanced CT), C.8.13 (enhanced MR), A.70, A.71 (legacy converted).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydicom import Dataset

#: Functional groups whose one item says of a frame what a single-frame image says at its top level.
#: Source: PS3.3 C.7.6.16.2 (macros), C.8.15.3, C.8.13.5 and C.7.6.16.2.25, .26 (what legacy conversion left over).
_GROUPS = (
    *("UnassignedSharedConvertedAttributesSequence", "UnassignedPerFrameConvertedAttributesSequence"),
    *("PixelMeasuresSequence", "PlanePositionSequence", "PlaneOrientationSequence"),
    *("PixelValueTransformationSequence", "FrameVOILUTSequence", "FrameContentSequence"),
    *("CTImageFrameTypeSequence", "MRImageFrameTypeSequence", "PETFrameTypeSequence"),
    *("CTReconstructionSequence", "CTExposureSequence", "CTPositionSequence"),
    *("ContrastBolusUsageSequence",),
)
_PER_FRAME, _SHARED = "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"


def is_multi_frame(header: Dataset) -> bool:
    """Tell whether an image has frames with functional groups, or more than one frame."""
    try:
        return _PER_FRAME in header or int(header.get("NumberOfFrames") or 1) > 1
    except (TypeError, ValueError):
        return False


def frame_headers(header: Dataset) -> tuple[Dataset, ...]:
    """Give one header per frame, in the order of the frames.

    Each has the image's attributes and, over them, those that the shared and the frame's own functional groups say;
    the functional groups themselves are left out. An image without functional groups gives one header for all frames.
    """
    base = _copy(header)
    per_frame = header.get(_PER_FRAME)
    shared = header.get(_SHARED) or ()
    for keyword in (_PER_FRAME, _SHARED):
        if keyword in base:
            del base[keyword]
    base = _with_groups(base, shared)
    if per_frame is None:
        return (base,)
    return tuple(_with_groups(base, (item,)) for item in per_frame)


def _copy(header: Dataset) -> Dataset:
    # Dataset(header) would share its elements with the original.
    return Dataset(dict(header.items()))


def _with_groups(base: Dataset, groups: Iterable[Dataset]) -> Dataset:
    made = _copy(base)
    for item in _items(groups):
        for element in item:
            made[element.tag] = element
        if "FrameType" in item:
            made.ImageType = item.FrameType
    return made


def _items(groups: Iterable[Dataset]) -> Iterator[Dataset]:
    for group in groups:
        for keyword in _GROUPS:
            found = list(group.get(keyword) or [])
            if len(found) == 1:
                yield found[0]
