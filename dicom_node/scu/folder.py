"""Instances as DICOM files in a folder: each whole or not there at all."""

from __future__ import annotations

import contextlib
import filecmp
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from dicom_node.errors import PeerUnreachable
from dicom_node.scu.store import Outgoing, part10_of

_CHUNK = 1 << 20
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")


def put(
    folder: Path, study_instance_uid: str, items: Sequence[Outgoing], on_status: Callable[[Outgoing, int], None]
) -> None:
    """Write instances, in the order given, to `<Study Instance UID>/<SOP Instance UID>.dcm`.

    A file stands under its name when it is on disk in full. One that is there already with the same bytes stays. Each
    goes in the first syntax that is preferred for it.

    Raises
    ------
    PeerUnreachable
        The folder is not there, is full, or may not be written.
    """
    try:
        if not folder.is_dir():
            raise PeerUnreachable(f"Folder {folder} is not there.")
        into = folder / _name(study_instance_uid)
        into.mkdir(exist_ok=True)
        _sync(folder)
        for item in items:
            syntax = (*item.preferred, item.transfer_syntax_uid)[0]
            _write(item, syntax, into / f"{_name(item.sop_instance_uid)}.dcm")
            on_status(replace(item, sent_as=syntax), 0x0000)
    except OSError as error:
        raise PeerUnreachable(f"Folder {folder} cannot be written: {error.strerror or error}.") from error


def holds(folder: Path, study_instance_uid: str, item: Outgoing) -> bool:
    """Tell whether an instance stands in the folder with the bytes that it went there with.

    `item.sent_as`: the syntax that it went in; empty: as it is kept.
    """
    path = folder / _name(study_instance_uid) / f"{_name(item.sop_instance_uid)}.dcm"
    try:
        with contextlib.ExitStack() as files:
            ours = part10_of(item, item.sent_as or item.transfer_syntax_uid, files)
            return _digest(ours) == _digest(files.enter_context(path.open("rb")))
    except OSError:
        return False


def _digest(file: BinaryIO) -> bytes:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.digest()


def _write(item: Outgoing, syntax: str, path: Path) -> None:
    beside = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with contextlib.ExitStack() as files, beside.open("xb") as file:
            shutil.copyfileobj(part10_of(item, syntax, files), file)
            file.flush()
            os.fsync(file.fileno())
        if not (path.exists() and filecmp.cmp(beside, path, shallow=False)):
            beside.replace(path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _name(uid: str) -> str:
    """Name a file after a UID; what could be anything else than one becomes its digest."""
    if len(uid) <= 64 and _UID.fullmatch(uid):
        return uid
    return hashlib.sha256(uid.encode()).hexdigest()[:32]
