"""Whole instances and single frames in another transfer syntax, never with loss.

Pixels that are compressed here are decompressed again and compared before anything leaves; what a codec cannot
hold (bits above Bits Stored, a pixel description outside its profile) is a refusal, not a rounding.

Source: PS3.5 8.2 and A.4 (encapsulation), PS3.3 C.7.6.1.1.5 (lossy compression), C.7.6.3 (pixel description).
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Protocol

from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomIO
from pydicom.filewriter import write_file_meta_info
from pydicom.tag import Tag
from pydicom.uid import UID

from configs.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from inference.errors import CannotTranscode, UnreadablePixels
from inference.frames import (
    Description,
    Frame,
    decode_frame_of,
    decode_frames_of,
    describe,
    encode_frame,
    native_bytes,
    stored_frame_of,
)
from inference.part10 import Pixels, Source, read_source
from inference.recode import WORD, Form, elements_of, form_of, header, recode, swapped
from inference.syntaxes import (
    DECODERS,
    DEFLATED,
    DEFLATED_FRAMES,
    ENCODERS,
    EXPLICIT_LITTLE,
    JPEG_2000_LOSSLESS,
    NATIVE,
    ON_REQUEST,
    SURELY_LOSSY,
)

_CHUNK = 1 << 20
_LONGEST_ELEMENT = 0xFFFFFFFE
_UNDEFINED = 0xFFFFFFFF
_ITEM = 0xFFFEE000
_SEQUENCE_END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
_PHOTOMETRIC, _PLANAR, _LOSSY = 0x00280004, 0x00280006, 0x00282110
_OFFSET_TABLES = (0x7FE00001, 0x7FE00002)
_TRAILING_PADDING = 0xFFFCFFFC
#: Compressed syntaxes that hold pixels of one bit. Source: PS3.5 8.2.4, 8.2.16.
_OF_BITS = frozenset({JPEG_2000_LOSSLESS, DEFLATED_FRAMES})


class _Output(Protocol):
    def write(self, content: bytes, /) -> object: ...


def transcode(file: BinaryIO, target: str, output: BinaryIO) -> None:
    """Write an instance in another transfer syntax, under the same SOP Instance UID.

    Parameters
    ----------
    file
        A Part 10 file from its start, seekable.
    output
        Takes the new Part 10 file; seekable.

    Raises
    ------
    CannotTranscode
        Not without loss, or there is no codec for it here.
    UnreadablePixels
        The instance cannot be read.
    """
    source = read_source(file)
    if target == source.transfer_syntax_uid:
        file.seek(0)
        while chunk := file.read(_CHUNK):
            output.write(chunk)
        return
    _check_ways(source, target)
    output.write(bytes(128) + b"DICM")
    try:
        write_file_meta_info(DicomIO(output), _file_meta(source, target), enforce_standard=True)
    except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
        raise UnreadablePixels("The File Meta Information is broken.") from error
    if target == DEFLATED:
        deflated = _Deflated(output)
        _write_data_set(source, target, deflated, None)
        deflated.finish()
    else:
        _write_data_set(source, target, output, output)


def transcode_frame(file: BinaryIO, frame_index: int, target: str) -> bytes:
    """Give one frame in a transfer syntax; for an uncompressed one, as Explicit VR Little Endian stores it.

    Raises
    ------
    NoSuchFrame, CannotTranscode, UnreadablePixels
    """
    source = read_source(file)
    native = target in NATIVE
    if target == source.transfer_syntax_uid and (not native or target == EXPLICIT_LITTLE) and _whole_bytes(source):
        return stored_frame_of(source, frame_index)
    _check_ways(source, target)
    frame, described = decode_frame_of(source, frame_index), describe(source.head)
    return native_bytes(frame, described, little=True) if native else encode_frame(frame, described, target)


def pixel_digest(file: BinaryIO) -> str:
    """Digest all frames as decoded: equal for two instances whose pixels are the same."""
    digest = hashlib.sha256()
    source = read_source(file)
    try:
        for frame in decode_frames_of(source):
            digest.update(f"{frame.array.shape}{frame.array.dtype}{frame.photometric_interpretation}".encode())
            digest.update(frame.array.tobytes())
    finally:
        if source.file is not file:  # a deflated one was inflated into a file of its own
            source.file.close()
    return digest.hexdigest()


def _whole_bytes(source: Source) -> bool:
    return source.pixels is None or source.pixels.encapsulated or describe(source.head).bits_allocated % 8 == 0


def _check_ways(source: Source, target: str) -> None:
    if source.pixels is None:
        if target not in NATIVE:
            raise CannotTranscode("The instance has no pixel data to compress.")
        return
    if target not in NATIVE and target not in ENCODERS and target not in ON_REQUEST:
        raise CannotTranscode("There is no encoder for this transfer syntax here.")
    if source.transfer_syntax_uid not in NATIVE and source.transfer_syntax_uid not in DECODERS:
        raise CannotTranscode("There is no decoder for the stored transfer syntax here.")
    if target in NATIVE and source.transfer_syntax_uid in NATIVE:
        return
    if source.pixels.tag not in (0x7FE00010,):
        raise CannotTranscode("Pixels of this kind are kept uncompressed.")
    if describe(source.head).bits_allocated % 8 and not (source.transfer_syntax_uid in NATIVE and target in _OF_BITS):
        raise CannotTranscode("Pixels of one bit are not recoded so.")


def _file_meta(source: Source, target: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    for keyword in ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "SourceApplicationEntityTitle"):
        if source.meta.get(keyword):
            setattr(meta, keyword, source.meta[keyword].value)
    meta.TransferSyntaxUID = UID(target)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return meta


def _write_data_set(source: Source, target: str, output: _Output, seekable: BinaryIO | None) -> None:
    """Write head, pixels and tail; `seekable`: the same output where a table of offsets is filled in afterwards."""
    form, pixels = form_of(target), source.pixels
    if pixels is None:
        output.write(_head(source, form))
        return
    if source.transfer_syntax_uid in NATIVE and target in NATIVE:
        output.write(_head(source, form))
        _copy_native(source, pixels, form, output)
    else:
        described = describe(source.head)
        frames = decode_frames_of(source)
        first = next(frames)
        _amend(source, first)
        output.write(_head(source, form))
        if target in NATIVE:
            _write_native(first, frames, described, form, output)
        else:
            _write_encapsulated(first, frames, described, target, output, seekable)
    tail = elements_of(source.tail)
    tail.pop(_TRAILING_PADDING, None)
    output.write(recode(source.tail, tail, source.form, form))


def _head(source: Source, form: Form) -> bytes:
    return recode(source.head, source.head_elements, source.form, form)


def _amend(source: Source, frame: Frame) -> None:
    """Have the header describe what decoded frames are."""
    for tag in _OFFSET_TABLES:
        source.head_elements.pop(tag, None)
    _set(source, _PHOTOMETRIC, "CS", frame.photometric_interpretation.encode("ascii"))
    if frame.array.ndim == 3:
        _set(source, _PLANAR, "US", struct.pack(source.form.order + "H", 0))
    if source.transfer_syntax_uid in SURELY_LOSSY and not source.head.get("LossyImageCompression"):
        _set(source, _LOSSY, "CS", b"01")


def _set(source: Source, tag: int, vr: str, value: bytes) -> None:
    value += b" " * (len(value) % 2)
    form = source.form
    source.head_elements[tag] = RawDataElement(Tag(tag), vr, len(value), value, 0, form.implicit, form.little)


def _copy_native(source: Source, pixels: Pixels, form: Form, output: _Output) -> None:
    """Copy uncompressed pixel data, in another byte order where asked for."""
    vr = pixels.vr
    if source.form.implicit and not form.implicit and pixels.tag == 0x7FE00010:
        bits = source.head.get("BitsAllocated")
        vr = "OB" if isinstance(bits, int) and bits <= 8 else "OW"
    output.write(header(pixels.tag, vr, pixels.length, form))
    size = WORD.get(pixels.vr, 1) if source.form.little != form.little else 1
    if size == 2:
        # 32-bit samples are stored as OW as well, and swapped whole (PS3.5 8.1.1, 7.3).
        bits = source.head.get("BitsAllocated")
        size = bits // 8 if isinstance(bits, int) and bits in (32, 64) else 2
    source.file.seek(pixels.offset)
    rest = pixels.length
    while rest:
        chunk = source.file.read(min(_CHUNK, rest))
        if not chunk:
            raise UnreadablePixels("The pixel data are cut short.")
        rest -= len(chunk)
        output.write(swapped(chunk, size) if size > 1 else chunk)


def _write_native(first: Frame, others: Iterator[Frame], described: Description, form: Form, output: _Output) -> None:
    total = described.frame_bytes * described.number_of_frames
    padded = total + total % 2
    if padded > _LONGEST_ELEMENT:
        raise CannotTranscode("Uncompressed, the pixels are longer than an element can be.")
    output.write(header(0x7FE00010, "OW" if described.bits_allocated > 8 else "OB", padded, form))
    for frame in _chained(first, others):
        output.write(native_bytes(frame, described, little=form.little))
    output.write(bytes(total % 2))


def _write_encapsulated(
    first: Frame,
    others: Iterator[Frame],
    described: Description,
    target: str,
    output: _Output,
    seekable: BinaryIO | None,
) -> None:
    """Write one fragment for each frame, and the Basic Offset Table where its 32 bits reach."""
    if seekable is None:
        raise CannotTranscode("Compressed pixels are not deflated.")
    count = described.number_of_frames
    with_table = described.frame_bytes * count < _LONGEST_ELEMENT // 2
    output.write(header(0x7FE00010, "OB", _UNDEFINED, form_of(target)))
    output.write(_item(4 * count if with_table else 0))
    table_at = seekable.tell()
    output.write(bytes(4 * count if with_table else 0))
    offsets, offset = [0], 0
    for frame in _chained(first, others):
        content = encode_frame(frame, described, target)
        content += bytes(len(content) % 2)
        output.write(_item(len(content)) + content)
        offset += 8 + len(content)
        offsets.append(offset)
    output.write(_SEQUENCE_END)
    if with_table:
        if offsets[-1] > _UNDEFINED:
            raise CannotTranscode("Compressed, the frames are longer than a table of offsets reaches.")
        end = seekable.tell()
        seekable.seek(table_at)
        seekable.write(struct.pack(f"<{count}I", *offsets[:-1]))
        seekable.seek(end)


def _chained(first: Frame, others: Iterator[Frame]) -> Iterator[Frame]:
    yield first
    yield from others


def _item(length: int) -> bytes:
    return struct.pack("<HHI", _ITEM >> 16, _ITEM & 0xFFFF, length)


class _Deflated:
    """Deflates what is written. Source: PS3.5 A.5 (no zlib header, padded to an even length)."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output
        self._stream = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._written = 0

    def write(self, content: bytes, /) -> None:
        """Deflate more bytes."""
        self._put(self._stream.compress(content))

    def finish(self) -> None:
        """Write what is left."""
        self._put(self._stream.flush())
        self._output.write(bytes(self._written % 2))

    def _put(self, content: bytes) -> None:
        self._written += len(content)
        self._output.write(content)
