"""How urgent an order is: asked of worklists by accession number, while its study gathers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from pydicom import Dataset

from configs.errors import NodeError
from configs.peers import Peer
from configs.routes import Priority
from dicom_node.scu.association import Timeouts
from dicom_node.scu.find import WORKLIST, find, identifier
from storage.index import Index
from storage.records import StudyRecord
from storage.urgency import Priorities

log = logging.getLogger(__name__)

EVERY_S = 0.5
#: A worklist that does not answer is asked about a study so many times.
_MOST_QUESTIONS = 3
_MOST_REMEMBERED = 10_000
_TIMEOUTS = Timeouts(connect_s=3.0, associate_s=3.0, answer_s=5.0)

#: Requested Procedure Priority (0040,1003) → urgency. Source: PS3.3 C.4.11.
PRIORITY: Mapping[str, Priority] = {
    "STAT": Priority.STAT,
    "HIGH": Priority.HIGH,
    "ROUTINE": Priority.ROUTINE,
    "MEDIUM": Priority.ROUTINE,
    "LOW": Priority.LOW,
}


@dataclass(frozen=True)
class WorklistParts:
    """What the look-up needs."""

    index: Index
    peers: Mapping[str, Peer]
    priorities: Priorities
    calling_ae_title: str
    now: Callable[[], datetime]


class WorklistLookup:
    """Asks each worklist (peers with `ask: [worklist]`) about each study that gathers and has an accession number."""

    def __init__(self, parts: WorklistParts) -> None:
        self._parts = parts
        self._asked: dict[tuple[str, str], int] = {}

    def run(self, stop: threading.Event, *, every_s: float = EVERY_S) -> None:
        """Look again and again until told to stop."""
        while not stop.wait(every_s):
            try:
                self.look(stop)
            except NodeError as error:
                log.warning("worklists wait", extra={"action": "worklists_wait", "error": error.code})
            except Exception:  # a worker's turn
                log.exception("asking worklists failed: our fault", extra={"action": "worklists_failed"})

    def look(self, stop: threading.Event) -> None:
        """Ask what was not asked yet."""
        worklists = {name: peer for name, peer in self._parts.peers.items() if "worklist" in peer.ask}
        if not worklists:
            return
        for study in self._parts.index.gathering():
            for name, peer in worklists.items():
                key = (study.study_instance_uid, name)
                if stop.is_set():
                    return
                if study.accession_number.strip() and self._asked.get(key, 0) < _MOST_QUESTIONS:
                    self._asked[key] = self._asked.pop(key, 0) + 1
                    if self._ask(name, peer, study):
                        self._asked[key] = _MOST_QUESTIONS
        while len(self._asked) > _MOST_REMEMBERED:
            del self._asked[next(iter(self._asked))]

    def _ask(self, name: str, peer: Peer, study: StudyRecord) -> bool:
        """Ask one worklist; tell whether it answered."""
        parts = self._parts
        asked = identifier(None, AccessionNumber=study.accession_number, RequestedProcedurePriority="")
        asked.ScheduledProcedureStepSequence = [Dataset()]
        try:
            found = find(
                peer,
                calling_ae_title=peer.answer_as or parts.calling_ae_title,
                identifier=asked,
                model=WORKLIST,
                most=50,
                timeouts=_TIMEOUTS,
            )
        except NodeError as error:
            log.warning(
                "a worklist was not asked", extra={"action": "worklist_failed", "peer": name, "error": error.code}
            )
            return False
        said = [
            PRIORITY[word]
            for each in found
            if str(each.get("AccessionNumber") or "").strip() == study.accession_number.strip()
            and (word := str(each.get("RequestedProcedurePriority") or "").strip().upper()) in PRIORITY
        ]
        if said:
            urgent = min(said, key=lambda each: each.rank)
            parts.priorities.say(study.study_instance_uid, f"worklist:{name}", urgent, parts.now())
        return True
