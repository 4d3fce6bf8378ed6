"""C-STORE: keep the instance, then say so."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContextTuple

from configs.errors import NodeError
from configs.peers import Peer
from dicom_node.scp.pace import Pace
from dicom_node.scp.register import OpenAssociation, Register
from dicom_node.scp.status import INVALID_SOP_INSTANCE, OUT_OF_RESOURCES, PROCESSING_FAILURE, SUCCESS, status_for
from storage.errors import SopClassMismatch
from storage.intake import Intake

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


def is_uid(text: str | None) -> bool:
    """Tell whether a text can name an instance."""
    return text is not None and len(text) <= 64 and _UID.fullmatch(text) is not None


def named_by(request: C_STORE, context: PresentationContextTuple) -> tuple[str, str, str]:
    """Give SOP Class, SOP Instance and transfer syntax of the instance that a C-STORE brings.

    Raises
    ------
    SopClassMismatch
        The request names another SOP Class than its presentation context.
    """
    if request.AffectedSOPClassUID != context.abstract_syntax:
        raise SopClassMismatch("the request names another SOP Class than its presentation context")
    return str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID), str(context.transfer_syntax)


def handle_store(event: Event, parts: StoreParts) -> int:
    """Answer one C-STORE: keep the instance, then say so.

    Success is a promise that the instance survives a power cut, so it is given
    only when the file is on disk and its row is committed.

    Source: PS3.4 B.2.3 (Status), PS3.7 9.1.1 (C-STORE).
    """
    here = parts.register.of(event.assoc)
    if here is None:  # the association ended while the request was waiting
        return PROCESSING_FAILURE
    try:
        with here.busy:
            return OUT_OF_RESOURCES if parts.stopping.is_set() else _keep(event, here, parts)
    except Exception:
        log.exception("instance not kept: our fault", extra={"action": "store_failed", **here.facts})
        return PROCESSING_FAILURE
    finally:
        here.stores_waiting -= 1


def _keep(event: Event, here: OpenAssociation, parts: StoreParts) -> int:
    request = cast(C_STORE, event.request)
    if not is_uid(request.AffectedSOPInstanceUID):
        log.warning("instance not kept: its UID is none", extra={"action": "store_failed", **here.facts})
        return INVALID_SOP_INSTANCE
    _wait_for_turn(here, parts)
    try:
        with parts.intake.open(here.origin, *named_by(request, event.context)) as instance:
            instance.write(event.encoded_dataset(include_meta=False))
            instance.keep()
    except NodeError as error:
        facts = {**here.facts, "error": error.code, "sop_instance_uid": str(request.AffectedSOPInstanceUID)}
        log.warning("instance not kept", extra={"action": "store_failed", **facts})
        return status_for(error)
    return SUCCESS


def _wait_for_turn(here: OpenAssociation, parts: StoreParts) -> None:
    peer = parts.peers.get(here.origin.peer)
    cap = peer.caps.instances_per_minute if peer is not None else None
    wait_s = parts.pace.wait_s(here.origin.peer, cap, time.monotonic())
    if wait_s > 0:
        parts.stopping.wait(wait_s)
