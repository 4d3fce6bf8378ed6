"""What a result was made from: one header for each slice of its masks, and the images that they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import overload

from pydicom import Dataset

from inference.functional_groups import frame_headers
from inference.results.elements import numbers, text_of


class Evidence(Sequence[Dataset]):
    """Headers of the used slices, in the order of the masks'; of a frame, as a single-frame image has it.

    Parameters
    ----------
    headers
        One per slice.
    frame_numbers
        Frame of each slice in its image, from 1; None: the image has one frame.
    """

    def __init__(self, headers: Sequence[Dataset], frame_numbers: Sequence[int | None] = ()) -> None:
        self._headers = tuple(headers)
        self.frame_numbers = tuple(frame_numbers) or (None,) * len(self._headers)
        if len(self.frame_numbers) != len(self._headers):
            raise ValueError("one frame number for each header")

    @classmethod
    def of(cls, given: Sequence[Dataset]) -> Evidence:
        """Take headers of single-frame images as evidence; evidence stays as it is."""
        return given if isinstance(given, Evidence) else cls(given)

    @classmethod
    def of_frames(cls, headers: Sequence[Dataset], frame_numbers: Sequence[int | None]) -> Evidence:
        """Give the evidence of slices whose images' own headers are given, one for each slice.

        `frame_numbers`: empty where all images have one frame.
        """
        frames: dict[str, tuple[Dataset, ...]] = {}
        made = []
        numbers = frame_numbers or [None] * len(headers)
        for header, number in zip(headers, numbers, strict=True):
            if number is None:
                made.append(header)
                continue
            uid = str(header.SOPInstanceUID)
            if uid not in frames:
                frames[uid] = frame_headers(header)
            made.append(frames[uid][number - 1])
        return cls(made, numbers)

    @cached_property
    def instances(self) -> tuple[Dataset, ...]:
        """One header for each image, in the order of their first slices.

        That of a multi-frame image says nothing of a position: its frames have theirs.
        """
        found: dict[str, Dataset] = {}
        for header, number in zip(self._headers, self.frame_numbers, strict=True):
            uid = str(header.SOPInstanceUID)
            if uid not in found:
                found[uid] = header if number is None else _without_position(header)
        return tuple(found.values())

    @cached_property
    def lies_nowhere(self) -> bool:
        """Whether no image has a place in a frame of reference, as of projections and photographs: a pixel is all.

        Source: PS3.3 C.7.6.2 (Image Plane), A.51.3 (what Segmentations need where there is none).
        """
        return not any(map(_has_place, self._headers))

    @overload
    def __getitem__(self, index: int) -> Dataset: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Dataset]: ...
    def __getitem__(self, index: int | slice) -> Dataset | Sequence[Dataset]:
        return self._headers[index]

    def __len__(self) -> int:
        return len(self._headers)


def _has_place(header: Dataset) -> bool:
    geometry = (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6))
    placed = all(numbers(header, keyword, count) is not None for keyword, count in geometry)
    return placed and bool(text_of(header, "FrameOfReferenceUID"))


def _without_position(header: Dataset) -> Dataset:
    made = Dataset(dict(header.items()))
    made.pop("ImagePositionPatient", None)
    return made
