"""A segmentation of any maker drawn on one of its source images: for the child process that reads untrusted objects.

What lies where is decided by position in the patient; only without a frame of reference by reference to the image.
Source: PS3.3 C.8.20 (Segmentation), C.7.6.2.1.1 (Image Position and Orientation).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread

from inference.errors import NoSuchFrame, UnreadablePixels, UnsuitableStudy
from inference.findings import Mask
from inference.functional_groups import frame_headers
from inference.geometry import Plane, plane_of
from inference.pixels import frame_count, render_frame, to_picture
from inference.results.elements import first_of
from inference.results.read import ReadSegment, SegmentFrame, segments_of

_FILL = 0.25
#: A plane of a segmentation lies on an image within this distance, or within half of the image's own thickness.
_SAME_PLANE_MM = 0.5
#: Planes turned against each other by more than this do not lie on each other (cosine of 1.8 degrees).
_SAME_DIRECTION = 0.9995


def drawn_on(seg_file: BinaryIO) -> tuple[str, int]:
    """Give the image and frame (from 1) on which most is outlined, as the segmentation names them.

    Raises
    ------
    UnreadablePixels, UnusableAnswer
        It is no segmentation that can be read; or it names no image.
    """
    areas: Counter[tuple[str, int]] = Counter()
    for segment in segments_of(_read(seg_file)):
        for frame in segment.frames:
            if frame.source_sop_instance_uid:
                areas[frame.source_sop_instance_uid, frame.source_frame_number] += int(frame.mask.sum())
    if not areas:
        raise UnreadablePixels("The segmentation does not say on which image it was drawn; name one.")
    return areas.most_common(1)[0][0]


def overlay(
    seg_file: BinaryIO, image_file: BinaryIO, frame_index: int, form: Literal["PNG", "JPEG"], *, quality: int = 90
) -> bytes:
    """Draw a segmentation on one frame of an image, in the image's own window.

    Raises
    ------
    NoSuchFrame, UnreadablePixels, UnusableAnswer
        One of both cannot be read. Where nothing lies on the frame, it is shown as it is.
    """
    seg, image = _read(seg_file), _read(image_file, stop_before_pixels=True)
    segments = segments_of(seg)
    if not segments:
        raise UnreadablePixels("The segmentation describes no segment.")
    masks = _masks(seg, segments, image, frame_index)
    picture = render_frame(_rewound(image_file), frame_index)
    colours = picture if picture.ndim == 3 else np.repeat(picture[:, :, None], 3, axis=2)
    colours = np.ascontiguousarray(colours)
    for segment, mask in zip(segments, masks, strict=True):
        _draw(colours, mask, segment.colour)
    return to_picture(colours, form, quality=quality)


def _read(file: BinaryIO, *, stop_before_pixels: bool = False) -> Dataset:
    try:
        return dcmread(_rewound(file), stop_before_pixels=stop_before_pixels)
    except Exception as error:  # the parser raises what it likes
        raise UnreadablePixels("The instance cannot be read.") from error


def _rewound(file: BinaryIO) -> BinaryIO:
    file.seek(0)
    return file


def _masks(seg: Dataset, segments: Sequence[ReadSegment], image: Dataset, frame_index: int) -> list[Mask]:
    """One mask of the image's shape for each segment."""
    if not 0 <= frame_index < frame_count(image):
        raise NoSuchFrame(f"The image has {frame_count(image)} frames.")
    headers = frame_headers(image)
    header = headers[min(frame_index, len(headers) - 1)]
    shape = int(image.Rows), int(image.Columns)
    lies = _by_position(seg, header) or _by_reference(str(image.get("SOPInstanceUID", "")), frame_index + 1, shape)
    masks = []
    for segment in segments:
        mask = np.zeros(shape, dtype=np.bool_)
        for frame in segment.frames:
            if (laid := lies(frame)) is not None:
                mask |= laid
        masks.append(mask)
    return masks


def _by_reference(sop_instance_uid: str, frame_number: int, shape: tuple[int, int]) -> Any:
    def lies(frame: SegmentFrame) -> Mask | None:
        if (frame.source_sop_instance_uid, frame.source_frame_number) != (sop_instance_uid, frame_number):
            return None
        if frame.mask.shape != shape:
            raise UnreadablePixels("The segmentation has other rows and columns than its image, and no position.")
        return frame.mask

    return lies


def _by_position(seg: Dataset, header: Dataset) -> Any:
    """Give what lays a frame of the segmentation on the image; None: one of both has no place in the patient."""
    same_space = str(seg.get("FrameOfReferenceUID") or "-") == str(header.get("FrameOfReferenceUID") or "")
    grid = _grid_of(seg)
    try:
        plane = plane_of(header)
    except UnsuitableStudy:
        return None
    if not same_space or grid is None:
        return None
    if abs(float(grid.normal @ plane.normal)) < _SAME_DIRECTION:
        raise UnreadablePixels("The segmentation lies in other planes than the image.")
    thickness_mm = float(header.get("SliceThickness") or 0)
    near_mm = max(_SAME_PLANE_MM, thickness_mm / 2)
    distances = _Nearest(near_mm, plane)

    def lies(frame: SegmentFrame) -> Mask | None:
        if frame.position is None or not distances.is_near(frame.position):
            return None
        return _laid(frame, grid, plane)

    return lies


class _Nearest:
    """Tells which planes lie on an image."""

    def __init__(self, near_mm: float, plane: Plane) -> None:
        self._near_mm = near_mm
        self._plane = plane

    def is_near(self, position: Sequence[float]) -> bool:
        """Tell whether a plane through this point lies on the image."""
        return abs(float((np.asarray(position) - self._plane.position) @ self._plane.normal)) < self._near_mm


def _grid_of(seg: Dataset) -> Plane | None:
    """Direction and spacing of the segmentation's planes; its position is each frame's own."""
    shared = first_of(seg, "SharedFunctionalGroupsSequence")
    own = first_of(seg, "PerFrameFunctionalGroupsSequence")
    header = Dataset()
    header.ImagePositionPatient = [0.0, 0.0, 0.0]
    header.Rows, header.Columns = seg.get("Rows"), seg.get("Columns")
    for sequence, keyword in (
        ("PlaneOrientationSequence", "ImageOrientationPatient"),
        ("PixelMeasuresSequence", "PixelSpacing"),
    ):
        for group in (shared, own):
            if (value := first_of(group, sequence).get(keyword)) is not None:
                setattr(header, keyword, value)
    try:
        return plane_of(header)
    except UnsuitableStudy:
        return None


def _laid(frame: SegmentFrame, grid: Plane, plane: Plane) -> Mask:
    """Look up each pixel of the image in a frame of the segmentation."""
    rows, columns = np.indices(plane.shape, dtype=np.float64)
    corner = plane.position - np.asarray(frame.position)
    down, across = plane.column * plane.spacing_mm[0], plane.row * plane.spacing_mm[1]
    places = []
    for axis, spacing_mm in ((grid.column, grid.spacing_mm[0]), (grid.row, grid.spacing_mm[1])):
        place = (rows * (down @ axis) + columns * (across @ axis) + corner @ axis) / spacing_mm
        places.append(np.floor(place + 0.5).astype(np.int64))
    at_row, at_column = places
    inside = (at_row >= 0) & (at_row < frame.mask.shape[0]) & (at_column >= 0) & (at_column < frame.mask.shape[1])
    found = np.zeros(plane.shape, dtype=np.bool_)
    found[inside] = frame.mask[at_row[inside], at_column[inside]]
    return found


def _draw(picture: npt.NDArray[np.uint8], mask: Mask, colour: tuple[int, int, int]) -> None:
    """Tint the inside a little and draw the edge within it."""
    if not mask.any():
        return
    around = np.pad(mask, 1)
    inner = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    edge = mask & ~inner
    tint = np.asarray(colour, dtype=np.float32)
    picture[mask] = (picture[mask] * (1 - _FILL) + tint * _FILL).astype(np.uint8)
    picture[edge] = colour
