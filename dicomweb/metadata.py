"""Metadata of instances, and the bulk data that it gives by reference.

Source: PS3.18 10.4.1.1.2 (metadata resources), 10.4.1.1.5 (bulk data), F.2.6 (BulkDataURI).
"""

from __future__ import annotations

import re
from functools import partial
from io import BytesIO
from typing import Any

import orjson
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRBigEndian
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.addresses import BaseUrl
from dicomweb.conditional import Validators
from dicomweb.errors import BadRequest
from dicomweb.media_types import DICOM_JSON, DICOM_XML, JSON, MULTIPART, OCTETS, accepted_by, choose
from dicomweb.multipart import Part, multipart_answer, read_file, streamed
from dicomweb.native_xml import native_xml
from storage.blobs import BlobStore
from storage.dicom_json import resolved
from storage.errors import NotKept
from storage.json_maker import Metadata as KeptMetadata
from storage.json_values import little_endian
from storage.records import InstanceRecord, StudyFilter

#: `7FE00010`, or through items of sequences `54000100/1/54001010`, counted from 1.
_PATH = re.compile(r"[0-9A-Fa-f]{8}(?:/\d{1,6}/[0-9A-Fa-f]{8}){0,8}")


class Metadata:
    """Answers what instances say of themselves."""

    def __init__(self, kept: KeptMetadata, blobs: BlobStore, base_url: BaseUrl, prefix: str) -> None:
        self._kept = kept
        self._blobs = blobs
        self._base_url = base_url
        self._prefix = prefix

    def answer(self, request: Request, visible: StudyFilter, *uids: str) -> Response:
        """Give all attributes but bulk data, as DICOM JSON or as XML in parts.

        `uids`: of the study, of its series, of its instance.
        """
        kind = choose(accepted_by(request), (DICOM_JSON, JSON, DICOM_XML))
        body = resolved(self._kept.of(*uids, visible=visible), self._base_url(request) + self._prefix)
        validators = Validators.of_content(body, kind)
        if (known := validators.not_modified(request)) is not None:
            return known
        if kind == DICOM_XML:
            documents = [native_xml(instance) for instance in orjson.loads(body)]
            parts = [Part(DICOM_XML, partial(BytesIO, text), len(text)) for text in documents]
            return multipart_answer(request, parts, kind=DICOM_XML, headers=validators.headers)
        return Response(body, media_type=kind, headers=validators.headers)

    def bulk_data(self, request: Request, record: InstanceRecord, path: str) -> Response:
        """Give the bytes of one attribute, in one part or as it is where that is asked for."""
        if not _PATH.fullmatch(path):
            raise BadRequest("Bulk data are named by tags of eight hex digits, items between them counted from 1.")
        accepted = accepted_by(request)
        choose(accepted, (OCTETS,))
        validators = Validators([record], f"bulk {path}")
        if (known := validators.not_modified(request)) is not None:
            return known
        with self._blobs.open(record.path) as file:
            value = _value(dcmread(file), path, little=record.transfer_syntax_uid != ExplicitVRBigEndian)
        if accepted[0].name == MULTIPART:
            part = Part(OCTETS, lambda: BytesIO(value), len(value), str(request.url.path))
            return multipart_answer(request, [part], kind=OCTETS, headers=validators.headers)
        return ranged(request, validators, len(value), lambda: BytesIO(value), OCTETS)


def ranged(request: Request, validators: Validators, size: int, open_it: Any, kind: str) -> Response:
    """Give one body, or the piece of it that is asked for."""
    headers = {**validators.headers, "Accept-Ranges": "bytes", "Content-Type": kind}
    try:
        piece = validators.range_of(request, size)
    except ValueError:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    if piece is None:
        return streamed(request, read_file(open_it()), headers={**headers, "Content-Length": str(size)})
    start, stop = piece
    headers |= {"Content-Length": str(stop - start), "Content-Range": f"bytes {start}-{stop - 1}/{size}"}
    return streamed(request, read_file(open_it(), start, stop), headers=headers, status=206)


def _index(item: str) -> int:
    if int(item) < 1:
        raise IndexError
    return int(item) - 1


def _value(dataset: Dataset, path: str, *, little: bool) -> bytes:
    steps = path.split("/")
    try:
        for tag, item in zip(steps[:-1:2], steps[1::2], strict=True):
            dataset = dataset[int(tag, 16)].value[_index(item)]
        element = dataset[int(steps[-1], 16)]
    except (KeyError, IndexError, TypeError) as error:
        raise NotKept("The instance has no bulk data under this name.") from error
    if isinstance(element.value, bytes):
        return little_endian(element.VR, element.value, little=little)
    if element.VR in ("UT", "LT", "ST", "UC", "UR") and isinstance(element.value, str):
        return element.value.encode()
    raise NotKept("The instance has no bulk data under this name.")
