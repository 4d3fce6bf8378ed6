"""Enhanced images that hold the usual slices as frames."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom import Dataset
from pydicom.uid import EnhancedCTImageStorage

from inference.results.evidence import Evidence
from tests.builders.findings import ct_headers


def multi_frame(
    order: Sequence[int],
    sop_class: str = EnhancedCTImageStorage,
    *,
    first: int = 0,
    slices: Sequence[Dataset] = (),
) -> Dataset:
    """One image that holds slices of a series (the usual one), in this order of frames."""
    slices = slices or ct_headers()
    made = Dataset()
    for element in slices[first]:
        if element.keyword not in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
            made[element.tag] = element
    made.SOPClassUID = sop_class
    made.NumberOfFrames = len(order)
    shared = Dataset()
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = slices[0].PixelSpacing
    shared.PixelMeasuresSequence[0].SliceThickness = slices[0].SliceThickness
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = slices[0].ImageOrientationPatient
    made.SharedFunctionalGroupsSequence = [shared]
    made.PerFrameFunctionalGroupsSequence = []
    for index in order:
        item = Dataset()
        item.PlanePositionSequence = [Dataset()]
        item.PlanePositionSequence[0].ImagePositionPatient = slices[index].ImagePositionPatient
        made.PerFrameFunctionalGroupsSequence.append(item)
    return made


def frames_of_one_image(sop_class: str = EnhancedCTImageStorage, *, shuffled: bool = False) -> Evidence:
    """The usual twelve slices, in the masks' order, as frames of one image."""
    order = [7, 2, 11, 0, 5, 9, 1, 10, 3, 8, 6, 4] if shuffled else list(range(12))
    image = multi_frame(order, sop_class)
    numbers = [order.index(index) + 1 for index in range(12)]
    return Evidence.of_frames([image] * 12, numbers)
