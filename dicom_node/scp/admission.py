"""Who may have an association: a pure rule over the peer list."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from configs.peers import Peer
from dicom_node.network import is_ae_title, printable_ae_title
from dicom_node.rejections import (
    CALLED_AE_TITLE_NOT_RECOGNIZED,
    CALLING_AE_TITLE_NOT_RECOGNIZED,
    LOCAL_LIMIT_EXCEEDED,
    Rejection,
)
from dicom_node.scp.hosts import HostNames, address_of
from dicom_node.tls import Certificate, is_bound

ANY_AE_TITLE = "*"


@dataclass(frozen=True)
class Caller:
    """Who asks for an association, and for whom."""

    calling_ae_title: str
    called_ae_title: str
    host: str
    """Address of the other end of the connection."""

    @property
    def shown(self) -> str:
        """Name and address, as messages show them."""
        return f"{printable_ae_title(self.calling_ae_title)} at {self.host}"


@dataclass(frozen=True)
class Admitted:
    """The caller is a listed peer."""

    peer: str
    """Its name in the peer list."""


@dataclass(frozen=True)
class Refused:
    """The caller gets no association."""

    why: str
    """For the administrator; says what to do."""
    rejection: Rejection


def admit(
    caller: Caller, peers: Mapping[str, Peer], own_titles: Collection[str], names: HostNames
) -> Admitted | Refused:
    """Decide whether a caller is a peer of ours.

    Exact AE titles are matched before `*`, and among them the narrower network wins.

    Parameters
    ----------
    own_titles
        AE titles of this node, the main one first; a peer's `answer_as` counts beside them.
    names
        Knows the addresses of host names that stand in `from`.

    Source: PS3.8 Table 9-21, 7.1.1.5 and 7.1.1.6 (AE titles).
    """
    if not is_ae_title(caller.calling_ae_title):
        why = f"Refused {caller.shown}: the calling AE title holds characters that DICOM forbids."
        return Refused(why, CALLING_AE_TITLE_NOT_RECOGNIZED)
    peer = _matching_peer(caller, peers, names)
    answers_as = peers[peer].answer_as if peer is not None else None
    if caller.called_ae_title not in own_titles and caller.called_ae_title != answers_as:
        called, own = printable_ae_title(caller.called_ae_title), answers_as or next(iter(own_titles))
        why = f"Refused {caller.shown}: called AE title {called}, this node is {own}."
        return Refused(why, CALLED_AE_TITLE_NOT_RECOGNIZED)
    if peer is None:
        return Refused(_say_unlisted(caller, peers), CALLING_AE_TITLE_NOT_RECOGNIZED)
    return Admitted(peer)


def prove(caller: Caller, peer: Peer, *, secure: bool, certificate: Certificate | None) -> Refused | None:
    """Refuse a caller that does not prove by its certificate to be the peer that it says it is.

    Parameters
    ----------
    secure
        It came over TLS. A peer that is listed with `tls` is let in no other way.
    certificate
        What it showed; None: nothing, which is enough where no peer must and this one is not bound to one.
    """
    tls = peer.tls
    if not secure:
        if tls is None:
            return None
        why = f"Refused {caller.shown}: the peer is listed with tls and came without."
        return Refused(why, CALLING_AE_TITLE_NOT_RECOGNIZED)
    names = tls.names if tls is not None else ()
    sha256 = tls.sha256 if tls is not None else None
    if certificate is None:
        if not names and sha256 is None:
            return None
        return Refused(f"Refused {caller.shown}: it showed no certificate.", CALLING_AE_TITLE_NOT_RECOGNIZED)
    if is_bound(certificate, names or {caller.calling_ae_title, caller.host, *peer.may_call_from}, sha256):
        return None
    shown = ", ".join(sorted(re.sub(r"[^ -~]", "?", name)[:64] for name in certificate.names)[:5]) or "no name"
    why = (
        f"Refused {caller.shown}: its certificate is of {shown}. "
        f"Allow: add tls: {{sha256: {certificate.sha256}}} to the peer in peers.yaml."
    )
    return Refused(why, CALLING_AE_TITLE_NOT_RECOGNIZED)


def within_limits(caller: Caller, peer: Peer, *, open_of_peer: int, open_in_all: int, maximum: int) -> Refused | None:
    """Refuse, for now, an association beyond what the node or the peer may have open.

    `open_of_peer`, `open_in_all`: associations that are open already.
    """
    if open_in_all >= maximum:
        why = f"Refused {caller.shown}: {maximum} associations are open (dimse.maximum_associations)."
        return Refused(why, LOCAL_LIMIT_EXCEEDED)
    cap = peer.caps.associations
    if cap is not None and open_of_peer >= cap:
        why = f"Refused {caller.shown}: it has {cap} associations open (caps.associations in peers.yaml)."
        return Refused(why, LOCAL_LIMIT_EXCEEDED)
    return None


def _matching_peer(caller: Caller, peers: Mapping[str, Peer], names: HostNames) -> str | None:
    address = address_of(caller.host)
    if address is None:
        return None
    for title in (caller.calling_ae_title, ANY_AE_TITLE):
        best: tuple[int, str] | None = None
        for name, peer in peers.items():
            if peer.ae_title != title:
                continue
            bits = [names.closeness(address, source) for source in peer.may_call_from]
            closest = max((count for count in bits if count is not None), default=None)
            if closest is not None and (best is None or closest > best[0]):
                best = (closest, name)
        if best is not None:
            return best[1]
    return None


def _say_unlisted(caller: Caller, peers: Mapping[str, Peer]) -> str:
    title = caller.calling_ae_title
    for name, peer in peers.items():
        if peer.ae_title == title:
            sources = ", ".join(peer.may_call_from)
            return (
                f"Refused {caller.shown}: peer {name} may call from {sources}. "
                f"Allow: add {caller.host} to its `from` in peers.yaml."
            )
    if not re.fullmatch(
        r"[A-Za-z0-9_][A-Za-z0-9_. -]*", title
    ):  # nothing that a shell or an option parser could mistake
        return f"Refused {caller.shown}: no peer matches. Allow: add it to peers.yaml."
    wish = re.sub(r"[^a-z0-9_.-]", "-", title.lower()).strip("-_.") or "peer"
    name = next(each for each in (wish, *(f"{wish}-{n}" for n in range(2, len(peers) + 3))) if each not in peers)
    command = f"dicom-node peers add {name} --ae {shlex.quote(title)} --from {shlex.quote(caller.host)}"
    return f"Refused {caller.shown}: no peer matches. Allow: {command}"
