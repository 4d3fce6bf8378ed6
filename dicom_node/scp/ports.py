"""What the receiver needs of storage."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from storage.records import Kept, Origin


class Incoming(Protocol):
    """One instance on its way in."""

    def write(self, view: bytes | memoryview) -> None:
        """Take the next bytes of the data set."""

    def keep(self) -> Kept:
        """Make it durable: file and index; only then it may be called kept."""


class Door(Protocol):
    """The one door (`storage.intake`)."""

    def open(
        self, origin: Origin, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str
    ) -> AbstractContextManager[Incoming]:
        """Begin one instance; leaving the context without `keep()` discards it."""


class AssociationRows(Protocol):
    """What is known of associations (`storage.associations`): evidence of who is still sending."""

    def opened(self, association_id: str, receiver: str, origin: Origin, at: datetime) -> None:
        """Record a new association."""

    def traffic(self, association_ids: Iterable[str], at: datetime) -> None:
        """Record that these had traffic."""

    def closed(self, association_id: str, end: str, at: datetime) -> None:
        """Record the end of one: released, aborted or lost."""

    def lost(self, receiver: str, at: datetime) -> None:
        """Close the rows that a receiver left open when it died."""

    def refused(self, calling_ae_title: str, called_ae_title: str, host: str, reason: str, at: datetime) -> None:
        """Record a caller that got no association."""
