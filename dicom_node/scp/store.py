"""C-STORE: keep the instance, then say so."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, cast

from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event

from configs.errors import NodeError
from configs.peers import Peer
from dicom_node.scp.contexts import service_of
from dicom_node.scp.pace import Pace
from dicom_node.scp.register import OpenAssociation, Register
from dicom_node.scp.status import (
    INVALID_SOP_INSTANCE,
    OUT_OF_RESOURCES,
    PROCESSING_FAILURE,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
    status_for,
)
from storage.errors import SopClassMismatch
from storage.intake import Incoming, Intake

log = logging.getLogger(__name__)

#: Leading zeros in a component break PS3.5 9.1 but are met; anything else that is no digit is no UID.
_UID = re.compile(r"\d+(\.\d+)*", re.ASCII)


@dataclass(frozen=True)
class StoreParts:
    """What keeping an instance needs."""

    intake: Intake
    register: Register
    peers: Mapping[str, Peer]
    pace: Pace
    stopping: threading.Event


class Named(NamedTuple):
    """What a C-STORE request and its presentation context say of the instance."""

    sop_class_uid: str
    sop_instance_uid: str
    abstract_syntax: str
    transfer_syntax_uid: str


def is_uid(text: str | None) -> bool:
    """Tell whether a text can name an instance."""
    return text is not None and len(text) <= 64 and _UID.fullmatch(text) is not None


class Reception:
    """The data set of one C-STORE on its way in. What fails is told when all of it was read, by its Status."""

    def __init__(self, parts: StoreParts, here: OpenAssociation, named: Named) -> None:
        self._here = here
        self._named = named
        self._instance: Incoming | None = None
        self._status = SUCCESS
        try:
            self._instance = self._begin(parts)
        except Exception as error:  # noqa: BLE001 (whatever it is, the peer gets its Status)
            self._judge(error)

    def _begin(self, parts: StoreParts) -> Incoming | None:
        named = self._named
        if service_of(named.abstract_syntax) != "store":
            self._status = SOP_CLASS_NOT_SUPPORTED
        elif not is_uid(named.sop_instance_uid) or not named.sop_class_uid:
            self._status = INVALID_SOP_INSTANCE
        elif parts.stopping.is_set():
            self._status = OUT_OF_RESOURCES
        if self._status != SUCCESS:
            facts = {"action": "store_failed", **self._here.facts, "status": f"0x{self._status:04X}"}
            log.warning("instance not kept: refused before it came", extra=facts)
            return None
        if named.sop_class_uid != named.abstract_syntax:
            raise SopClassMismatch("the request names another SOP Class than its presentation context")
        _wait_for_turn(self._here, parts)
        return parts.intake.open(
            self._here.origin, named.sop_class_uid, named.sop_instance_uid, named.transfer_syntax_uid
        )

    def write(self, view: bytes | bytearray | memoryview) -> None:
        """Take bytes of the data set; after a failure they are dropped."""
        if self._instance is not None:
            try:
                self._instance.write(view)
            except Exception as error:  # noqa: BLE001 (whatever it is, the peer gets its Status)
                self._judge(error)

    def keep(self) -> int:
        """Make the instance durable; give the Status.

        Success is a promise that the instance survives a power cut, so it is given
        only when the file is on disk and its row is committed.

        Source: PS3.4 B.2.3 (Status), PS3.7 9.1.1 (C-STORE).
        """
        if self._instance is not None:
            with self._here.busy:
                try:
                    self._instance.keep()
                except Exception as error:  # noqa: BLE001 (whatever it is, the peer gets its Status)
                    self._judge(error)
        self.forget()
        return self._status

    def forget(self) -> None:
        """Let go of what was not kept."""
        instance, self._instance = self._instance, None
        if instance is not None:
            instance.forget()

    def _judge(self, error: Exception) -> None:
        """Turn what failed into the Status."""
        if isinstance(error, NodeError):
            facts = {**self._here.facts, "error": error.code, "sop_instance_uid": self._named.sop_instance_uid}
            log.warning("instance not kept", extra={"action": "store_failed", **facts})
            self._status = status_for(error)
        else:
            facts = {"action": "store_failed", **self._here.facts}
            log.error("instance not kept: our fault", extra=facts, exc_info=error)
            self._status = PROCESSING_FAILURE
        self.forget()


def handle_store(event: Event, parts: StoreParts) -> int:
    """Answer one C-STORE of an association that pynetdicom serves."""
    here = parts.register.of(event.assoc)
    if here is None:  # the association ended while the request was waiting
        return PROCESSING_FAILURE
    try:
        request = cast(C_STORE, event.request)
        named = Named(
            str(request.AffectedSOPClassUID or ""),
            str(request.AffectedSOPInstanceUID or ""),
            str(event.context.abstract_syntax),
            str(event.context.transfer_syntax),
        )
        reception = Reception(parts, here, named)
        reception.write(event.encoded_dataset(include_meta=False))
        return reception.keep()
    finally:
        here.stores_waiting -= 1


def _wait_for_turn(here: OpenAssociation, parts: StoreParts) -> None:
    peer = parts.peers.get(here.origin.peer)
    cap = peer.caps.instances_per_minute if peer is not None else None
    wait_s = parts.pace.wait_s(here.origin.peer, cap, time.monotonic())
    if wait_s > 0:
        parts.stopping.wait(wait_s)
