"""Pixels of slices into one array: read in place where nothing is compressed, decoded frame by frame where it is.

Source: PS3.3 C.7.6.3 (pixel description), C.11.1 (rescale), C.7.5.1.1.2 (pixel padding).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from inference.decode import PixelLayout, check_encoded, decode_encapsulated, encapsulated_frame
from inference.errors import UnreadablePixels, UnsuitableStudy
from inference.syntaxes import EXPLICIT_LITTLE, IMPLICIT_LITTLE

#: What lies outside the scanner's field of view counts as air, HU.
AIR_HU = -1024
#: Voxels of one volume at most: 4 GiB as int16.
MOST_VOXELS = 1 << 31
_INT16 = np.iinfo(np.int16)
_IN_PLACE = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE})
_THREADS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class Meaning:
    """What stored values mean."""

    slope: float
    intercept: float
    padding: tuple[int, int] | None
    """Stored values, both ends included, that stand for nothing."""
    is_ct: bool

    @property
    def integral(self) -> bool:
        """Whether whole numbers stay whole."""
        return self.slope.is_integer() and self.intercept.is_integer()

    def fits_int16(self, layout: PixelLayout) -> bool:
        """Whether no value that can be stored leaves the range of int16."""
        bits = layout.bits_stored
        low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if layout.signed else (0, (1 << bits) - 1)
        ends = low * self.slope + self.intercept, high * self.slope + self.intercept
        return min(ends) >= _INT16.min and max(ends) <= _INT16.max


class FrameDecoder(Protocol):
    """Decodes frames elsewhere, such as `PixelProcess` in children with limits."""

    def frame(self, part10: BinaryIO, frame_index: int, target: str) -> bytes:
        """Give one frame of an instance in a transfer syntax."""
        ...

    def picture(self, part10: BinaryIO, frame_index: int, *, form: Literal["PNG", "JPEG"]) -> bytes:
        """Give one frame of an instance as a picture."""
        ...


@dataclass(frozen=True)
class Stored:
    """Where the pixels of one frame are, and what they mean."""

    open: Callable[[], BinaryIO]
    """Gives the Part 10 file."""
    pixels_at: int
    """Where the value of Pixel Data begins in the file."""
    pixels_length: int
    frame_index: int
    layout: PixelLayout
    meaning: Meaning


def meaning_of(header: Dataset, layout: PixelLayout) -> Meaning:
    """Read what stored values mean.

    Raises
    ------
    UnsuitableStudy
        A CT image does not say how its values become Hounsfield units.
    """
    is_ct = str(header.get("Modality")) == "CT"
    slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
    if slope is None or intercept is None:
        if is_ct:
            raise UnsuitableStudy("an image says nothing of its rescale, so that its values are no Hounsfield units.")
        slope, intercept = 1.0, 0.0
    kind = str(header.get("RescaleType") or "HU").strip().upper()
    # US, unspecified, is written by scanners that mean Hounsfield units (PS3.3 C.11.1.1.2).
    if is_ct and kind not in ("HU", "US"):
        raise UnsuitableStudy(f"an image's values are {kind[:16]}, no Hounsfield units.")
    if not np.isfinite([float(slope), float(intercept)]).all() or float(slope) == 0:
        raise UnsuitableStudy("an image's rescale is no sensible value.")
    return Meaning(float(slope), float(intercept), _padding(header, layout), is_ct)


def _padding(header: Dataset, layout: PixelLayout) -> tuple[int, int] | None:
    try:
        value = header.get("PixelPaddingValue")
        if value is None:
            return None
        limit = header.get("PixelPaddingRangeLimit")
        ends = int(value), int(value if limit is None else limit)
    except (TypeError, ValueError, ArithmeticError):
        return None
    # Some scanners write a signed value as unsigned: 63536 where -2000 is meant.
    half, whole = 1 << (layout.bits_allocated - 1), 1 << layout.bits_allocated
    low, high = sorted(end - whole if layout.signed and end >= half else end for end in ends)
    return low, high


def load(slices: Sequence[Stored], decoder: FrameDecoder | None = None) -> npt.NDArray[Any]:
    """Read slices, in the order given, into one array (slices, rows, columns).

    int16 where the rescale is integral and, but for CT, nothing can leave its range; else float32. Memory: the array
    and a slice for each thread.

    Parameters
    ----------
    decoder
        Decodes compressed frames; None: this process does.

    Raises
    ------
    UnreadablePixels
        Pixels cannot be read or decoded.
    UnsuitableStudy
        There are more voxels than are read here.
    """
    layout = slices[0].layout
    shape = len(slices), layout.rows, layout.columns
    if np.prod(shape, dtype=np.int64) > MOST_VOXELS:
        raise UnsuitableStudy(f"{shape[0]} images of {shape[1]}x{shape[2]} pixels are more than can be read at once.")
    for each in slices:
        _check_length(each)
    integral = all(each.meaning.integral for each in slices)
    small = all(each.meaning.is_ct or each.meaning.fits_int16(each.layout) for each in slices)
    array = np.empty(shape, np.int16 if integral and small else np.float32)
    with ThreadPoolExecutor(_THREADS) as threads:
        for _ in threads.map(partial(_read_into, decoder=decoder), slices, array):
            pass
    return array


def _check_length(stored: Stored) -> None:
    """Refuse pixel data that are shorter than announced, before memory is taken for them."""
    layout = stored.layout
    if layout.encapsulated or layout.transfer_syntax_uid not in _IN_PLACE:
        return
    wanted = _frame_bytes(layout) * (stored.frame_index + 1)
    if stored.pixels_length < wanted:
        raise UnreadablePixels(
            f"The pixel data are cut short: {stored.pixels_length} bytes where {wanted} are announced."
        )


def _frame_bytes(layout: PixelLayout) -> int:
    return layout.rows * layout.columns * layout.bits_allocated // 8


def _read_into(stored: Stored, target: npt.NDArray[Any], *, decoder: FrameDecoder | None) -> None:
    """Read one frame and give its values their meaning."""
    layout, meaning = stored.layout, stored.meaning
    with stored.open() as file:
        if target.dtype == np.int16 and _is_int16(stored):
            _fill(file, stored, target)
            values = target
        else:
            values = _values(file, stored, decoder)
    _correct(values, layout)
    outside = _outside(values, meaning)
    if target.dtype == np.float32:
        np.multiply(values, np.float32(meaning.slope), out=target, casting="unsafe")
        target += np.float32(meaning.intercept)
    elif values is target:
        slope, intercept = np.int16(meaning.slope), np.int16(meaning.intercept)
        if slope != 1:
            target *= slope
        if intercept != 0:
            target += intercept
    else:
        wide = values.astype(np.int64) * int(meaning.slope) + int(meaning.intercept)
        # No tissue and no metal that a CT can tell lies outside of this range.
        np.clip(wide, _INT16.min, _INT16.max, out=target, casting="unsafe")
    if outside is not None:
        target[outside] = AIR_HU


def _is_int16(stored: Stored) -> bool:
    """Whether stored values are int16 as they lie in the file, and stay it."""
    layout = stored.layout
    plain = layout.bits_allocated == 16 and layout.transfer_syntax_uid in _IN_PLACE
    same = layout.signed or layout.bits_stored < 16
    meant = abs(stored.meaning.slope) <= _INT16.max and abs(stored.meaning.intercept) <= _INT16.max
    return plain and same and meant and stored.meaning.fits_int16(layout)


def _fill(file: BinaryIO, stored: Stored, target: npt.NDArray[Any]) -> None:
    """Read one uncompressed frame straight into its place."""
    view = memoryview(target.data).cast("B")
    file.seek(stored.pixels_at + stored.frame_index * len(view))
    got = 0
    while got < len(view):
        more = file.readinto(view[got:])  # type: ignore[attr-defined]
        if not more:
            raise UnreadablePixels(f"The file is cut short: {got} bytes of a frame of {len(view)}.")
        got += more


def _values(file: BinaryIO, stored: Stored, decoder: FrameDecoder | None) -> npt.NDArray[Any]:
    """Give the stored values of one frame: (rows, columns), writable."""
    layout = stored.layout
    file.seek(stored.pixels_at)
    kind, size = "i" if layout.signed else "u", layout.bits_allocated // 8
    if layout.encapsulated:
        frame = encapsulated_frame(file, layout, stored.frame_index)
        if decoder is None:
            values = decode_encapsulated(frame, layout)
        else:
            check_encoded(frame, layout)
            decoded = decoder.frame(file, stored.frame_index, EXPLICIT_LITTLE)
            if len(decoded) != layout.rows * layout.columns * size:
                raise UnreadablePixels(f"A frame decodes to {len(decoded)} bytes.")
            values = np.frombuffer(decoded, f"<{kind}{size}").reshape(layout.rows, layout.columns)
    else:
        order = "<" if layout.transfer_syntax_uid in _IN_PLACE else ">"
        values = np.empty((layout.rows, layout.columns), f"{order}{kind}{size}")
        _fill(file, stored, values)
    if values.shape != (layout.rows, layout.columns):
        raise UnreadablePixels(f"The pixels are of {values.shape[0]}x{values.shape[1]}, not of one value each.")
    return values if values.flags.writeable else values.copy()


def _correct(values: npt.NDArray[Any], layout: PixelLayout) -> None:
    """Clear what lies in the bits above those stored (overlays, in old images). Source: PS3.5 8.1.1."""
    unused = values.dtype.itemsize * 8 - layout.bits_stored
    if layout.encapsulated or unused <= 0:
        return
    if layout.signed:
        np.left_shift(values, unused, out=values)
        np.right_shift(values, unused, out=values)
    else:
        np.bitwise_and(values, (1 << layout.bits_stored) - 1, out=values)


def _outside(values: npt.NDArray[Any], meaning: Meaning) -> npt.NDArray[np.bool_] | None:
    """Where a CT padded; None: nowhere."""
    if meaning.padding is None or not meaning.is_ct:
        return None
    low, high = meaning.padding
    outside = values == low if low == high else (values >= low) & (values <= high)
    return outside if outside.any() else None
