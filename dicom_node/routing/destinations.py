"""Where the results of a study go, and what to say where they go nowhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from configs.peers import Peer
from storage.records import Sender

#: In a rule's `deliver_to`: the peers that sent the study.
SENDER = "sender"


@dataclass(frozen=True)
class Destinations:
    """Peers that get the results."""

    names: tuple[str, ...]
    """Each once, in the rule's order."""
    without_deliver: tuple[Sender, ...]
    """Senders that were meant and are no destination."""


def resolve(deliver_to: Sequence[str], senders: Sequence[Sender], peers: Mapping[str, Peer]) -> Destinations:
    """Turn a rule's `deliver_to` into names of peers: `sender` means everybody who sent the study."""
    names: list[str] = []
    without: list[Sender] = []
    for name in deliver_to:
        if name != SENDER:
            names.append(name)
            continue
        for sender in senders:
            peer = peers.get(sender.peer)
            if peer is None or peer.deliver is None:
                without.append(sender)
            else:
                names.append(sender.peer)
    return Destinations(tuple(dict.fromkeys(names)), tuple(without))


def kept_only(senders: Sequence[Sender], peers: Mapping[str, Peer]) -> str:
    """Say that results stay here because of these senders, with the line that changes it; empty: none."""
    sentences = {sender.peer: _kept_only(sender, peers) for sender in senders}
    return " ".join(sentences.values())


def _kept_only(sender: Sender, peers: Mapping[str, Peer]) -> str:
    if not sender.calling_ae_title:
        return "Kept here only: the study was not sent by a DICOM peer, and its rule names no other destination."
    peer = peers.get(sender.peer)
    # An entry for any AE title stays beside a more exact one; an exact one is replaced.
    exact = peer is not None and peer.ae_title != "*"
    name = sender.peer if exact else _name_for(sender.calling_ae_title, peers)
    remove = f"dicom-node peers remove {name} && " if exact else ""
    ae_title = shlex.quote(sender.calling_ae_title)
    line = f"{remove}dicom-node peers add {name} --ae {ae_title} --host {shlex.quote(sender.host)} --port PORT"
    return f'Kept here only: peer "{sender.peer}" has no deliver. Add one: {line}'


def _name_for(ae_title: str, peers: Mapping[str, Peer]) -> str:
    """Propose a name for a peer that is not on the list yet."""
    name = re.sub(r"[^a-z0-9]+", "-", ae_title.lower()).strip("-") or "peer"
    return name if name not in peers else f"{name}-2"
