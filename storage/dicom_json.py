"""Instances in the DICOM JSON model, written straight from their encoded bytes.

An element that was seen before, byte for byte, costs one look-up: slices of a series share most of theirs.

Source: PS3.18 Annex F, 10.4.1.1.2 (metadata).
"""

from __future__ import annotations

import logging
import mmap
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, BinaryIO

from pydicom import DataElement, Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from storage.errors import UnreadableInstance
from storage.header import encoding_of
from storage.json_walk import INLINE_AT_MOST, Memory, Walk, join
from storage.part10 import read_file_meta

log = logging.getLogger(__name__)

#: Stands in kept JSON where the address of the DICOMweb service belongs. No JSON text can hold it.
BASE = b"\x1a"
#: Bytes of a deflated data set that are looked at, inflated.
_INFLATED_AT_MOST = 64 << 20
_INLINE_BASE64 = INLINE_AT_MOST * 4 // 3 + 4
_AVAILABLE_TRANSFER_SYNTAX = 0x00083002


class JsonEncoder:
    """Writes instances as DICOM JSON. One serves many of them, in one thread."""

    def __init__(self) -> None:
        self._memory = Memory()

    def encode(
        self,
        data_set: bytes | mmap.mmap,
        transfer_syntax_uid: str,
        *,
        begin: int = 0,
        bulk_base: bytes = BASE,
        more: Mapping[int, bytes] | None = None,
    ) -> bytes:
        """Give a data set as one JSON object.

        Parameters
        ----------
        data_set
            The elements as encoded, inflated where they were deflated, from `begin` to the end.
        bulk_base
            What BulkDataURI begins with; the way to the attribute follows: `00420011`, `00081140/1/00091001`.
        more
            Members to add, by tag.
        """
        walk = Walk(self._memory, data_set, bulk_base)
        elements = walk.top_level(begin, len(data_set), encoding_of(transfer_syntax_uid))
        return join(elements | dict(more or {}))

    def encode_instance(self, file: BinaryIO, *, study_instance_uid: str, series_instance_uid: str) -> bytes:
        """Give a kept instance as metadata has it, its bulk data below `BASE`.

        Parameters
        ----------
        file
            Its Part 10 file from the start.

        Raises
        ------
        UnreadableInstance
            It is no DICOM file.
        """
        meta = read_file_meta(file)
        place = (
            f"/studies/{study_instance_uid}/series/{series_instance_uid}/instances/{meta.sop_instance_uid}/bulkdata/"
        )
        syntax = meta.transfer_syntax_uid
        available = b'"%08X":{"vr":"UI","Value":["%b"]}' % (_AVAILABLE_TRANSFER_SYNTAX, syntax.encode("ascii"))
        more = {_AVAILABLE_TRANSFER_SYNTAX: available}
        bulk_base = BASE + place.encode("ascii")
        if syntax == DeflatedExplicitVRLittleEndian:
            return self.encode(_inflated(file), syntax, bulk_base=bulk_base, more=more)
        begin = file.tell()
        try:
            descriptor = file.fileno()
        except OSError:  # no file of this machine
            return self.encode(file.read(), syntax, bulk_base=bulk_base, more=more)
        with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as mapped:
            return self.encode(mapped, syntax, begin=begin, bulk_base=bulk_base, more=more)


def to_json(dataset: Dataset, bulk_uri: Callable[[str], str]) -> dict[str, Any]:
    """Give a data set that came without its bytes, such as a DIMSE attribute list, as DICOM JSON.

    Parameters
    ----------
    bulk_uri
        Gives the BulkDataURI of a top-level attribute, named by its eight hex digits.

    A value that the model cannot hold is left out and logged by its tag.
    """
    written: dict[str, Any] = {}
    for tag in sorted(dataset.keys()):
        name = f"{int(tag):08X}"
        if int(tag) & 0xFFFF == 0 or int(tag) >> 16 == 2:
            continue  # group lengths and File Meta are no part of it
        try:
            written[name] = dataset[tag].to_json_dict(partial(_named, bulk_uri, name), _INLINE_BASE64)
        except Exception:  # noqa: BLE001 (any value that a sender made up)
            log.warning("attribute left out of DICOM JSON", extra={"action": "json_left_out", "tag": name})
    return written


def _named(bulk_uri: Callable[[str], str], name: str, _: DataElement) -> str:
    return bulk_uri(name)


def resolved(kept: bytes, base: str) -> bytes:
    """Give kept JSON with the address of the DICOMweb service in it, such as `https://pacs.example/dicom-web`."""
    # An address cannot hold what JSON would escape, but a forged Host header may try.
    return kept.replace(BASE, base.replace("\\", "").replace('"', "").encode("ascii", "ignore"))


def _inflated(file: BinaryIO) -> bytes:
    """Inflate the beginning of a deflated data set. Source: PS3.5 A.5."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(), _INFLATED_AT_MOST)
    except zlib.error as error:
        raise UnreadableInstance("The data set does not inflate.") from error
