"""DICOM files in a folder, as instances to send."""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from dicom_node.scu.store import Outgoing
from storage.errors import UnreadableInstance

#: A folder of DICOM files has an index beside them, which is no instance.
_MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
#: What pydicom raises where a file is none or is broken.
_BROKEN = (
    InvalidDicomError,
    EOFError,
    ValueError,
    AttributeError,
    KeyError,
    TypeError,
    NotImplementedError,
    struct.error,
    zlib.error,
)


def outgoing(path: Path) -> Outgoing:
    """Give the instance that a DICOM file holds.

    Raises
    ------
    UnreadableInstance
        The file is no DICOM file, or does not say which instance it holds in which syntax.
    """
    try:
        header = dcmread(path, specific_tags=["SOPClassUID", "SOPInstanceUID"], stop_before_pixels=True)
    except _BROKEN as error:
        raise UnreadableInstance(f"{path.name} is no DICOM file") from error
    except OSError as error:
        # pydicom raises it without a number where a sequence breaks off; with one, the system says why.
        raise UnreadableInstance(f"{path.name} cannot be read: {error.strerror or 'it breaks off'}") from error
    sop_instance_uid, sop_class_uid = str(header.get("SOPInstanceUID") or ""), str(header.get("SOPClassUID") or "")
    transfer_syntax_uid = str(header.file_meta.get("TransferSyntaxUID") or "")
    if not (sop_instance_uid and sop_class_uid and transfer_syntax_uid) or sop_class_uid == _MEDIA_DIRECTORY:
        raise UnreadableInstance(f"{path.name} does not say which instance it holds")
    return Outgoing(sop_instance_uid, sop_class_uid, transfer_syntax_uid, open=partial(_open, path))


def instances_in(folder: Path) -> Iterator[Outgoing]:
    """Give the instances of all DICOM files at and below a folder, by path; other files are passed over."""
    for path in _files(folder):
        try:
            yield outgoing(path)
        except UnreadableInstance:
            continue


def copy_instances(source: Path, destination: Path) -> list[Path]:
    """Copy the DICOM files at and below a folder into another, under numbers for names; give the copies."""
    copies: list[Path] = []
    for path in _files(source):
        try:
            outgoing(path)
        except UnreadableInstance:
            continue
        copy = destination / f"{len(copies) + 1:06d}.dcm"
        shutil.copyfile(path, copy)
        copies.append(copy)
    return copies


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
        return
    yield from sorted(path for path in folder.rglob("*") if path.is_file())


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, path.open("rb"))
