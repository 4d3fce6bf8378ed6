"""STOW-RS and QIDO-RS as a client: store one instance elsewhere, and look whether it is there.

Source: PS3.18 10.5 (Store), 10.6 (Search), Annex I (Store Instances Response Module).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

from dicomweb.errors import ServiceRefused, ServiceUnreachable
from dicomweb.http_client import Service, ask

_CHUNK = 1 << 18
_JSON = "application/dicom+json"
#: Attributes of the answer. Source: PS3.18 Table I.2-1.
_FAILED, _STORED = "00081198", "00081199"
_SOP_INSTANCE_UID, _FAILURE_REASON, _WARNING_REASON = "00081155", "00081197", "00081196"
#: Said of an instance that a service warns of without a reason. Source: PS3.18 Table 10.5.3-1 (202).
_WARNING = 0x0001

_SUCCESS, _ACCEPTED, _CONFLICT = 200, 202, 409
_NO_CONTENT = 204


def store(service: Service, sop_instance_uid: str, part10: BinaryIO, length: int, *, within_s: float) -> int:
    """Store one instance; give what the service says of it, in the codes that C-STORE Status has.

    Parameters
    ----------
    part10
        Its DICOM file, at the first byte.
    length
        Bytes of the file.

    Raises
    ------
    ServiceUnreachable
        No connection, no answer in time, or an answer that speaks of another instance.
    ServiceRefused
        The service refused without saying why of the instance.
    """
    boundary = uuid.uuid4().hex
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\nContent-Length: {length}\r\n\r\n".encode("ascii")
    tail = f"\r\n--{boundary}--\r\n".encode("ascii")

    def body() -> Iterator[bytes]:
        yield head
        while chunk := part10.read(_CHUNK):
            yield chunk
        yield tail

    answer = ask(
        service,
        "POST",
        "/studies",
        headers={
            "Accept": _JSON,
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
        },
        body=body(),
        length=len(head) + length + len(tail),
        within_s=within_s,
    )
    if answer.status in (_SUCCESS, _ACCEPTED, _CONFLICT):
        said = _status_of(answer.content, sop_instance_uid, service)
        if said is not None and not (said == 0 and answer.status == _CONFLICT):
            return said
        if said is None and answer.status == _SUCCESS and answer.content.lstrip().startswith(b"<"):
            return 0x0000  # the service speaks XML alone; 200 says that all is stored
    raise ServiceRefused(f"{service.url} answered {answer.status}.", http_status=answer.status)


def has(
    service: Service,
    study_instance_uid: str,
    series_instance_uid: str,
    sop_instance_uid: str,
    *,
    within_s: float,
) -> bool:
    """Tell whether a service finds an instance.

    Raises
    ------
    ServiceUnreachable, ServiceRefused
        It does not say.
    """
    path = f"/studies/{quote(study_instance_uid)}/series/{quote(series_instance_uid)}/instances"
    query = urlencode({"SOPInstanceUID": sop_instance_uid})
    answer = ask(service, "GET", f"{path}?{query}", headers={"Accept": _JSON}, within_s=within_s)
    if answer.status in (_NO_CONTENT, 404):  # Source: PS3.18 8.5.1; some say Not Found of a study without instances
        return False
    if answer.status != _SUCCESS:
        raise ServiceRefused(f"{service.url} answered {answer.status} to a search.", http_status=answer.status)
    found = _json(answer.content)
    if not isinstance(found, list):
        raise ServiceUnreachable(f"{service.url} answered a search with what is no DICOM JSON.")
    return any(_value(each, "00080018") == sop_instance_uid for each in found)


def _status_of(content: bytes, sop_instance_uid: str, service: Service) -> int | None:
    """Read what an answer says of an instance; None: it is no DICOM JSON, or names none."""
    said = _json(content)
    if isinstance(said, list):  # some services answer with a list of one
        said = said[0] if said else None
    if not isinstance(said, dict):
        return None
    failed, stored = _items(said, _FAILED), _items(said, _STORED)
    for item in failed:
        if _value(item, _SOP_INSTANCE_UID) == sop_instance_uid:
            return _number(item, _FAILURE_REASON, 0x0110)
    for item in stored:
        if _value(item, _SOP_INSTANCE_UID) == sop_instance_uid:
            return _number(item, _WARNING_REASON, _WARNING if _WARNING_REASON in item else 0x0000)
    if failed or stored:
        raise ServiceUnreachable(f"{service.url} answered for another instance than was sent.")
    return None


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _items(dataset: Any, tag: str) -> list[Any]:
    element = dataset.get(tag) if isinstance(dataset, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return [item for item in values if isinstance(item, dict)] if isinstance(values, list) else []


def _value(dataset: Any, tag: str) -> Any:
    element = dataset.get(tag) if isinstance(dataset, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return values[0] if isinstance(values, list) and values else None


def _number(item: Any, tag: str, otherwise: int) -> int:
    value = _value(item, tag)
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise
