"""C-GET: send what an identifier names over the requestor's own association.

Source: PS3.4 C.4.3, PS3.7 D.3.3.4 (the requestor is SCP of the storage contexts).
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import time
from collections.abc import Callable, Sequence
from typing import cast

from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE

from configs.errors import NodeError
from dicom_node import pdata
from dicom_node.errors import ContextRefused, PeerUnreachable
from dicom_node.scp.retrieve import Retrieval
from dicom_node.scu.store import Outgoing, data_set_of, store_command
from dicom_node.scu.transcoding import Transcoder
from storage.errors import UnreadableInstance

log = logging.getLogger(__name__)

#: Bytes a second that the slowest link is taken to carry, when waiting for an answer.
_SLOWEST_LINK = 100_000
#: Seconds between looks at whether the requestor is still there.
_LOOK_S = 0.5
_LAST_MESSAGE_ID = 65535


class Get:
    """The sub-operations of one C-GET."""

    def __init__(
        self, association: Association, message_id: int, transcoder: Transcoder, *, answer_within_s: float
    ) -> None:
        self._association = association
        self._transcoder = transcoder
        self._answer_within_s = answer_within_s
        self._contexts = {
            (str(context.abstract_syntax), str(context.transfer_syntax[0])): cast(int, context.context_id)
            for context in association.accepted_contexts
            if context.as_scu
        }
        numbers = itertools.cycle(range(1, _LAST_MESSAGE_ID + 1))
        self._message_ids = (number for number in numbers if number != message_id)

    def run(self, items: Sequence[Outgoing], retrieval: Retrieval, is_cancelled: Callable[[], bool]) -> bool:
        """Send all, telling the retrieval; return whether it was cancelled before the end.

        Raises
        ------
        PeerUnreachable
            The requestor went away or does not answer.
        """
        for item in items:
            if is_cancelled():
                return True
            try:
                status: int | None = self._store(item)
            except PeerUnreachable:
                raise
            except NodeError as error:
                status = None
                facts = {"sop_instance_uid": item.sop_instance_uid, "why": str(error)}
                log.warning("sub-operation without success", extra={"action": "sub_operation_failed", **facts})
            retrieval.ended(item.sop_instance_uid, status)
            if retrieval.counts.remaining:
                retrieval.say()
        return False

    def _store(self, item: Outgoing) -> int:
        syntaxes = (item.transfer_syntax_uid, *self._transcoder.targets(item.transfer_syntax_uid))
        usable = [wish for syntax in syntaxes if (wish := (item.sop_class_uid, syntax)) in self._contexts]
        if not usable:
            raise ContextRefused(
                f"The requestor takes no {UID(item.sop_class_uid).name} in a syntax that can be given."
            )
        message_id = next(self._message_ids)
        command = pdata.command_set(store_command(item, message_id, None), data_set=True)
        maximum_length = self._association.dimse.maximum_pdu_size
        with contextlib.ExitStack() as files:
            data_set, length = data_set_of(item, usable[0][1], self._transcoder, files)
            try:
                for buffer in pdata.stream(self._contexts[usable[0]], command, data_set, length, maximum_length):
                    self._write(buffer)
            except UnreadableInstance as error:
                raise PeerUnreachable("A message could not be ended.") from error
        return self._status(message_id, time.monotonic() + self._answer_within_s + length / _SLOWEST_LINK)

    def _write(self, buffer: memoryview) -> None:
        pipe = self._association.dul.socket
        if pipe is None or pipe.socket is None or self._gone:
            raise PeerUnreachable("The requestor went away.")
        pipe.send(cast(bytes, buffer))

    def _status(self, message_id: int, deadline: float) -> int:
        while time.monotonic() < deadline and not self._gone:
            try:
                _, message = self._association.dimse.msg_queue.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
            if isinstance(message, C_STORE) and message.MessageIDBeingRespondedTo == message_id:
                return int(message.Status or 0)
        raise PeerUnreachable("The requestor went away, or does not answer for an instance.")

    @property
    def _gone(self) -> bool:
        association = self._association
        return not association.is_established or association.acse.is_aborted() or not association.dul.is_alive()
