"""C-STORE: send instances as they are kept, or in another syntax that says the same."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from pydicom.uid import UID

from configs.errors import NodeError
from configs.peers import Peer
from dicom_node import pdata
from dicom_node.errors import ContextRefused
from dicom_node.scu.association import DEFAULT_TIMEOUTS, Timeouts, say
from dicom_node.scu.link import Link, Wish, linked
from dicom_node.scu.transcoding import NativeTranscoder, Transcoder
from inference.syntaxes import EXPLICIT_LITTLE, IMPLICIT_LITTLE
from storage.part10 import pass_file_meta

#: Source: PS3.8 9.3.2.2 (context IDs are the odd numbers of one byte).
MOST_CONTEXTS = 128
#: Bytes a second that the slowest link is taken to carry, when waiting for an answer.
SLOWEST_LINK = 100_000
_LAST_MESSAGE_ID = 65535
#: What is asked for beside the syntax that an instance is kept in: the first is read by nearly all, the second by all.
PROPOSED = (EXPLICIT_LITTLE, IMPLICIT_LITTLE)
_MEDIUM = 0  # Source: PS3.7 E.1 (Priority)


@dataclass(frozen=True)
class Outgoing:
    """One instance to send."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    """As it is kept."""
    open: Callable[[], BinaryIO]
    """Give its DICOM file (Part 10), seekable, to be read once and closed."""
    preferred: tuple[str, ...] = ()
    """Syntaxes to be asked for before the one that it is kept in, best first; each can be had without loss."""
    sent_as: str = ""
    """Syntax that it went in, once it did."""


@dataclass(frozen=True)
class Originator:
    """Whose C-MOVE led to the sending. Source: PS3.7 9.1.1.1."""

    ae_title: str
    message_id: int


def send(
    peer: Peer,
    *,
    calling_ae_title: str,
    items: Sequence[Outgoing],
    on_status: Callable[[Outgoing, int], None],
    on_refused: Callable[[Outgoing, NodeError], None] | None = None,
    transcoder: Transcoder | None = None,
    originator: Originator | None = None,
    stop: Callable[[], bool] = lambda: False,
    whole: bool = False,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> None:
    """Send instances one after the other, in the order given, bit for bit as they are kept.

    Only where the peer accepts no context in which an instance is kept, or one that is preferred to it, is it encoded
    anew, without loss.

    Parameters
    ----------
    on_status
        Told the Status of each instance as it comes, whatever it is. What it raises ends the sending.
    on_refused
        Told of an instance that cannot be sent: the peer accepts no context for it, or it cannot be read or
        encoded; the next one is then sent. Without it such an instance ends the sending.
    transcoder
        What may be encoded anew; None: uncompressed instances, into the other uncompressed syntaxes.
    stop
        Asked before each instance; True ends the sending in good order.
    whole
        None of the instances of an association is sent unless the peer accepted a context for each: what belongs
        together does not arrive in part.

    Raises
    ------
    PeerUnreachable
        The peer cannot be reached, or went away; what it answered before was told.
    AssociationRejected
        The peer does not want the association.
    ContextRefused
        The peer takes no such instance.
    UnreadableInstance
        What is kept is no DICOM file.

    Source: PS3.4 Annex B, PS3.7 9.1.1.
    """
    sending = _Sending(peer, on_status, on_refused, transcoder or NativeTranscoder(), originator, stop, whole, timeouts)
    for batch in batches(items, sending.transcoder):
        if stop():
            return
        wishes = list(dict.fromkeys(wish for item in batch for wish in contexts_for(item, sending.transcoder)))
        try:
            with linked(peer, calling_ae_title=calling_ae_title, wishes=wishes, timeouts=timeouts) as link:
                sending.send(link, batch)
        except ContextRefused as error:
            # Raised with a name: by one instance. Without: the peer accepted no context at all.
            if on_refused is None or "sop_instance_uid" in error.facts:
                raise
            for item in batch:
                on_refused(item, _refusal(peer, item))


def contexts_for(item: Outgoing, transcoder: Transcoder) -> list[Wish]:
    """Give the contexts (SOP Class, transfer syntax) to ask for, each in one of its own, in the order of preference.

    As it is preferred, as it is kept, and what nearly all read.
    """
    stored = item.transfer_syntax_uid
    others = [target for target in transcoder.targets(stored) if target in PROPOSED]
    return [(item.sop_class_uid, syntax) for syntax in dict.fromkeys((*item.preferred, stored, *others))]


def batches(items: Sequence[Outgoing], transcoder: Transcoder) -> Iterator[list[Outgoing]]:
    """Cut into runs that need no more contexts than one association can have; the order stays."""
    batch: list[Outgoing] = []
    wishes: set[Wish] = set()
    for item in items:
        more = wishes.union(contexts_for(item, transcoder))
        if len(more) > MOST_CONTEXTS:
            yield batch
            batch, more = [], set(contexts_for(item, transcoder))
        batch.append(item)
        wishes = more
    if batch:
        yield batch


@dataclass(frozen=True)
class _Sending:
    """One call of `send`."""

    peer: Peer
    on_status: Callable[[Outgoing, int], None]
    on_refused: Callable[[Outgoing, NodeError], None] | None
    transcoder: Transcoder
    originator: Originator | None
    stop: Callable[[], bool]
    whole: bool
    timeouts: Timeouts

    def send(self, link: Link, batch: Sequence[Outgoing]) -> None:
        """Send what one association can carry."""
        message_ids = itertools.cycle(range(1, _LAST_MESSAGE_ID + 1))
        if self.whole:
            for item in batch:
                self._context_of(link, item)
        for item in batch:
            if self.stop():
                return
            with contextlib.ExitStack() as files:
                try:
                    (context_id, syntax), file, length = self._prepare(link, item, files)
                except NodeError as error:
                    if self.on_refused is None:
                        raise
                    self.on_refused(item, error)
                    continue
                answer_within_s = self.timeouts.answer_s + length / SLOWEST_LINK
                command = store_command(item, next(message_ids), self.originator)
                status = link.store(context_id, command, file, length, answer_within_s=answer_within_s)
            self.on_status(replace(item, sent_as=syntax), status)

    def _prepare(
        self, link: Link, item: Outgoing, files: contextlib.ExitStack
    ) -> tuple[tuple[int, str], BinaryIO, int]:
        """Give the context to send an instance in with its syntax, and its data set in that syntax with its length."""
        wish = self._context_of(link, item)
        return (link.contexts[wish], wish[1]), *data_set_of(item, wish[1], self.transcoder, files)

    def _context_of(self, link: Link, item: Outgoing) -> Wish:
        usable = [wish for wish in contexts_for(item, self.transcoder) if wish in link.contexts]
        if not usable:
            raise _refusal(self.peer, item)
        return usable[0]


def data_set_of(
    item: Outgoing, syntax: str, transcoder: Transcoder, files: contextlib.ExitStack
) -> tuple[BinaryIO, int]:
    """Give an instance's data set in a syntax, at its first byte, and how long it is.

    `files`: closes what was opened.
    """
    part10 = files.enter_context(item.open())
    if syntax == item.transfer_syntax_uid:
        pass_file_meta(part10)
        data_set = part10
    else:
        data_set = files.enter_context(transcoder.transcode(part10, item.transfer_syntax_uid, syntax))
    begin = data_set.tell()
    length = data_set.seek(0, 2) - begin
    data_set.seek(begin)
    return data_set, length


def part10_of(item: Outgoing, syntax: str, files: contextlib.ExitStack) -> BinaryIO:
    """Give an instance's DICOM file in a syntax that it can be had in, at its first byte.

    `files`: closes what was opened.
    """
    part10 = files.enter_context(item.open())
    if syntax == item.transfer_syntax_uid:
        return part10
    made = files.enter_context(NativeTranscoder().transcode(part10, item.transfer_syntax_uid, syntax))
    made.seek(0)
    return made


def store_command(item: Outgoing, message_id: int, originator: Originator | None) -> dict[int, pdata.Value]:
    """Give the elements of a C-STORE request."""
    command: dict[int, pdata.Value] = {
        pdata.AFFECTED_SOP_CLASS_UID: item.sop_class_uid,
        pdata.COMMAND_FIELD: pdata.C_STORE_RQ,
        pdata.MESSAGE_ID: message_id,
        pdata.PRIORITY: _MEDIUM,
        pdata.AFFECTED_SOP_INSTANCE_UID: item.sop_instance_uid,
    }
    if originator is not None:
        command[pdata.MOVE_ORIGINATOR_AE_TITLE] = originator.ae_title
        command[pdata.MOVE_ORIGINATOR_MESSAGE_ID] = originator.message_id
    return command


def _refusal(peer: Peer, item: Outgoing) -> ContextRefused:
    name = UID(item.sop_class_uid).name
    return ContextRefused(f"{say(peer)} does not accept {name}.", sop_instance_uid=item.sop_instance_uid)
