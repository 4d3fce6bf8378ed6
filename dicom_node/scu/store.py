"""C-STORE: send instances as they are kept."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset, dcmread
from pydicom.uid import UID
from pynetdicom import build_context
from pynetdicom.association import Association

from configs.peers import Peer
from dicom_node.errors import ContextRefused, PeerUnreachable
from dicom_node.scu.association import DEFAULT_TIMEOUTS, Timeouts, associate, say
from storage.part10 import FileMeta, pass_file_meta, write_file_meta

#: Source: PS3.8 9.3.2.2 (context IDs are the odd numbers of one byte).
MOST_CONTEXTS = 128
#: Explicit and Implicit VR Little Endian: they say the same, and one can be made of the other without loss.
_EXCHANGEABLE = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
_DEFLATED = "1.2.840.10008.1.2.1.99"
#: Bytes a second that the slowest link is taken to carry, when waiting for an answer.
_SLOWEST_LINK = 100_000
_LAST_MESSAGE_ID = 65535


@dataclass(frozen=True)
class Outgoing:
    """One instance to send."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    """As it is kept."""
    open: Callable[[], BinaryIO]
    """Give its DICOM file (Part 10), to be read once and closed."""


def send(
    peer: Peer,
    *,
    calling_ae_title: str,
    items: Sequence[Outgoing],
    on_status: Callable[[Outgoing, int], None],
    on_refused: Callable[[Outgoing, ContextRefused], None] | None = None,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> None:
    """Send instances one after the other, in the order given, bit for bit as they are kept.

    Only where the peer accepts no context but the other uncompressed syntax is an uncompressed instance
    encoded anew. Nothing is ever compressed or decompressed.

    Parameters
    ----------
    on_status
        Told the Status of each instance as it comes, whatever it is. What it raises ends the sending.
    on_refused
        Told of an instance for which the peer accepts no context; the next one is then sent. Without it
        such an instance ends the sending.

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
    for batch in batches(items):
        wishes = dict.fromkeys(wish for item in batch for wish in contexts_for(item))
        contexts = [build_context(sop_class, syntax) for sop_class, syntax in wishes]
        try:
            with (
                associate(peer, calling_ae_title=calling_ae_title, contexts=contexts, timeouts=timeouts) as association,
                tempfile.TemporaryDirectory(prefix="dicom-node-") as folder,
            ):
                _send_batch(association, peer, batch, on_status, on_refused, timeouts, Path(folder))
        except ContextRefused as error:
            # Raised with a name: by one instance. Without: the peer accepted no context at all.
            if on_refused is None or "sop_instance_uid" in error.facts:
                raise
            for item in batch:
                on_refused(item, _refusal(peer, item))


def contexts_for(item: Outgoing) -> list[tuple[str, str]]:
    """Give the contexts (SOP Class, transfer syntax) to ask for: as it is kept first, each in one of its own."""
    stored = item.transfer_syntax_uid
    others = _EXCHANGEABLE if stored in (*_EXCHANGEABLE, _DEFLATED) else ()
    return [(item.sop_class_uid, syntax) for syntax in dict.fromkeys((stored, *others))]


def batches(items: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """Cut into runs that need no more contexts than one association can have; the order stays."""
    batch: list[Outgoing] = []
    wishes: set[tuple[str, str]] = set()
    for item in items:
        more = wishes.union(contexts_for(item))
        if len(more) > MOST_CONTEXTS:
            yield batch
            batch, more = [], set(contexts_for(item))
        batch.append(item)
        wishes = more
    if batch:
        yield batch


def _send_batch(
    association: Association,
    peer: Peer,
    batch: Sequence[Outgoing],
    on_status: Callable[[Outgoing, int], None],
    on_refused: Callable[[Outgoing, ContextRefused], None] | None,
    timeouts: Timeouts,
    folder: Path,
) -> None:
    accepted = {
        (str(context.abstract_syntax), str(context.transfer_syntax[0])) for context in association.accepted_contexts
    }
    message_ids = itertools.cycle(range(1, _LAST_MESSAGE_ID + 1))
    for item in batch:
        usable = [syntax for sop_class, syntax in contexts_for(item) if (sop_class, syntax) in accepted]
        if not usable:
            refusal = _refusal(peer, item)
            if on_refused is None:
                raise refusal
            on_refused(item, refusal)
            continue
        path = _spool(item, folder)
        association.dimse_timeout = timeouts.answer_s + path.stat().st_size / _SLOWEST_LINK
        instance = path if usable[0] == item.transfer_syntax_uid else dcmread(path)
        on_status(item, _store(association, peer, item, instance, next(message_ids)))


def _store(association: Association, peer: Peer, item: Outgoing, instance: Path | Dataset, message_id: int) -> int:
    gone = PeerUnreachable(
        f"{say(peer)} went away before it answered for an instance.", sop_instance_uid=item.sop_instance_uid
    )
    if not association.is_established:
        raise gone
    try:
        answer = association.send_c_store(instance, msg_id=message_id)
    except RuntimeError as error:  # it ended between the two lines
        raise gone from error
    if "Status" not in answer:
        raise gone
    return int(answer.Status)


def _spool(item: Outgoing, folder: Path) -> Path:
    """Write the instance where pynetdicom reads it: a whole File Meta Information, then the data set as it is kept."""
    meta = write_file_meta(FileMeta(item.sop_class_uid, item.sop_instance_uid, item.transfer_syntax_uid))
    path = folder / "instance.dcm"
    with item.open() as part10, path.open("wb") as spooled:
        pass_file_meta(part10)
        spooled.write(meta)
        shutil.copyfileobj(part10, spooled, 1 << 20)
    return path


def _refusal(peer: Peer, item: Outgoing) -> ContextRefused:
    name = UID(item.sop_class_uid).name
    return ContextRefused(f"{say(peer)} does not accept {name}.", sop_instance_uid=item.sop_instance_uid)
