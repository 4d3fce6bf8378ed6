"""Metadata of instances. Source: PS3.18 10.4.1.1.2 (metadata resources), F.2.6 (BulkDataURI)."""

from __future__ import annotations

from functools import partial
from io import BytesIO
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.addresses import BaseUrl
from dicomweb.conditional import Validators
from dicomweb.media_types import DICOM_JSON, DICOM_XML, JSON, accepted_by, choose
from dicomweb.multipart import Part, multipart_answer, read_file, streamed
from dicomweb.native_xml import native_xml
from storage.dicom_json import resolved
from storage.json_maker import Metadata as KeptMetadata
from storage.records import StudyFilter


class Metadata:
    """Answers what instances say of themselves."""

    def __init__(self, kept: KeptMetadata, base_url: BaseUrl, prefix: str) -> None:
        self._kept = kept
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
