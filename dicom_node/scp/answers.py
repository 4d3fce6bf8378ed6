"""Answers to C-FIND, C-MOVE and C-GET, written to the wire by ourselves.

pynetdicom's own classes for these services send whole data sets that pydicom decoded, over one association, in
the syntaxes it likes. Here a request reaches its handler whole, and the handler answers through this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from pynetdicom.dimse_primitives import C_FIND, C_GET, C_MOVE
from pynetdicom.events import Event

from dicom_node import pdata

#: Source: PS3.7 Annex E.1.
_RESPONSE = {C_FIND: 0x8020, C_GET: 0x8010, C_MOVE: 0x8021}
#: Bytes that are gathered before they are written.
_GATHERED = 1 << 16
#: Error Comment is an LO. Source: PS3.7 Annex C.
_LONGEST_COMMENT = 64


@dataclass
class Counts:
    """How the sub-operations of a retrieval stand. Source: PS3.7 9.1.3, 9.1.4."""

    remaining: int
    completed: int = 0
    failed: int = 0
    warning: int = 0

    def values(self, *, final: bool) -> dict[int, pdata.Value]:
        """Give the elements of the response; a final one has no remaining ones unless it was cancelled."""
        done = {pdata.COMPLETED: self.completed, pdata.FAILED: self.failed, pdata.WARNING: self.warning}
        return {**done, **({} if final else {pdata.REMAINING: self.remaining})}


class Answers:
    """The responses to one request, in order."""

    def __init__(self, event: Event) -> None:
        self._association = event.assoc
        self._request = cast("C_FIND | C_GET | C_MOVE", event.request)
        self._context_id = event.context.context_id
        self._waiting = bytearray()
        self._any = False

    @property
    def gone(self) -> bool:
        """Whether there is nobody left to answer."""
        association = self._association
        return not association.is_established or association.acse.is_aborted() or not association.dul.is_alive()

    def pending(self, status: int, identifier: bytes | None, counts: Counts | None = None) -> None:
        """Give one match, or how far a retrieval is; the first is written at once, later ones are gathered."""
        values = counts.values(final=False) if counts is not None else {}
        self._gather(status, values, identifier)
        if not self._any or counts is not None or len(self._waiting) >= _GATHERED:
            self.flush()
        self._any = True

    def final(
        self,
        status: int,
        *,
        identifier: bytes | None = None,
        counts: Counts | None = None,
        cancelled: bool = False,
        comment: str = "",
        offending: int | None = None,
    ) -> None:
        """Give the last response."""
        values: dict[int, pdata.Value] = counts.values(final=not cancelled) if counts is not None else {}
        if comment:
            values[pdata.ERROR_COMMENT] = comment[:_LONGEST_COMMENT]
        if offending is not None:
            values[pdata.OFFENDING_ELEMENT] = offending
        self._gather(status, values, identifier)
        self.flush()

    def flush(self) -> None:
        """Write what was gathered."""
        waiting, self._waiting = bytes(self._waiting), bytearray()
        pipe = self._association.dul.socket
        if waiting and pipe is not None and not self.gone:
            pipe.send(waiting)

    def _gather(self, status: int, more: Mapping[int, pdata.Value], identifier: bytes | None) -> None:
        command = pdata.command_set(
            {
                pdata.AFFECTED_SOP_CLASS_UID: str(self._request.AffectedSOPClassUID),
                pdata.COMMAND_FIELD: _RESPONSE[type(self._request)],
                pdata.MESSAGE_ID_BEING_RESPONDED_TO: cast(int, self._request.MessageID),
                pdata.STATUS: status,
                **more,
            },
            data_set=identifier is not None,
        )
        maximum = self._association.dimse.maximum_pdu_size
        self._waiting += pdata.message(self._context_id, command, identifier, maximum)
