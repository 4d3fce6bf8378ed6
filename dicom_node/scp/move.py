"""C-MOVE: send what an identifier names to a listed peer, and say how it goes meanwhile.

Source: PS3.4 C.4.2.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from configs.errors import NodeError
from configs.peers import Peer
from dicom_node.scp.retrieve import PENDING_EVERY_S, Retrieval
from dicom_node.scu.association import Timeouts
from dicom_node.scu.store import Originator, Outgoing, send
from dicom_node.scu.transcoding import Transcoder

log = logging.getLogger(__name__)


def destination(ae_title: str, peers: Mapping[str, Peer]) -> tuple[str, Peer] | None:
    """Find the peer that a C-MOVE names; one without host and port cannot be sent to."""
    for name, peer in peers.items():
        if peer.ae_title == ae_title.strip() and peer.host is not None and peer.port is not None:
            return name, peer
    return None


@dataclass
class Move:
    """The sending of one C-MOVE, in a thread of its own: the requestor hears from us meanwhile."""

    peer: Peer
    items: Sequence[Outgoing]
    calling_ae_title: str
    originator: Originator
    transcoder: Transcoder
    timeouts: Timeouts
    _ended: queue.Queue[tuple[str, int | None] | None] = field(default_factory=queue.Queue)
    _stop: threading.Event = field(default_factory=threading.Event)
    _bug: Exception | None = None

    def run(self, retrieval: Retrieval, is_cancelled: Callable[[], bool]) -> bool:
        """Send all, telling the retrieval; return whether it was cancelled before the end."""
        thread = threading.Thread(target=self._send, name="move", daemon=True)
        thread.start()
        cancelled = False
        while True:
            try:
                ended = self._ended.get(timeout=PENDING_EVERY_S)
            except queue.Empty:
                ended = ("", None)
            if ended is None:
                break
            if ended[0]:
                retrieval.ended(*ended)
            if not cancelled and (is_cancelled() or retrieval.answers.gone):
                cancelled = True
                self._stop.set()
            if not cancelled and retrieval.counts.remaining:
                retrieval.say()
        thread.join()
        if self._bug is not None:
            raise self._bug
        if not cancelled:
            retrieval.rest_failed(self.items)
        return cancelled

    def _send(self) -> None:
        try:
            send(
                self.peer,
                calling_ae_title=self.calling_ae_title,
                items=self.items,
                on_status=self._note,
                on_refused=self._on_refused,
                transcoder=self.transcoder,
                originator=self.originator,
                stop=self._stop.is_set,
                timeouts=self.timeouts,
            )
        except NodeError as error:
            facts = {"action": "move_ended", "destination": self.peer.ae_title, "error": error.code, "why": str(error)}
            log.warning("retrieval ended early", extra=facts)
        except Exception as error:  # noqa: BLE001 (raised again where the request is served)
            self._bug = error
        finally:
            self._ended.put(None)

    def _note(self, item: Outgoing, status: int | None) -> None:
        self._ended.put((item.sop_instance_uid, status))
        if status:
            _log_failure(item, self.peer, f"0x{status:04X}")

    def _on_refused(self, item: Outgoing, error: NodeError) -> None:
        self._ended.put((item.sop_instance_uid, None))
        _log_failure(item, self.peer, str(error))


def _log_failure(item: Outgoing, peer: Peer, why: str) -> None:
    facts = {"action": "sub_operation_answered", "sop_instance_uid": item.sop_instance_uid, "why": why}
    log.warning("sub-operation without success", extra={**facts, "destination": peer.ae_title})
