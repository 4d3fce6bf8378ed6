"""DICOMweb: resources and what is answered, read from the routes themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute

from dicom_node.conformance.markdown import table
from dicomweb import capabilities
from dicomweb.problems import STATUS
from dicomweb.services import services
from storage.matching import Level
from storage.search import matched_attributes


def sections() -> Iterator[str]:
    """Give the sections."""
    yield _resources()
    yield _search()


def _resources() -> str:
    nothing: Any = _Nothing()
    routers = list(services(nothing, _nobody, nothing, nothing))
    routers.append(("Capabilities", capabilities.routes(routers, _nobody, nothing)))
    rows = [row for name, router in routers for row in _routes(name, router)]
    statuses = sorted({(status, kind.__doc__ or "") for kind, status in STATUS if status < 500 or status > 500})
    failures = ((status, words.strip().splitlines()[0]) for status, words in statuses)
    return (
        "DICOMweb services\n\n"
        + table(("service", "method", "resource"), rows)
        + "\nMetadata and search results are `application/dicom+json` or, where asked for, `application/dicom+xml`;"
        " searches also take `orderby` and `charset`. Whole instances come in parts, alone (`application/dicom`) or as"
        " `application/zip`, frames in parts or alone; both in Explicit VR Little Endian unless the caller names a"
        " transfer syntax or takes them as stored (`transfer-syntax=*`), converted without loss. Pictures are JPEG, PNG"
        " or, of several frames, GIF; reports are text. STOW-RS takes `application/dicom` in parts or alone, and"
        " metadata (`application/dicom+json` for all instances, `application/dicom+xml` for one in a part) with bulk"
        " data in parts that their `Content-Location` names: uncompressed little endian, or a part for each compressed"
        " frame. An address of elsewhere is never fetched. ETag, Range (of single objects), HEAD and OPTIONS are"
        " understood. Delete is served only where `http.delete` says so: to keys with the permission `delete`, never"
        " what the node committed itself to keep, what is being received or analysed, undelivered results, or sources"
        " and results apart from their study (409). Bulk and pixel data of a level come in parts: uncompressed in one"
        " for each instance, compressed frames in one each. A work item (UPS-RS) whose Scheduled Workitem Code or"
        " Scheduled Station Name Code has the scheme `99DICOMNODE` and the name of an engine is performed by the node:"
        " it is IN PROGRESS once its study is complete, COMPLETED with the results in the Output Information Sequence,"
        " or CANCELED with the reason; results of it alone are kept and delivered nowhere. Others are claimed with a"
        " Transaction UID. A subscriber (AE title) is told of a work item, of all (1.2.840.10008.5.1.4.34.5) or of"
        " those that match (1.2.840.10008.5.1.4.34.5.1, `filter=keyword=value,…`) over a WebSocket at"
        " `/dicom-web/subscribers/{aetitle}` (also below `/dicom-web/ws`): State Report, Cancel Requested, Progress"
        " Report and UPS Assigned, as DICOM JSON, from the moment that the channel is open; SCP Status Change is not"
        " sent. Work items are never deleted, so every deletion lock holds. A subscriber is of the key that made it and"
        " listens to what this key may see; at most 100 subscribers with 1,000 subscriptions each, 50 channels, 5 of a"
        " subscriber. The state of at most 1,000 open work items is told to who subscribes to all. A work item that is"
        " performed by others can be asked to be canceled where somebody is told of it, else 409. `GET` or"
        " `OPTIONS /dicom-web` gives the capabilities description (WADL, or JSON)."
        " Failures are `application/problem+json`:\n\n" + table(("status", "when"), failures)
    )


def _routes(service: str, router: APIRouter) -> Iterator[tuple[str, str, str]]:
    for route in router.routes:
        if isinstance(route, APIRoute):
            yield service, ", ".join(sorted(route.methods or ())), f"`{route.path}`"


class _Nothing:
    """Parts of a node that is only described."""

    def __getattr__(self, name: str) -> None:
        return None


def _nobody(_: str) -> Any:
    def refuse() -> None:
        raise PermissionError("these routes are listed, never served")

    return refuse


def _search() -> str:
    rows = [(level.value, ", ".join(matched_attributes(level))) for level in Level]
    return (
        "Matching\n\nSingle value, list, wildcard, range, sequence and universal matching, with regard to case; names"
        " of persons without regard to case and accents, each component group by itself; with fuzzy matching (QIDO-RS:"
        " `fuzzymatching=true`) a person also matches where each given word begins a word of the name. Ranges of Study"
        " Date and Study Time that are given together are one range of moments (C-FIND: where negotiated). An attribute"
        " that is not listed is not matched; QIDO-RS names it in a `Warning` header.\n\n"
        + table(("level", "attributes matched"), rows)
    )
