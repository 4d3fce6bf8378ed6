"""Images of a series as slices that a volume may be made of: their headers, read as far as a volume needs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from typing import BinaryIO, Literal

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from inference.decode import PixelLayout, layout_of
from inference.errors import UnreadablePixels, UnsuitableStudy
from inference.functional_groups import frame_headers, is_multi_frame
from inference.geometry import Plane, plane_of
from inference.loading import Meaning, Stored, meaning_of
from inference.scan import Scanned, scan

_NUMBER_OF_FRAMES, _PIXEL_DATA = 0x00280008, 0x7FE00010


@dataclass(frozen=True)
class SourceInstance:
    """One kept instance, to be read."""

    sop_instance_uid: str
    sop_class_uid: str
    sha256: str
    """Digest of its data set."""
    open: Callable[[], BinaryIO]
    """Gives the Part 10 file from its start, seekable."""


@dataclass(frozen=True)
class Facts:
    """What slices whose headers say the same share."""

    plane: Plane
    layout: PixelLayout
    meaning: Meaning
    series_instance_uid: str
    frame_of_reference_uid: str
    kernel: str
    thickness_mm: float


@dataclass(frozen=True)
class Slice:
    """One frame that may become a slice."""

    source: SourceInstance
    frame_number: int | None
    """Frame of a multi-frame image, from 1; None: the image has one frame."""
    facts: Facts
    plane: Plane
    stored: Stored
    read_header: Callable[[], Dataset]
    """Gives its header, as a single-frame image has it."""


_Known = dict[tuple[object, ...], Facts | None]


def read_headers(sources: Sequence[SourceInstance]) -> tuple[Dataset, ...]:
    """Read the headers of instances, without pixel data, in the order given."""
    return tuple(read_header(source) for source in sources)


def read_header(source: SourceInstance) -> Dataset:
    """Read the header of an instance, without pixel data."""
    with source.open() as file:
        return dcmread(file, stop_before_pixels=True)


def is_localiser(header: Dataset) -> bool:
    """Tell whether an image is a survey for planning. Source: PS3.3 C.8.2.1.1.1 (Image Type value 3)."""
    return any(str(value).upper() in ("LOCALIZER", "SCOUT", "TOPOGRAM") for value in header.get("ImageType") or [])


def find_slices(sources: Sequence[SourceInstance]) -> tuple[list[Slice], int]:
    """Look at the headers of all images; give what is no localiser, and the number of images that are.

    Raises
    ------
    UnsuitableStudy
        An image cannot be part of a volume.
    """
    known: _Known = {}
    slices: list[Slice] = []
    left_out = 0
    for source in sources:
        with source.open() as file:
            scanned = scan(file)
            if scanned is None or not scanned.position or any(tag == _NUMBER_OF_FRAMES for tag, _, _ in scanned.said):
                found = _parsed(source, file)
            else:
                found = _scanned(source, scanned, known)
        left_out += not found
        slices += found
    return slices, left_out


def _scanned(source: SourceInstance, scanned: Scanned, known: _Known) -> list[Slice]:
    """Give the slice of a single-frame image; headers that say the same are understood once."""
    key = scanned.transfer_syntax_uid, scanned.said
    if key not in known:
        header = scanned.dataset()
        header.ImagePositionPatient = [0, 0, 0]  # each slice has its own
        known[key] = None if is_localiser(header) else _facts(header, scanned.transfer_syntax_uid)
    facts = known[key]
    if facts is None:
        return []
    try:
        position = np.array([float(each.strip(b" \0")) for each in scanned.position.split(b"\\")])
    except ValueError:
        position = np.empty(0)
    if position.shape != (3,) or not np.isfinite(position).all():
        raise UnsuitableStudy("an image's position is no sensible value.")
    stored = Stored(source.open, scanned.pixels_at, scanned.pixels_length, 0, facts.layout, facts.meaning)
    plane = replace(facts.plane, position=position)
    return [Slice(source, None, facts, plane, stored, partial(read_header, source))]


def _parsed(source: SourceInstance, file: BinaryIO) -> list[Slice]:
    """Give the slices of an image that the full parser must look at: multi-frame, or of an unusual form."""
    file.seek(0)
    try:
        header = dcmread(file, stop_before_pixels=True)
        syntax = str(header.file_meta.TransferSyntaxUID)
        several = is_multi_frame(header)
        frames = frame_headers(header) if several else (header,)
        if is_localiser(frames[0]):
            return []
    except Exception as error:  # the parser raises what it likes
        raise UnsuitableStudy("an image cannot be read: it is no sound DICOM instance.") from error
    if several:
        _check_frames(header, len(frames))
    opened: Callable[[], BinaryIO] = source.open
    if syntax == DeflatedExplicitVRLittleEndian:
        syntax, opened = str(ExplicitVRLittleEndian), partial(_inflated, source)
        with opened() as pixels:
            at, length = 0, pixels.seek(0, 2)
    else:
        at, length = _pixels_of(file, syntax)
    slices = []
    for index, frame in enumerate(frames):
        facts = _facts(frame, syntax)
        stored = Stored(opened, at, length, index, facts.layout, facts.meaning)
        reader = partial(_same, frame) if several else partial(read_header, source)
        number = index + 1 if several else None
        slices.append(Slice(source, number, facts, facts.plane, stored, reader))
    return slices


def _same(header: Dataset) -> Dataset:
    return header


def _check_frames(header: Dataset, described: int) -> None:
    try:
        announced = int(header.NumberOfFrames)
    except (AttributeError, TypeError, ValueError) as error:
        raise UnsuitableStudy("a multi-frame image does not say how many frames it has.") from error
    if announced != described:
        raise UnsuitableStudy(
            f"a multi-frame image of {announced} frames says of {described if described > 1 else 'none'} of them where "
            "they lie."
        )


def _pixels_of(file: BinaryIO, syntax: str) -> tuple[int, int]:
    """Where the value of Pixel Data begins, and its length; `file` stands at the element."""
    order: Literal["big", "little"] = "big" if syntax == ExplicitVRBigEndian else "little"
    at = file.tell()
    head = file.read(12)
    group, element = (int.from_bytes(head[first : first + 2], order) for first in (0, 2))
    if group << 16 | element != _PIXEL_DATA or len(head) < 12:
        raise UnsuitableStudy("an image has no pixel data.")
    if syntax == ImplicitVRLittleEndian:
        return at + 8, int.from_bytes(head[4:8], order)
    return at + 12, int.from_bytes(head[8:12], order)


def _inflated(source: SourceInstance) -> BinaryIO:
    """Give the pixel data of a deflated instance."""
    with source.open() as file:
        return BytesIO(dcmread(file).get("PixelData") or b"")


def _facts(header: Dataset, syntax: str) -> Facts:
    plane = plane_of(header)
    try:
        layout = layout_of(header, syntax)
        meaning = meaning_of(header, layout)
        kernel = header.get("ConvolutionKernel") or ""
    except UnreadablePixels as error:
        raise UnsuitableStudy(f"an image cannot be read: {error}") from error
    except (TypeError, ValueError, ArithmeticError) as error:
        raise UnsuitableStudy("an image's rescale is no sensible value.") from error
    if layout.samples_per_pixel != 1:
        raise UnsuitableStudy("the images are in colour.")
    if layout.bits_allocated not in (8, 16, 32):
        raise UnsuitableStudy(f"the images have {layout.bits_allocated} bit for each pixel.")
    return Facts(
        plane=plane,
        layout=layout,
        meaning=meaning,
        series_instance_uid=str(header.get("SeriesInstanceUID") or ""),
        frame_of_reference_uid=str(header.get("FrameOfReferenceUID") or ""),
        kernel=str(kernel if isinstance(kernel, str) else "/".join(str(each) for each in kernel)),
        thickness_mm=_thickness_mm(header),
    )


def _thickness_mm(header: Dataset) -> float:
    """What one slice stands for, mm; 1 where nothing says it."""
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        try:
            thickness = abs(float(header.get(keyword) or 0))
        except (TypeError, ValueError):
            continue
        if np.isfinite(thickness) and thickness > 0:
            return thickness
    return 1.0
