"""Parts for tests that query and retrieve: a receiver over a real index, and what peers ask it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pydicom import Dataset
from pydicom.sequence import Sequence as Items
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

from configs.peers import Peer
from dicom_node.network import application_entity
from dicom_node.scp.query_retrieve import QueryParts, QueryService
from dicom_node.scu.transcoding import NativeTranscoder, Transcoder
from storage.audit import Audit
from storage.blobs import LocalBlobs
from storage.database import Database
from storage.index import Index
from tests.builders.dimse import EXPLICIT, Listening, a_peer, listening

PATIENT_ROOT_FIND, STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1", "1.2.840.10008.5.1.4.1.2.2.1"


def query_parts(database: Database, blobs: LocalBlobs, transcoder: Transcoder) -> QueryParts:
    """What the query service needs, over a real index."""
    return QueryParts(
        index=Index(database),
        blobs=blobs,
        audit=Audit(database),
        transcoder=transcoder,
        now=lambda: datetime(2026, 3, 1, 12, tzinfo=UTC),
    )


@contextlib.contextmanager
def answering_queries(
    database: Database,
    blobs: LocalBlobs,
    *,
    peers: Mapping[str, Peer] | None = None,
    transcoder: Transcoder | None = None,
    **settings: Any,
) -> Iterator[Listening]:
    """Start a receiver that answers queries over a real index."""
    anyone = {"loopback": a_peer(accept=["echo", "store", "find", "move", "get"])}
    service = QueryService(query_parts(database, blobs, transcoder or NativeTranscoder()))
    with listening(peers={**(peers or {}), **anyone}, services=[service], **settings) as here:
        yield here


@contextlib.contextmanager
def asking(port: int, sop_class: str, *, extended: bytes = b"", syntax: str = EXPLICIT) -> Iterator[Association]:
    """Have an association for queries, by pynetdicom alone."""
    entity = application_entity("VIEWER")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid = sop_class
    item.service_class_application_information = extended
    wishes = [build_context(sop_class, [syntax])]
    association = entity.associate(
        "127.0.0.1", port, contexts=wishes, ae_title="DICOMNODE", ext_neg=[item] if extended else None
    )
    assert association.is_established
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def identifier(level: str, **keys: Any) -> Dataset:
    """Make an identifier; a list of one data set stands for a sequence."""
    made = Dataset()
    made.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(made, keyword, Items(value) if isinstance(value, list) and keyword.endswith("Sequence") else value)
    return made


def find(
    here: Listening, asked: Dataset, *, sop_class: str = STUDY_ROOT_FIND, **how: Any
) -> tuple[list[Dataset], list[int]]:
    """Ask, and give the matches and every Status in order."""
    with asking(here.port, sop_class, **how) as association:
        answers = list(association.send_c_find(asked, sop_class))
    return [found for _, found in answers if found is not None], [int(status.Status) for status, _ in answers]
