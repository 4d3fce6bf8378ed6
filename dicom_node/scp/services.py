"""How a DIMSE service joins the receiver: its module gives a table of handlers, the start lists the services."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pynetdicom import evt

from configs.peers import Peer
from configs.settings import DimseSettings
from dicom_node.scp.register import Register


@dataclass(frozen=True)
class ScpParts:
    """What every service may use of the receiver."""

    settings: DimseSettings
    register: Register
    """Knows of each open association which peer it is with."""
    peers: Mapping[str, Peer]
    stopping: threading.Event
    """Set when the receiver ends: long work is to stop, new work to be refused."""


class ScpService(Protocol):
    """One service; what else it needs (the index, the job book, …) it was given when it was made.

    Its SOP Classes stand in `contexts.SERVICE_CLASSES`, or no peer can negotiate them.
    """

    def __call__(self, parts: ScpParts) -> Sequence[evt.EventHandlerType]:
        """Give (event, handler) or (event, handler, arguments); no two services may answer one event."""
        ...
