"""A PACS by pynetdicom that takes its time, remembers the bytes of each reception, and commits itself later."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any

from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pynetdicom import AllStoragePresentationContexts, build_context, build_role, evt
from pynetdicom.events import Event

from dicom_node.network import application_entity
from tests.builders.commitment import PUSH_MODEL, PUSH_MODEL_INSTANCE
from tests.builders.dimse import EXPLICIT, IMPLICIT

_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_ECHO = "1.2.840.10008.1.1"
#: Reports that nobody takes are sent again so often, as archives do.
_MOST_REPORTS, _PAUSE_S = 60, 0.5


class RecordingPacs:
    """A storage SCP on a port of this machine, with storage commitment and C-FIND.

    Parameters
    ----------
    node_port
        Where reports of storage commitment go; 0: it offers no storage commitment.
    slowest_s
        A C-STORE is answered after a random time up to this; a report comes after up to twice as long.
    """

    def __init__(self, port: int, *, node_port: int = 0, seed: int = 0, slowest_s: float = 0.0) -> None:
        self.port = port
        self._node_port = node_port
        self._chance = random.Random(f"{seed}/pacs")
        self._slowest_s = slowest_s
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._reporters: list[threading.Thread] = []
        self.digests: dict[str, list[str]] = {}
        """SOP Instance UID → digest of the data set, of each reception."""
        self.received_at: dict[str, list[float]] = {}
        self.reports = 0
        """Reports that the node took."""

    def __enter__(self) -> RecordingPacs:
        entity = application_entity("PACS")
        entity.maximum_associations = 50
        entity.supported_contexts = [build_context(each.abstract_syntax) for each in AllStoragePresentationContexts]
        for context in entity.supported_contexts:
            context.transfer_syntax = [EXPLICIT]
        entity.add_supported_context(_ECHO)
        entity.add_supported_context(_FIND, [EXPLICIT, IMPLICIT])
        if self._node_port:
            entity.add_supported_context(PUSH_MODEL, [EXPLICIT, IMPLICIT])
        self._server = entity.start_server(
            ("127.0.0.1", self.port),
            block=False,
            evt_handlers=[
                (evt.EVT_C_STORE, self._on_store),
                (evt.EVT_C_FIND, self._on_find),
                (evt.EVT_N_ACTION, self._on_action),
            ],
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing.set()
        for thread in self._reporters:
            thread.join(30)
        self._server.shutdown()

    def _wait(self, most_s: float) -> None:
        with self._lock:
            wait_s = self._chance.uniform(0.0, most_s)
        self._closing.wait(wait_s)

    def _on_store(self, event: Event) -> int:
        request = event.request
        digest = hashlib.sha256(request.DataSet.getbuffer()).hexdigest()
        self._wait(self._slowest_s)
        with self._lock:
            uid = str(request.AffectedSOPInstanceUID)
            self.digests.setdefault(uid, []).append(digest)
            self.received_at.setdefault(uid, []).append(time.time())
        return 0x0000

    def _on_find(self, event: Event) -> Iterator[tuple[int, Dataset | None]]:
        if str(event.identifier.get("SOPInstanceUID", "")) in self.digests:
            yield 0xFF00, event.identifier
        yield 0x0000, None

    def _on_action(self, event: Event) -> tuple[int, None]:
        reporter = threading.Thread(target=self._report, args=(event.action_information,))
        self._reporters.append(reporter)
        reporter.start()
        return 0x0000, None

    def _report(self, wanted: Dataset) -> None:
        self._wait(2 * self._slowest_s)
        report, kept, failed = Dataset(), [], []
        report.TransactionUID = wanted.TransactionUID
        for item in wanted.ReferencedSOPSequence:
            (kept if item.ReferencedSOPInstanceUID in self.digests else failed).append(item)
        for item in failed:
            item.FailureReason = 0x0112
        for keyword, items in (("ReferencedSOPSequence", kept), ("FailedSOPSequence", failed)):
            if items:
                setattr(report, keyword, DicomSequence(items))
        for _ in range(_MOST_REPORTS):
            if self._tell(report, 2 if failed else 1) or self._closing.wait(_PAUSE_S):
                return

    def _tell(self, report: Dataset, event_type: int) -> bool:
        """Report on an association of its own; False: the node could not be told."""
        entity = application_entity("PACS")
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = 10
        association: Any = entity.associate(
            "127.0.0.1",
            self._node_port,
            contexts=[build_context(PUSH_MODEL, [IMPLICIT])],
            ae_title="DICOMNODE",
            ext_neg=[build_role(PUSH_MODEL, scp_role=True)],
        )
        if not association.is_established:
            return False
        with suppress(RuntimeError, ValueError):  # the association ended meanwhile
            answer, _ = association.send_n_event_report(report, event_type, PUSH_MODEL, PUSH_MODEL_INSTANCE)
            if association.is_established:
                association.release()
            if answer.get("Status") == 0x0000:
                self.reports += 1
                return True
        return False
