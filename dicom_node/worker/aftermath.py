"""The courier's turn at what was corrected, rejected or deleted: notes are read, dependent results are taken back."""

from __future__ import annotations

import logging
import threading
from functools import partial

from dicom_node.worker.parts import WorkerParts
from dicom_node.worker.rejected import read_note
from dicom_node.worker.retract import judge, tell
from dicom_node.worker.turns import Turns
from storage.rejections import Rejections
from storage.retractions import Retractions

log = logging.getLogger(__name__)

#: Seconds between two looks.
EVERY_S = 1.0


class Aftermath:
    """Looks for what is to be taken out of the count or taken back, again and again."""

    def __init__(self, node: WorkerParts, retractions: Retractions, rejections: Rejections) -> None:
        self._node = node
        self._retractions = retractions
        self._rejections = rejections
        self._notes = Turns("rejection_failed")
        self._changes = Turns("source_change_failed")
        self._told = Turns("retraction_failed")
        self._looks = Turns("aftermath_failed")

    def run(self, stop: threading.Event, *, every_s: float = EVERY_S) -> None:
        """Look until told to stop; what is not done then is done after the next start."""
        while not stop.wait(every_s):
            self._looks.take("tick", self._node.now(), self.tick)

    def tick(self) -> bool:
        """Read each note, judge each change of sources, and tell of each retraction; say whether there was any."""
        now, found = self._node.now(), False
        for note in self._rejections.unread():
            found = True
            self._notes.take(note.sop_instance_uid, now, partial(read_note, note, self._node, self._rejections))
        found |= self._rejections.follow_late(now) > 0
        for change in self._retractions.changes():
            found = True
            self._changes.take(str(change.number), now, partial(judge, change, self._node, self._retractions))
        for retraction in self._retractions.pending():
            found = True
            self._told.take(retraction.run_key, now, partial(tell, retraction, self._node, self._retractions))
        return found
