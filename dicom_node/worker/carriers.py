"""The ways to a destination. Each tells the Status of every instance as it comes, and raises what ends the attempt."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from configs.errors import NodeError
from configs.peers import DeliverByDimse, DeliverByFolder, DeliverByStow, Peer, PeerTls
from configs.settings import DimseSettings
from dicom_node.scu import folder
from dicom_node.scu.association import Timeouts
from dicom_node.scu.store import SLOWEST_LINK, Outgoing, part10_of, send
from dicom_node.scu.transcoding import Transcoder
from dicom_node.tls import outgoing_context
from dicomweb import stow_client
from dicomweb.errors import ServiceRefused
from dicomweb.http_client import Service, basic
from inference.results.encodings import syntaxes_for
from storage.errors import NotKept

#: How a service refuses a transfer syntax: of the instance, or of the whole request.
#: Source: PS3.18 I.2.2 (Failure Reason C122), RFC 9110 15.5.16.
_SYNTAX_NOT_SUPPORTED, _UNSUPPORTED_MEDIA_TYPE = 0xC122, 415

OnStatus = Callable[[Outgoing, int], None]
OnRefused = Callable[[Outgoing, NodeError], None]


def carry(
    peer: Peer,
    study_instance_uid: str,
    items: Sequence[Outgoing],
    on_status: OnStatus,
    dimse: DimseSettings,
    on_refused: OnRefused | None = None,
    transcoder: Transcoder | None = None,
) -> None:
    """Bring instances of one study to a destination in the order given, the way that its `deliver` names.

    Parameters
    ----------
    on_refused
        Told of an instance that cannot go there, the next one is then sent: each is on its own. Without it, all or
        none go: such an instance ends the sending, over DIMSE before the first one is sent.
    transcoder
        What is encoded anew where the destination does not take it as it is kept.

    Raises
    ------
    NodeError
        What `outcomes.answer_to_error` knows; and what `on_status` raises.
    """
    ours = on_refused is None  # originals go as they are kept where that is taken
    if ours and peer.deliver is not None:
        wanted = peer.deliver.encodings
        items = [replace(item, preferred=syntaxes_for(item.sop_class_uid, wanted)) for item in items]
    match peer.deliver:
        case DeliverByDimse():
            send(
                peer,
                calling_ae_title=peer.answer_as or dimse.ae_title,
                items=items,
                on_status=on_status,
                on_refused=on_refused,
                transcoder=transcoder,
                whole=ours,
                timeouts=timeouts_of(dimse),
            )
        case DeliverByStow() as deliver:
            _by_stow(service_of(deliver, peer.tls), items, on_status, on_refused, dimse.answer_within_s)
        case DeliverByFolder() as deliver:
            folder.put(deliver.path, study_instance_uid, items, on_status)


def timeouts_of(dimse: DimseSettings) -> Timeouts:
    """Give how long a destination may take."""
    return Timeouts(associate_s=dimse.answer_within_s, answer_s=dimse.answer_within_s)


def service_of(deliver: DeliverByStow, tls: PeerTls | None) -> Service:
    """Give the DICOMweb service of a destination, with what shows it who we are."""
    headers: dict[str, str] = {}
    if deliver.bearer is not None:
        headers["Authorization"] = f"Bearer {deliver.bearer.get_secret_value()}"
    if deliver.user is not None and deliver.password is not None:
        headers["Authorization"] = basic(deliver.user, deliver.password.get_secret_value())
    if deliver.api_key is not None:
        headers[deliver.api_key_header] = deliver.api_key.get_secret_value()
    certificates = tls or PeerTls()
    return Service(
        deliver.url,
        headers,
        tls=lambda: outgoing_context(certificates),
        server_name=certificates.server_name,
    )


def _by_stow(
    service: Service, items: Sequence[Outgoing], on_status: OnStatus, on_refused: OnRefused | None, answer_s: float
) -> None:
    for item in items:
        try:
            sent, status = _store_as_preferred(service, item, answer_s)
        except (ServiceRefused, NotKept) as error:
            if on_refused is None:
                raise
            on_refused(item, error)
        else:
            on_status(sent, status)


def _store_as_preferred(service: Service, item: Outgoing, answer_s: float) -> tuple[Outgoing, int]:
    """Store an instance in the first of its syntaxes that the service does not refuse; as it is kept comes last."""
    for syntax in item.preferred:
        try:
            status = _store(service, item, syntax, answer_s)
        except ServiceRefused as error:
            if error.facts.get("http_status") != _UNSUPPORTED_MEDIA_TYPE:
                raise
            continue
        if status != _SYNTAX_NOT_SUPPORTED:
            return replace(item, sent_as=syntax), status
    kept = item.transfer_syntax_uid
    return replace(item, sent_as=kept), _store(service, item, kept, answer_s)


def _store(service: Service, item: Outgoing, syntax: str, answer_s: float) -> int:
    with contextlib.ExitStack() as files:
        part10 = part10_of(item, syntax, files)
        length = part10.seek(0, 2)
        part10.seek(0)
        within_s = answer_s + length / SLOWEST_LINK
        return stow_client.store(service, item.sop_instance_uid, part10, length, within_s=within_s)
