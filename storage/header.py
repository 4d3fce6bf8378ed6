"""What the index must know of an instance, read from the beginning of its data set."""

from __future__ import annotations

import json
import re
import unicodedata
import zlib
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from typing import Any

from pydicom import Dataset, config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from storage.charset import TextReading, read_as
from storage.errors import UnreadableInstance
from storage.scan import PIXEL_TAGS, BeyondBuffer, Buffer, Encoding, scan
from storage.values import Decoded, RawValue, decode

# What a peer sent is kept whatever its values look like; complaints about values would only quote them.
config.settings.reading_validation_mode = config.IGNORE

#: Attributes of each level as QIDO-RS and C-FIND give them. Source: PS3.18 Tables 10.6.3-3 to 10.6.3-5, PS3.4 C.6.
STUDY_KEYWORDS = (
    *("SpecificCharacterSet", "StudyDate", "StudyTime", "AccessionNumber", "IssuerOfAccessionNumberSequence"),
    *("ReferringPhysicianName", "TimezoneOffsetFromUTC", "StudyDescription", "PatientName", "PatientID"),
    *("IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "StudyInstanceUID", "StudyID"),
)
SERIES_KEYWORDS = (
    *("Modality", "TimezoneOffsetFromUTC", "SeriesDescription", "SeriesInstanceUID", "SeriesNumber", "SeriesDate"),
    *("SeriesTime", "Manufacturer", "ManufacturerModelName", "StationName", "BodyPartExamined", "Laterality"),
    *("ProtocolName", "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime"),
    *("RequestAttributesSequence", "OperatorsName", "FrameOfReferenceUID"),
)
INSTANCE_KEYWORDS = (
    *("SOPClassUID", "SOPInstanceUID", "TimezoneOffsetFromUTC", "InstanceNumber", "Rows", "Columns"),
    *("BitsAllocated", "NumberOfFrames", "ContentDate", "ContentTime", "AcquisitionNumber", "ImageType"),
    *("ConceptNameCodeSequence", "CompletionFlag", "VerificationFlag", "ContentLabel", "ContentDescription"),
    *("ReferencedSeriesSequence",),
)
#: Attributes that tell what an instance is to the node (`storage/roles.py`).
ROLE_KEYWORDS = ("ContributingEquipmentSequence", "ContentQualification")

_KEYWORDS = (*STUDY_KEYWORDS, *SERIES_KEYWORDS, *INSTANCE_KEYWORDS, *ROLE_KEYWORDS)
_TAGS = {word: tag for word in _KEYWORDS if (tag := tag_for_keyword(word))}
_VRS = {tag: dictionary_VR(tag).encode("ascii") for tag in _TAGS.values()}
_WANTED = frozenset(_VRS)
#: Of these: text that follows Specific Character Set. Source: PS3.5 6.1.2.2.
_TEXT = frozenset(tag for tag in _WANTED if dictionary_VR(tag) in ("LO", "LT", "PN", "SH", "ST", "UC", "UT"))
#: How the element of a tag begins in DICOM JSON.
_NAMES = {tag: f'"{tag:08X}":' for tag in _WANTED}
_PATIENT = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex")
_CHARACTER_SET = 0x00080005
#: Escape sequences that decoding may leave in text, as in that of ISO 2022 IR 58. Source: PS3.3 Table C.12-4.
_ESCAPES = re.compile("\x1b(?:\\$[()]?.|[()-].)")
#: A value longer than this is no attribute that the index wants.
_LONGEST_VALUE = 1 << 20
#: A deflated data set may inflate to this, or to so many times its size: deflate reaches 1,000 to 1.
_INFLATED_AT_MOST = 256 << 20
_INFLATED_RATIO = 100
#: Bytes of an inflated data set that are held for the walk over its header.
_HEADER_INFLATED_AT_MOST = 16 << 20
_DEFLATED_CHUNK = 1 << 16
#: Source: PS3.5 9.1. Leading zeros of a component are wrong there and common in the field: they are taken.
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


class Header:
    """The indexed attributes of one instance, decoded when asked for.

    What senders usually write is decoded here. A value that is unusual in any way - another VR than the dictionary's,
    code extensions, several numbers, bytes that its character set does not have - is left to pydicom, which is
    thirty times slower, and gives the same for all others.
    """

    def __init__(self, raw: Mapping[int, RawValue], encoding: Encoding, *, has_pixels: bool) -> None:
        self._raw = raw
        self._encoding = encoding
        self.has_pixels = has_pixels
        self._values: dict[int, Decoded | None] = {}
        self._uids: dict[str, str] = {}
        self._reading = _text_reading(raw)

    @property
    def note(self) -> str:
        """Where its text is not read as its Specific Character Set says; without text of the instance."""
        return self._reading.note

    @cached_property
    def dataset(self) -> Dataset:
        """Only what the index wants, as pydicom has it."""
        return _decoding(self._raw, self._encoding, self._reading)

    @property
    def study_instance_uid(self) -> str:
        """Study Instance UID, checked."""
        return self.uid("StudyInstanceUID")

    @property
    def series_instance_uid(self) -> str:
        """Series Instance UID, checked."""
        return self.uid("SeriesInstanceUID")

    def uid(self, keyword: str) -> str:
        """Give a UID, without padding.

        Raises
        ------
        UnreadableInstance
            It is missing or malformed: such an instance cannot be found again.
        """
        uid = self._uids.get(keyword)
        if uid is None:
            # Some senders pad UIDs with a space, not NUL (PS3.5 6.2 asks for NUL). Both are stripped.
            uid = self._text(keyword).rstrip("\0 ")
            if not is_uid(uid):
                raise UnreadableInstance(f"{keyword} is missing or malformed.", keyword=keyword)
            self._uids[keyword] = uid
        return uid

    def text(self, keyword: str) -> str:
        """Give an attribute as text, several values joined by a backslash; empty where there is none."""
        decoded = self._decoded(_TAGS[keyword])
        if decoded is not None:
            return decoded.text
        text: str = _storable(self._text(keyword)).strip()
        return text

    def _text(self, keyword: str) -> str:
        decoded = self._decoded(_TAGS[keyword])
        if decoded is not None:
            return decoded.text
        value = self._value(keyword)
        if value is None:
            return ""
        try:
            each = value if isinstance(value, MultiValue) else [value]
            return "\\".join(str(one).strip() for one in each)
        except Exception:  # noqa: BLE001 (a name is decoded when it is asked for, and may be broken as any value)
            return ""

    def number(self, keyword: str) -> int | None:
        """Give an integer attribute; None where there is none or no number."""
        try:
            return int(self.text(keyword))
        except ValueError:
            return None

    def json(self, keywords: tuple[str, ...]) -> str:
        """Give the named attributes as DICOM JSON text; one that cannot be written is left out.

        Source: PS3.18 Annex F.
        """
        raw, values = self._raw, self._values
        written = []
        for keyword in keywords:
            tag = _TAGS[keyword]
            if tag in raw:
                decoded = values[tag] if tag in values else self._decoded(tag)
                text = decoded.json if decoded is not None else self._json_by_pydicom(keyword)
                if text:
                    written.append(f"{_NAMES[tag]}{text}")
        return f"{{{','.join(written)}}}"

    def _json_by_pydicom(self, keyword: str) -> str:
        """Give one element as DICOM JSON text; empty where it cannot be written."""
        if self._value(keyword) is None:
            return ""
        try:
            element = _storable(self.dataset[keyword].to_json_dict(None, 1 << 30))
        except Exception:  # noqa: BLE001 (a value that no JSON can hold; its instance is kept all the same)
            return ""
        return json.dumps(element, ensure_ascii=False, separators=(",", ":"))

    def patient(self) -> str:
        """Say whom the instance is of, for comparison: JSON list of ID, issuer, name, birth date, sex, normalised."""
        return _patient(*map(self.text, _PATIENT))

    def _decoded(self, tag: int) -> Decoded | None:
        """Decode a usual value; None: there is none, or that is for pydicom."""
        values = self._values
        if tag not in values:
            raw = self._raw.get(tag)
            values[tag] = None if raw is None else decode(_VRS[tag], raw, self._reading.codecs[0], self._encoding)
        return values[tag]

    def _value(self, keyword: str) -> Any:
        if _TAGS[keyword] not in self._raw:
            return None
        try:
            return self.dataset.get(keyword)
        except Exception:  # noqa: BLE001 (any broken value; the instance is kept all the same)
            return None


@lru_cache(maxsize=1024)
def _patient(patient_id: str, issuer: str, name: str, birth_date: str, sex: str) -> str:
    folded = "^".join(part.strip() for part in fold(name).split("^")).rstrip("^= ")
    return json.dumps([patient_id, issuer, folded, birth_date.casefold(), sex.casefold()], ensure_ascii=False)


def _storable(value: Any) -> Any:
    """Give text, however deep, in normal form C, without what PostgreSQL holds nowhere: NUL; and halves of code points.

    The same letter may come as one character or as a letter and its accent; matching must not tell them apart.
    """
    if isinstance(value, str):
        value = _ESCAPES.sub("", value) if "\x1b" in value else value
        return unicodedata.normalize("NFC", value.replace("\0", "").encode("utf-8", "replace").decode("utf-8"))
    if isinstance(value, dict):
        return {name: _storable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_storable(each) for each in value]
    return value


def is_uid(text: str) -> bool:
    """Tell whether a text can name something, padding apart."""
    uid = text.rstrip("\0 ")
    return len(uid) <= 64 and _UID.fullmatch(uid) is not None


def fold(text: str) -> str:
    """Make text comparable: no accents, no case."""
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter)).casefold()


def read_header(beginning: Buffer, total: int, transfer_syntax_uid: str) -> Header:
    """Read what the index wants, and check that the data set is whole.

    Parameters
    ----------
    beginning
        The first bytes of the data set, as encoded.
    total
        Bytes of the whole data set.

    Raises
    ------
    UnreadableInstance
        The bytes are no data set, or it is cut short.
    BeyondBuffer
        More of the data set is needed.
    """
    encoding = encoding_of(transfer_syntax_uid)
    if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        beginning, total = _inflate(beginning, total)
    raw: dict[int, RawValue] = {}
    last, held = 0, len(beginning)
    with memoryview(beginning) as view:
        for element in scan(beginning, total, encoding, _WANTED):
            last = element.tag
            if last in _WANTED and element.length <= _LONGEST_VALUE:
                end = element.offset + element.length
                if end > held:
                    raise BeyondBuffer
                raw[last] = RawValue(element.vr, bytes(view[element.offset : end]), element.undefined)
    if not last:
        raise UnreadableInstance("The data set is empty.")
    return Header(raw, encoding, has_pixels=last in PIXEL_TAGS)


def read_data_set(encoded: bytes, transfer_syntax_uid: str) -> Dataset:
    """Read a whole small data set, such as the identifier of a query; text is decoded as it says.

    Raises
    ------
    UnreadableInstance
        The bytes are no data set.
    """
    encoding = encoding_of(transfer_syntax_uid)
    raw = {}
    for element in scan(encoded, len(encoded), encoding):
        content = encoded[element.offset : element.offset + element.length]
        raw[element.tag] = RawValue(element.vr, content, element.undefined)
    return _decoding(raw, encoding, _text_reading(raw))


def _raw_element(tag: int, value: RawValue, encoding: Encoding) -> RawDataElement:
    return RawDataElement(
        Tag(tag),
        value.vr.decode("ascii") if value.vr else None,
        0xFFFFFFFF if value.undefined else len(value.content),
        value.content,
        0,
        encoding.implicit or value.vr is None,
        encoding.little,
    )


def _decoding(raw: Mapping[int, RawValue], encoding: Encoding, reading: TextReading) -> Dataset:
    elements = {Tag(tag): _raw_element(tag, value, encoding) for tag, value in raw.items()}
    dataset = Dataset(elements)  # type: ignore[arg-type]
    dataset.set_original_encoding(encoding.implicit, encoding.little, list(reading.codecs))
    return dataset


def encoding_of(transfer_syntax_uid: str) -> Encoding:
    """How the elements of a transfer syntax are written; every encapsulated one is Explicit VR Little Endian.

    Source: PS3.5 Annex A.
    """
    implicit = transfer_syntax_uid == ImplicitVRLittleEndian
    return Encoding(implicit=implicit, little=transfer_syntax_uid != ExplicitVRBigEndian)


def _inflate(deflated: Buffer, total: int) -> tuple[bytearray, int]:
    """Inflate a whole data set, keeping its beginning; give that and the inflated length.

    Source: PS3.5 A.5 (no zlib header).
    """
    if len(deflated) < total:
        raise BeyondBuffer
    beginning, inflated = bytearray(), 0
    at_most = max(_INFLATED_AT_MOST, _INFLATED_RATIO * total)
    try:
        for part in _inflated_parts(deflated):
            inflated += len(part)
            if inflated > at_most:
                raise UnreadableInstance("The deflated data set inflates beyond any sensible size.")
            if len(beginning) < _HEADER_INFLATED_AT_MOST:
                beginning += part
    except zlib.error as error:
        raise UnreadableInstance("The data set does not inflate.") from error
    return beginning, inflated


def _inflated_parts(deflated: Buffer) -> Iterator[bytes]:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    for begin in range(0, len(deflated), _DEFLATED_CHUNK):
        rest = bytes(deflated[begin : begin + _DEFLATED_CHUNK])
        while True:
            part = stream.decompress(rest, _LONGEST_VALUE)
            rest = stream.unconsumed_tail
            if part:
                yield part
            if stream.eof:
                return
            if not rest and len(part) < _LONGEST_VALUE:
                break
    raise UnreadableInstance("The deflated data set is cut short.")


def _text_reading(raw: Mapping[int, RawValue]) -> TextReading:
    label = raw.get(_CHARACTER_SET)
    texts = [value.content for tag, value in raw.items() if tag in _TEXT]
    return read_as(label.content if label is not None else b"", texts)
