"""How many images archives say that they have of studies that gather: asked beside the watch, never by it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime, timedelta

from configs.errors import NodeError
from configs.peers import Peer
from dicom_node.errors import PeerRefused
from dicom_node.routing.completion import STILL_S, Counted
from dicom_node.scu.association import Timeouts
from dicom_node.scu.find import find, identifier
from storage.records import StudyRecord

log = logging.getLogger(__name__)

#: Seconds between two answers that prove something when they are equal.
APART_S = 2.0
#: Seconds until the next question where an answer did not fit, and after a failure; doubled each time.
_FIRST_WAIT_S = 4.0
_LONGEST_WAIT_S = 60.0
#: Questions about one state of one study to one archive.
MOST_QUESTIONS = 8
#: Questions under way at once, over all archives, and to one of them.
_MOST_UNDER_WAY = 32
_MOST_AT_ONE = 2
#: Series of one study that are counted.
_MOST_SERIES = 500
#: An archive that is slower than this is asked later.
TIMEOUTS = Timeouts(connect_s=5.0, associate_s=5.0, answer_s=10.0)
#: Modalities of objects that are no images to analyse. Source: PS3.3 C.7.3.1.1.1.
_NO_IMAGES = frozenset(
    {"SR", "KO", "PR", "SEG", "DOC", "REG", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "PLAN", "AU"}
)

#: Series Instance UID → number of images.
SeriesCounts = Mapping[str, int]
Ask = Callable[[Peer, str], SeriesCounts]


@dataclass
class _Asked:
    """What is known of one study from one archive."""

    input_version: int
    next_at: datetime
    first_at: datetime | None = None
    counts: SeriesCounts | None = None
    again: bool = False
    """The answer came twice, far enough apart."""
    questions: int = 0
    under_way: bool = False


class ArchiveCounts:
    """Asks archives (peers with `ask: [counts]`) about studies that gather, and remembers what they said."""

    def __init__(self, peers: Mapping[str, Peer], ask: Ask, executor: Executor, now: Callable[[], datetime]) -> None:
        self._peers = peers
        self._ask = ask
        self._executor = executor
        self._now = now
        self._asked: dict[tuple[str, str], _Asked] = {}
        self._lock = threading.Lock()

    def consider(self, studies: Sequence[StudyRecord], now: datetime) -> None:
        """Ask about the studies whose time has come; returns at once. What does not gather any more is forgotten."""
        archives = {name: peer for name, peer in self._peers.items() if "counts" in peer.ask}
        gathering = {study.study_instance_uid for study in studies}
        with self._lock:
            self._asked = {
                key: asked for key, asked in self._asked.items() if key[0] in gathering and key[1] in archives
            }
            still = [study for study in studies if (now - study.last_instance_at).total_seconds() >= STILL_S]
            due = [
                ((study.study_instance_uid, name), asked, peer)
                for study in still
                for name, peer in archives.items()
                if (asked := self._due(study, name, now)) is not None
            ]
        for question in due:
            self._executor.submit(self._question, *question)

    def of(self, study: StudyRecord, here: SeriesCounts) -> tuple[Counted, ...]:
        """Compare what archives said of a study, as it is now, with what is here.

        `here`: series that have images → how many instances.
        """
        with self._lock:
            found = [
                (name, asked.counts, asked.again)
                for (uid, name), asked in self._asked.items()
                if uid == study.study_instance_uid
                and asked.counts is not None
                and asked.input_version == study.input_version
            ]
        return tuple(
            Counted(
                peer=name,
                images=sum(counts.values()),
                missing=sum(max(0, counts.get(uid, 0) - count) for uid, count in here.items()),
                proven=again and dict(counts) == dict(here),
            )
            for name, counts, again in found
        )

    def answered(self, study_instance_uid: str) -> bool:
        """Tell whether an archive gave the same answer twice."""
        with self._lock:
            return any(uid == study_instance_uid and asked.again for (uid, _), asked in self._asked.items())

    def _due(self, study: StudyRecord, name: str, now: datetime) -> _Asked | None:
        """Note that a question goes out now; None: none does."""
        key = (study.study_instance_uid, name)
        asked = self._asked.get(key)
        if asked is None or (asked.input_version != study.input_version and not asked.under_way):
            asked = self._asked[key] = _Asked(study.input_version, now)
        if asked.under_way or now < asked.next_at or asked.questions >= MOST_QUESTIONS:
            return None
        under_way = [other for (_, other), each in self._asked.items() if each.under_way]
        if len(under_way) >= _MOST_UNDER_WAY or under_way.count(name) >= _MOST_AT_ONE:
            return None
        asked.under_way = True
        asked.questions += 1
        return asked

    def _question(self, key: tuple[str, str], asked: _Asked, peer: Peer) -> None:
        """Ask once, in a thread of the executor."""
        counts: SeriesCounts | None = None
        began = self._now()
        try:
            counts = self._ask(peer, key[0])
        except NodeError as error:
            log.warning(
                "an archive was not counted", extra={"action": "count_failed", "peer": key[1], "error": error.code}
            )
        except Exception:  # a worker's turn
            log.exception("an archive was not counted: our fault", extra={"action": "count_failed", "peer": key[1]})
        finally:
            with self._lock:
                _note(asked, counts, began)
                asked.under_way = False


def _note(asked: _Asked, counts: SeriesCounts | None, at: datetime) -> None:
    """Remember an answer, and say when to ask again."""
    wait_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** max(0, asked.questions - 2))
    if counts is None:
        asked.first_at = None
    elif asked.counts is not None and asked.first_at is not None and dict(counts) == dict(asked.counts):
        asked.again = asked.again or (at - asked.first_at).total_seconds() >= APART_S
    else:
        asked.first_at, asked.counts, asked.again = at, counts, False
        wait_s = APART_S
    asked.next_at = at + timedelta(seconds=wait_s)


def ask_by_find(peer: Peer, study_instance_uid: str, *, calling_ae_title: str) -> SeriesCounts:
    """Ask an archive by C-FIND how many images each series of a study has; objects that are no images are left out.

    Raises
    ------
    PeerError
        It cannot be asked, or does not count.

    Source: PS3.4 C.6.2.1.3 (series level), C.3.4 (additional attributes).
    """
    answers = find(
        peer,
        calling_ae_title=calling_ae_title,
        identifier=identifier(
            "SERIES",
            StudyInstanceUID=study_instance_uid,
            SeriesInstanceUID="",
            Modality="",
            NumberOfSeriesRelatedInstances="",
        ),
        most=_MOST_SERIES,
        timeouts=TIMEOUTS,
    )
    counts: dict[str, int] = {}
    for answer in answers:
        uid, number = str(answer.get("SeriesInstanceUID") or ""), answer.get("NumberOfSeriesRelatedInstances")
        if str(answer.get("Modality") or "") in _NO_IMAGES:
            continue
        if not uid or number in (None, ""):
            raise PeerRefused("The archive does not say how many instances its series have.", status=0x0000)
        counts[uid] = int(number)
    return counts
