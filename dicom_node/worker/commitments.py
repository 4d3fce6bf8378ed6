"""The courier's reports of storage commitment: sent on associations of ours until they are taken."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from configs.peers import Peer
from configs.settings import DeliverySettings
from dicom_node.commitment_report import was_taken
from dicom_node.errors import AssociationRejected, ContextRefused, PeerUnreachable
from dicom_node.scu.association import Timeouts
from dicom_node.scu.commitment import report
from dicom_node.worker.outcomes import next_attempt_at
from dicom_node.worker.turns import Turns
from storage.commitments import Commitments
from storage.peer_records import CommitmentRecord, CommitmentState

log = logging.getLogger(__name__)

#: Seconds between two looks at what is due.
EVERY_S = 0.5
#: Peers that are told at the same time: one that hangs holds up nobody else.
_AT_ONCE = 8


@dataclass(frozen=True)
class ReportParts:
    """What reports need."""

    commitments: Commitments
    peers: Mapping[str, Peer]
    """The peer list as it stands now."""
    delivery: DeliverySettings
    timeouts: Timeouts
    now: Callable[[], datetime]


class CommitmentReports:
    """Looks for reports that are due, again and again."""

    def __init__(self, parts: ReportParts) -> None:
        self._parts = parts
        self._turns = Turns("commitment_report_failed")
        self._in_hand: set[str] = set()
        self._lock = threading.Lock()

    def run(self, stop: threading.Event, *, every_s: float = EVERY_S) -> None:
        """Look until told to stop; what is in hand then is waited for, within the peers' time."""
        with ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="commitment-report") as pool:
            while not stop.wait(every_s):
                self._turns.take("look", self._parts.now(), lambda: self._look(pool))

    def _look(self, pool: ThreadPoolExecutor) -> bool:
        by_peer: dict[str, list[CommitmentRecord]] = {}
        for commitment in self._parts.commitments.due(self._parts.now()):
            by_peer.setdefault(f"{commitment.peer} {commitment.called_ae_title}", []).append(commitment)
        for key, due in by_peer.items():
            with self._lock:
                if key in self._in_hand:
                    continue
                self._in_hand.add(key)
            pool.submit(self._tell, key, due)
        return bool(by_peer)

    def _tell(self, key: str, due: Sequence[CommitmentRecord]) -> None:
        try:
            self._turns.take(key, self._parts.now(), lambda: tell(due, self._parts))
        finally:
            with self._lock:
                self._in_hand.discard(key)


def tell(due: Sequence[CommitmentRecord], parts: ReportParts) -> bool:
    """Report to one peer, in one association; tell whether it was reached.

    Parameters
    ----------
    due
        Reports to the same peer, asked for under the same AE title of ours.
    """
    now = parts.now()
    until = now + timedelta(seconds=len(due) * parts.timeouts.answer_s + parts.timeouts.associate_s)
    claimed = [one for each in due if (one := parts.commitments.claim(each, now=now, until=until)) is not None]
    if not claimed:
        return False
    open_ids = {each.commitment_id for each in claimed}

    def on_status(commitment: CommitmentRecord, status: int) -> None:
        open_ids.discard(commitment.commitment_id)
        _settle(commitment, status, parts)

    try:
        report(
            _reachable(claimed[0], parts.peers),
            calling_ae_title=claimed[0].called_ae_title,
            commitments=claimed,
            on_status=on_status,
            timeouts=parts.timeouts,
        )
    except (PeerUnreachable, AssociationRejected, ContextRefused) as error:
        for commitment in claimed:
            if commitment.commitment_id in open_ids:
                _put_off(commitment, str(error), parts)
        return False
    return True


def _reachable(commitment: CommitmentRecord, peers: Mapping[str, Peer]) -> Peer:
    """Give the peer to call: the listed one, under the AE title that asked."""
    peer = peers.get(commitment.peer)
    if peer is None:
        raise PeerUnreachable(f"No report: peer {commitment.peer} is no longer listed in peers.yaml.")
    if peer.host is None or peer.port is None:
        raise PeerUnreachable(
            f"No report to {commitment.calling_ae_title}: peer {commitment.peer} has no host and port in peers.yaml, "
            "so that it can be told on the association of its request alone."
        )
    return _under_title(peer, commitment.calling_ae_title)


def _under_title(peer: Peer, ae_title: str) -> Peer:
    """Give the peer as the one AE that called, where it is listed under any title."""
    return peer.model_copy(update={"ae_title": ae_title}) if peer.ae_title == "*" else peer


def _settle(commitment: CommitmentRecord, status: int, parts: ReportParts) -> None:
    if not was_taken(status):
        _put_off(commitment, f"The report was answered with 0x{status:04X}.", parts)
        return
    parts.commitments.end(commitment.commitment_id, CommitmentState.TAKEN, "the report was taken", parts.now())
    log.info("report taken", extra={"action": "commitment_reported", **_facts(commitment)})


def _put_off(commitment: CommitmentRecord, reason: str, parts: ReportParts) -> None:
    """Try again later, or give up: a peer that cannot be told asks again."""
    now = parts.now()
    then = next_attempt_at(commitment.commitment_id, commitment.attempts, now, parts.delivery)
    if then is None:
        parts.commitments.end(commitment.commitment_id, CommitmentState.GIVEN_UP, reason, now)
        log.error("report given up", extra={"action": "commitment_given_up", **_facts(commitment), "why": reason})
        return
    parts.commitments.put_off(commitment.commitment_id, reason, then)
    log.warning(
        "report not taken; tried again later",
        extra={
            "action": "commitment_put_off",
            **_facts(commitment),
            "again_in_s": round((then - now).total_seconds()),
            "why": reason,
        },
    )


def _facts(commitment: CommitmentRecord) -> dict[str, object]:
    return {
        "peer": commitment.peer,
        "calling_ae_title": commitment.calling_ae_title,
        "transaction_uid": commitment.transaction_uid,
    }
