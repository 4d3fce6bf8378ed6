"""Application entity, association policies, presentation contexts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from configs.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from configs.peers import Service
from configs.settings import DimseSettings
from dicom_node.conformance.markdown import name_of, table
from dicom_node.rejections import (
    APPLICATION_CONTEXT_NOT_SUPPORTED,
    CALLED_AE_TITLE_NOT_RECOGNIZED,
    CALLING_AE_TITLE_NOT_RECOGNIZED,
    LOCAL_LIMIT_EXCEEDED,
    NO_REASON_GIVEN,
    PROTOCOL_VERSION_NOT_SUPPORTED,
    TEMPORARY_CONGESTION,
    Rejection,
    meaning,
)
from dicom_node.scp.contexts import LOSSLESS, LOSSY, TRANSFER_SYNTAXES, UNCOMPRESSED
from dicom_node.scp.negotiation import WIDEST_WINDOW
from dicom_node.scp.receiver import MOST_IN_MEMORY
from dicom_node.scu.association import DEFAULT_TIMEOUTS
from dicom_node.scu.store import MOST_CONTEXTS
from dicom_node.tls import SUITES

_REJECTIONS: tuple[tuple[Rejection, str], ...] = (
    (CALLING_AE_TITLE_NOT_RECOGNIZED, "the caller is no listed peer, or calls from another address than its own"),
    (CALLED_AE_TITLE_NOT_RECOGNIZED, "the called AE title is none of the node's"),
    (LOCAL_LIMIT_EXCEEDED, "`dimse.maximum_associations` or the peer's `caps.associations` is reached"),
    (TEMPORARY_CONGESTION, "the index does not answer"),
    (PROTOCOL_VERSION_NOT_SUPPORTED, "bit 0 of the protocol version is not set"),
    (APPLICATION_CONTEXT_NOT_SUPPORTED, "another application context than DICOM's"),
    (NO_REASON_GIVEN, "no presentation context is asked for, or the user identity is none of the peer's `users`"),
)


def sections() -> Iterator[str]:
    """Give the sections."""
    yield _entity()
    yield _policies()
    yield _secure()
    yield _transfer_syntaxes()


def _entity() -> str:
    settings = DimseSettings()
    rows = (
        ("Implementation Class UID", IMPLEMENTATION_CLASS_UID),
        ("Implementation Version Name", IMPLEMENTATION_VERSION_NAME),
        ("Application Context Name", f"1.2.840.10008.3.1.1.1 ({name_of('1.2.840.10008.3.1.1.1')})"),
        (
            "AE title",
            f"`{settings.ae_title}` (`dimse.ae_title`; more by `dimse.also_answers_to`, per peer `answer_as`)",
        ),
        ("Port", f"{settings.port} (`dimse.port`), on {settings.host} unless configured (`dimse.host`)"),
    )
    return "Application entity\n\n" + table(("", ""), rows)


def _policies() -> str:
    settings = DimseSettings()
    limits = (
        ("Associations accepted at a time", settings.maximum_associations, "`dimse.maximum_associations`"),
        ("Maximum length of PDUs received, bytes", settings.maximum_pdu_size, "`dimse.maximum_pdu_size`"),
        ("Presentation contexts of an association, either side", MOST_CONTEXTS, "the standard's limit"),
        ("One instance received, 10^6 bytes", f"{settings.maximum_instance_mb:g}", "`dimse.maximum_instance_mb`"),
        ("The same beside other services than storage, bytes", MOST_IN_MEMORY, "fixed"),
        (
            "All that one association brings, 10^9 bytes",
            f"{settings.maximum_association_gb:g}",
            "`dimse.maximum_association_gb`",
        ),
        (
            "Seconds for an association request to be complete",
            f"{settings.answer_within_s:g}",
            "`dimse.answer_within_s`",
        ),
        ("Seconds for a peer to answer a message", f"{settings.answer_within_s:g}", "`dimse.answer_within_s`"),
        ("Seconds without traffic before an abort", f"{settings.idle_after_s:g}", "`dimse.idle_after_s`"),
        ("As requestor: seconds for the connection", f"{DEFAULT_TIMEOUTS.connect_s:g}", "fixed"),
    )
    rejected = ((*_codes(rejection), meaning(rejection), when) for rejection, when in _REJECTIONS)
    services = ", ".join(f"`{service}`" for service in get_args(Service))
    return (
        "Association policies\n\n"
        + table(("limit or timer", "shipped value", "setting"), limits)
        + "\nWho may associate stands in `peers.yaml`: AE title, addresses, and the services that it may use"
        + f" (of {services}). Contexts of services that a peer may not use are refused. Rejections:\n\n"
        + table(("result", "source", "reason", "words", "when"), rejected)
        + "\nOn an association for storage and verification alone, an asynchronous operations window is answered with"
        + f" up to {WIDEST_WINDOW} operations invoked by the peer, each answered as its instance becomes durable, and"
        + " one performed; role selection with the SCU role as proposed and no SCP role; storage extended negotiation"
        + " (PS3.4 B.3.1) with level 2, digital signature level 3, no coercion. On any other, one message is answered"
        + " after the other. User identity is taken as it is, unless the peer's entry lists `users`:"
        + " then user and passcode (type 2) must be one of these, or the association is rejected. A positive response"
        + " to types 1 and 2 is given where it is asked for. A DIMSE request that its presentation context has no"
        + " service for is answered 0x0211; a Priority that is left out counts as medium. What breaks PS3.8 is"
        + " answered by A-ABORT, source 2, reason 1, 2, 5 or 6; a command set that is none, and a peer that is too"
        + " slow, by source 0.\n"
    )


def _codes(rejection: Rejection) -> tuple[int, int, int]:
    return rejection.result, rejection.source, rejection.reason


def _secure() -> str:
    suites = ", ".join(f"`{suite}`" for suite in SUITES)
    return (
        "Secure transport\n\nPS3.15 B.12 (BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile), both"
        " directions, where `dimse.tls` in `node.yaml` or `tls` of a peer in `peers.yaml` asks for it: TLS 1.3, or 1.2"
        f" with one of {suites}. Nothing else is negotiated; there is no compression, renegotiation or session ticket."
        " The handshake must be over within `dimse.answer_within_s`. With `dimse.tls` the port speaks TLS alone;"
        " another without it may be opened beside (`dimse.tls.plaintext_port`), where peers with `tls` are not"
        " let in. Client certificates are required unless `require_client_certificate: false`; one must be signed by"
        " `dimse.tls.ca`, be valid, and bear the peer's AE title, its host or one of its `tls.names` as common name or"
        " subject alternative name, or have the fingerprint `tls.sha256`; else the calling AE title is not recognized."
        " Peers that the node calls must show a certificate of their `tls.ca` in the name of their host or"
        " `tls.server_name`.\n"
    )


def _transfer_syntaxes() -> str:
    kinds = ((UNCOMPRESSED, "uncompressed"), (LOSSLESS, "lossless"), (LOSSY, "may be lossy"))
    rows = (
        (place, name_of(uid), uid, next(kind for uids, kind in kinds if uid in uids))
        for place, uid in enumerate(TRANSFER_SYNTAXES, 1)
    )
    return (
        "Transfer syntaxes\n\nAs acceptor the first of this list that a presentation context offers is taken, whatever"
        " the requestor's order: a sender compresses to what is picked, and densities suffer from it. Instances are"
        " kept as they were received.\n\n" + table(("order", "name", "UID", "pixels"), rows)
    )
