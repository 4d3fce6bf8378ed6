"""Earlier studies that rules ask for: found at listed peers and fetched, with limits, beside everything else."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from configs.errors import NodeError
from configs.peers import Peer
from configs.routes import PriorsWanted
from dicom_node.routing.facts import attribute_of
from dicom_node.routing.priors import FoundStudy, relevant, series_to_fetch
from dicom_node.worker.evidence import facts_of
from dicom_node.worker.prior_sources import PriorSource
from storage.blobs import BlobStore
from storage.errors import NotKept
from storage.index import Index
from storage.prior_book import PriorBook, PriorFetch, PriorState
from storage.records import StudyRecord, StudyState

log = logging.getLogger(__name__)

EVERY_S = 1.0
#: Requests that are worked on at once.
_AT_ONCE = 4


@dataclass(frozen=True)
class PriorParts:
    """What fetching needs."""

    book: PriorBook
    index: Index
    blobs: BlobStore
    peers: Mapping[str, Peer]
    source: Callable[[str, Peer], PriorSource]
    """Makes the way to a peer's studies."""
    now: Callable[[], datetime]


@dataclass
class _Tally:
    """What one request came to so far."""

    studies: int = 0
    series: int = 0
    here: int = 0
    left_out: int = 0

    def __str__(self) -> str:
        said = [f"{self.studies} earlier studies, {self.series} series fetched."]
        said += [f"{self.here} studies are here already."] if self.here else []
        said += [f"{self.left_out} series left out: more instances than the rule allows."] if self.left_out else []
        return " ".join(said)


class PriorFetcher:
    """Works on requests for priors until told to stop."""

    def __init__(self, parts: PriorParts) -> None:
        self._parts = parts
        self._in_hand: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def run(self, stop: threading.Event, *, every_s: float = EVERY_S) -> None:
        """Look for requests again and again; one peer that hangs holds up no other request."""
        with ThreadPoolExecutor(_AT_ONCE, "priors") as threads:
            while not stop.wait(every_s):
                try:
                    due = self._parts.book.due(self._parts.now(), limit=4 * _AT_ONCE)
                except NodeError as error:
                    log.warning("requests for priors wait", extra={"action": "priors_wait", "error": error.code})
                    continue
                for fetch in due:
                    if self._take(fetch):
                        threads.submit(self._turn, fetch)

    def _take(self, fetch: PriorFetch) -> bool:
        key = (fetch.study_instance_uid, fetch.route)
        with self._lock:
            if key in self._in_hand or len(self._in_hand) >= _AT_ONCE:
                return False
            self._in_hand.add(key)
            return True

    def _turn(self, fetch: PriorFetch) -> None:
        try:
            fetch_priors(fetch, self._parts)
        except Exception:  # a worker's turn
            log.exception("fetching priors failed: our fault", extra={"action": "priors_failed"})
        finally:
            with self._lock:
                self._in_hand.discard((fetch.study_instance_uid, fetch.route))


def fetch_priors(fetch: PriorFetch, parts: PriorParts) -> None:
    """Do what one request asks for, and note what it came to; what fails is tried again later."""
    wanted = PriorsWanted.model_validate_json(fetch.wanted)
    try:
        study = parts.index.study(fetch.study_instance_uid)
    except NotKept:
        parts.book.end(fetch, PriorState.FAILED, "The study is not kept any more.", parts.now())
        return
    if not study.patient_id.strip():
        parts.book.end(fetch, PriorState.FAILED, "The study has no Patient ID to ask for.", parts.now())
        return
    tally, problems = _Tally(), []
    for name in wanted.sources:
        peer = parts.peers.get(name)
        if peer is None or "priors" not in peer.ask:
            problems.append(f"{name} is no peer that may be asked for priors.")
            continue
        try:
            _from(name, parts.source(name, peer), study, wanted, tally, parts)
        except NodeError as error:
            log.warning(
                "priors were not fetched", extra={"action": "priors_not_fetched", "peer": name, "error": error.code}
            )
            problems.append(f"{name}: {error}")
    if problems:
        parts.book.again(fetch, " ".join([*problems, str(tally)]), parts.now())
    else:
        parts.book.end(fetch, PriorState.DONE, str(tally), parts.now())


def _from(
    name: str, source: PriorSource, study: StudyRecord, wanted: PriorsWanted, tally: _Tally, parts: PriorParts
) -> None:
    """Fetch what one peer has, as far as the rule still wants more studies."""
    issuer, body_parts = _issuer_and_body_parts(study, parts)
    found = relevant(source.studies(study.patient_id), study, issuer, wanted, parts.now().date())
    for prior in found:
        if tally.studies + tally.here >= wanted.studies:
            return
        _fetch_study(name, source, prior, study, wanted, body_parts, tally, parts)


def _fetch_study(
    name: str,
    source: PriorSource,
    prior: FoundStudy,
    study: StudyRecord,
    wanted: PriorsWanted,
    body_parts: frozenset[str],
    tally: _Tally,
    parts: PriorParts,
) -> None:
    uid = prior.study_instance_uid
    here = {each.series_instance_uid: each.number_of_instances for each in parts.index.series_of(uid)}
    if here and parts.index.study(uid).state is StudyState.GATHERING and parts.book.fetched(uid) is None:
        tally.here += 1  # somebody sends it just now
        return
    chosen, left_out = series_to_fetch(source.series(uid), here, body_parts, wanted)
    tally.left_out += left_out
    if not chosen:
        tally.here += bool(here)
        return
    parts.book.expect(uid, study.study_instance_uid, name, parts.now())
    for series in chosen:
        source.fetch(uid, series)
        tally.series += 1
    tally.studies += 1


def _issuer_and_body_parts(study: StudyRecord, parts: PriorParts) -> tuple[str, frozenset[str]]:
    inputs = parts.index.inputs_of(study.study_instance_uid)
    facts = facts_of(study.study_instance_uid, (), inputs, parts.blobs)
    headers = [series.header for series in facts.series if series.header is not None]
    issuers = [value for header in headers for value in attribute_of(header, "IssuerOfPatientID").values]
    body_parts = frozenset(value for header in headers for value in attribute_of(header, "BodyPartExamined").values)
    return (issuers[0] if issuers else ""), body_parts
