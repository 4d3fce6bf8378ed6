from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.peers import Peer
from configs.settings import QuietSettings
from dicom_node.routing.completion import (
    Announced,
    Counted,
    Known,
    Required,
    Verdict,
    may_be_due,
    next_look_s,
    settle_until,
    verdict,
)
from storage.peer_records import Announcement, AnnouncementKind, AnnouncementState, Coverage
from storage.records import Sender, StudyRecord
from tests.builders.studies import at, make_peer, make_sender, make_study

QUIET = QuietSettings(after_s=5.0, sender_idle_after_s=2.0, at_most_s=100.0, missing_at_most_s=30.0)
PEERS = {"ct1": make_peer(), "slow": make_peer(quiet_after_s=20), "quick": make_peer(quiet_after_s=1)}


@pytest.mark.parametrize(
    ("now", "senders", "evidence", "reason"),
    [
        (4.9, [make_sender()], "", "Waiting for 0.1 s more without an image."),
        (5.0, [make_sender()], "quiet", "No image for 5.0 s, and nobody is sending this study."),
        (50.0, [make_sender(active=True)], "", "Waiting: ct1 may still be sending."),
        (19.0, [make_sender("slow")], "", "Waiting for 1.0 s more without an image."),
        (20.0, [make_sender("slow")], "quiet", "No image for 20 s, and nobody is sending this study."),
        (1.0, [make_sender("quick")], "quiet", "No image for 1.0 s, and nobody is sending this study."),
        (12.0, [make_sender("quick"), make_sender("slow")], "", "Waiting for 8.0 s more without an image."),
        (6.0, [make_sender("unlisted")], "quiet", "No image for 6.0 s, and nobody is sending this study."),
        (6.0, [], "quiet", "No image for 6.0 s, and nobody is sending this study."),
        (4.0, [], "", "Waiting for 1.0 s more without an image."),
        (-3.0, [make_sender()], "", "Waiting for 8.0 s more without an image."),
        (99.9, [make_sender(active=True)], "", "Waiting: ct1 may still be sending."),
        (
            100.0,
            [make_sender(active=True)],
            "ceiling",
            "Taken as it stands after 100 s of gathering. ct1 had not stopped sending.",
        ),
    ],
)
def test_verdict_by_silence_activity_and_ceiling(now: float, senders: list[Sender], evidence: str, reason: str) -> None:
    said = verdict(make_study(), senders, at(now), QUIET, PEERS)
    assert said == Verdict(complete=bool(evidence), evidence=evidence, reason=reason)


def test_ceiling_counts_from_the_first_instance_since_the_last_decision() -> None:
    study = make_study(gathering_since=at(60), last_instance_at=at(159))
    active = [make_sender(last=159, active=True)]
    assert not verdict(study, active, at(159), QUIET, PEERS).complete
    assert verdict(study, active, at(160), QUIET, PEERS).evidence == "ceiling"


@dataclass
class World:
    """What truly happened, in ms, kept without the rule's own notions: arrivals, and when who was busy."""

    arrivals: list[tuple[int, str]] = field(default_factory=list)
    busy: list[tuple[int, int, str]] = field(default_factory=list)

    def premature(self, now: int) -> bool:
        """Somebody was sending, or had not been silent for its time."""
        return any(start <= now < end for start, end, _ in self.busy) or any(
            moment <= now < moment + SILENCE_MS[peer] for moment, peer in self.arrivals
        )

    def last(self, now: int) -> int:
        return max(moment for moment, _ in self.arrivals if moment <= now)

    def senders(self, now: int) -> list[Sender]:
        found = []
        for name in sorted({peer for moment, peer in self.arrivals if moment <= now}):
            last = max(moment for moment, peer in self.arrivals if peer == name and moment <= now)
            active = any(start <= now < end for start, end, peer in self.busy if peer == name)
            found.append(make_sender(name, last=last / 1000, active=active))
        return found


SILENCE_MS = {"ct1": 5_000, "slow": 20_000, "quick": 1_000}


def make_world(seed: int) -> World:
    """Let each peer send several bursts over associations that may stay open long after them."""
    chance = random.Random(seed)
    world = World()
    for name in SILENCE_MS:
        moment = chance.randrange(10_000)
        for _ in range(chance.randrange(4)):
            start = moment
            for _ in range(chance.randrange(1, 6)):
                world.arrivals.append((moment, name))
                moment += chance.choice([10, 300, 1_900, 4_900, 6_000])
            # Activity covers the arrivals at least; an idle association counts no longer than its last traffic.
            world.busy.append((start, moment + chance.choice([0, 2_000, 30_000]), name))
            moment += chance.choice([500, 6_000, 25_000, 60_000])
    return world


@settings(deadline=None, max_examples=200)
@given(st.integers(min_value=0, max_value=2**32))
def test_never_premature_and_always_decided_by_the_ceiling(seed: int) -> None:
    world = make_world(seed)
    if not world.arrivals:
        return
    first = now = min(world.arrivals)[0]
    while True:
        study = make_study(gathering_since=at(first / 1000), last_instance_at=at(world.last(now) / 1000))
        said = verdict(study, world.senders(now), at(now / 1000), QUIET, PEERS)
        if said.complete:
            assert may_be_due(study, at(now / 1000), QUIET, PEERS)
            assert (said.evidence == "ceiling") == (now - first >= 100_000)
            assert said.evidence == "ceiling" or not world.premature(now)
            return
        # Nothing is put off without need: silence of everybody for its time is enough.
        assert world.premature(now)
        assert now - first < 100_000
        now += 250


@pytest.mark.parametrize(
    ("peers", "senders", "proven", "seconds"),
    [
        ({"ct1": make_peer()}, [make_sender()], False, 60),
        ({"ct1": make_peer(settle_s=7)}, [make_sender()], False, 7),
        ({"ct1": make_peer(settle_s=0)}, [make_sender()], False, 0),
        ({"ct1": make_peer(host="127.0.0.1")}, [make_sender()], False, 5),
        ({"ct1": make_peer(host="127.0.0.1", settle_s=9)}, [make_sender()], False, 9),
        ({"ct1": make_peer(settle_s=7), "b": make_peer(settle_s=8)}, [make_sender(), make_sender("b")], False, 8),
        ({}, [make_sender("gone")], False, 60),
        ({}, [], False, 60),
        ({"ct1": make_peer()}, [make_sender()], True, 0),
    ],
)
def test_results_settle_as_long_as_the_slowest_sender_asks(
    peers: dict[str, Peer], senders: list[Sender], proven: bool, seconds: float
) -> None:
    study = make_study(last_instance_at=at(30))
    assert settle_until(study, senders, peers, settle_s=60.0, at_once=proven) == at(30 + seconds)


def test_a_study_that_cannot_be_due_costs_no_look_at_its_senders() -> None:
    assert not may_be_due(make_study(), at(0.9), QUIET, PEERS)
    assert may_be_due(make_study(), at(1.0), QUIET, PEERS)
    assert may_be_due(make_study(last_instance_at=at(99.9)), at(100.0), QUIET, PEERS)


STEP, NOTICE = AnnouncementKind.PROCEDURE_STEP, AnnouncementKind.AVAILABILITY
IN_PROGRESS, COMPLETED = AnnouncementState.IN_PROGRESS, AnnouncementState.COMPLETED
DISCONTINUED = AnnouncementState.DISCONTINUED


def announced(
    *states: AnnouncementState, kind: AnnouncementKind = STEP, named: int = 3, missing: int = 0, unnamed: int = 0
) -> Announced:
    said = [Announcement(f"1.{n}", kind, state, "ct1", "CT1", named, at(0)) for n, state in enumerate(states)]
    return Announced(said, Coverage(named, missing, unnamed))


@pytest.mark.parametrize(
    ("now", "said", "evidence", "reason"),
    [
        (0.0, announced(COMPLETED), "mpps", "CT1 completed its procedure step, and all 3 that it names are here."),
        (
            0.0,
            announced(COMPLETED, kind=NOTICE),
            "availability",
            "CT1 gave notice of its instances, and all 3 that it names are here.",
        ),
        (0.0, announced(COMPLETED, DISCONTINUED), "mpps", "CT1 completed its procedure step, and all 3"),
        (4.0, announced(COMPLETED, missing=1), "", "Waiting for 1.0 s more without an image."),
        (29.9, announced(COMPLETED, missing=1), "", "Waiting: 1 images that are known to exist are not here."),
        (
            30.0,
            announced(COMPLETED, missing=1),
            "quiet",
            "No image for 30 s, and nobody is sending this study. Premature: 1 of 3 announced instances are not here.",
        ),
        (0.0, announced(COMPLETED, unnamed=1), "", "Waiting for 5.0 s more without an image."),
        (5.0, announced(COMPLETED, unnamed=1), "quiet", "No image for 5.0 s, and nobody is sending this study."),
        (0.0, announced(COMPLETED, named=0), "", "Waiting for 5.0 s more without an image."),
        (0.0, announced(DISCONTINUED), "", "Waiting for 5.0 s more without an image."),
        (5.0, announced(DISCONTINUED), "quiet", "No image for 5.0 s, and nobody is sending this study."),
        (50.0, announced(IN_PROGRESS), "", "Waiting: CT1 has a procedure step in progress."),
        (50.0, announced(COMPLETED, IN_PROGRESS), "", "Waiting: CT1 has a procedure step in progress."),
        (
            100.0,
            announced(IN_PROGRESS),
            "ceiling",
            "Taken as it stands after 100 s of gathering. CT1 had a procedure step in progress.",
        ),
    ],
)
def test_verdict_by_what_peers_announced(now: float, said: Announced, evidence: str, reason: str) -> None:
    found = verdict(make_study(), [make_sender()], at(now), QUIET, PEERS, Known(said))
    assert (found.evidence, found.complete) == (evidence, bool(evidence))
    assert found.reason.startswith(reason)
    assert found.proven == (evidence in ("mpps", "availability"))


def test_an_association_that_stays_open_does_not_hold_up_what_is_proven() -> None:
    assert verdict(make_study(), [make_sender(active=True)], at(0), QUIET, PEERS, Known(announced(COMPLETED))).complete


@pytest.mark.parametrize(
    ("now", "instances", "states", "due"),
    [
        (0.0, 3, [COMPLETED], True),
        (0.0, 2, [COMPLETED], False),  # fewer are here than one of them names
        (5.0, 2, [COMPLETED], True),
        (5.0, 3, [COMPLETED, IN_PROGRESS], False),
        (100.0, 1, [IN_PROGRESS], True),
    ],
)
def test_what_was_announced_says_when_asking_is_worth_it(
    now: float, instances: int, states: list[AnnouncementState], due: bool
) -> None:
    study = make_study(number_of_instances=instances, last_instance_at=at(0))
    assert may_be_due(study, at(now), QUIET, {}, announced(*states).announcements) is due


def known(
    *,
    required: bool | None = None,
    counted: bool | None = None,
    missing: int = 0,
    step: AnnouncementState | None = None,
    not_here: int = 0,
) -> Known:
    """Say what is known beside the study: what rules require, what an archive counted, a step, instances not here."""
    wanted = None if required is None else Required(required, "All that is required is here.")
    counts = () if counted is None else (Counted("pacs", 3, missing, counted),)
    said = Announced() if step is None else announced(step, missing=not_here)
    return Known(said, wanted, counts)


@pytest.mark.parametrize(
    ("now", "said", "active", "evidence"),
    [
        (0.3, known(required=True), False, "required series"),
        (0.2, known(required=True), False, ""),  # an instance came just now
        (0.3, known(required=True), True, ""),
        (0.3, known(required=True, step=IN_PROGRESS), False, ""),
        (0.3, known(required=True, step=COMPLETED, not_here=1), False, ""),
        (0.3, known(required=True, counted=False, missing=2), False, ""),
        (4.9, known(required=False), False, ""),
        (5.0, known(required=False), False, "quiet"),
        (2.2, known(counted=True), False, "counts"),
        (2.2, known(counted=True), True, ""),
        (2.2, known(counted=True, step=IN_PROGRESS), False, ""),
        (4.9, known(counted=False), False, ""),
        (5.0, known(counted=False), False, "quiet"),
        (29.0, known(counted=False, missing=2), False, ""),
        (30.0, known(counted=False, missing=2), False, "quiet"),
        (0.3, known(required=True, counted=True), False, "required series"),
    ],
)
def test_verdict_by_required_series_and_counts(now: float, said: Known, active: bool, evidence: str) -> None:
    found = verdict(make_study(), [make_sender(active=active)], at(now), QUIET, PEERS, said)
    assert found.evidence == evidence
    assert found.proven == (evidence in ("required series", "counts"))


def test_what_an_archive_has_and_is_not_here_is_said_when_it_was_waited_for_long_enough() -> None:
    found = verdict(make_study(), [make_sender()], at(30), QUIET, PEERS, known(counted=False, missing=2))
    assert found.reason.endswith("Premature: pacs has 2 images of these series that are not here.")


@pytest.mark.parametrize(
    ("pause_s", "adapts", "decided_after_s"),
    [
        (0.0, True, 5.0),  # it never paused
        (2.0, True, 5.0),  # its pauses are shorter than what is configured
        (8.0, True, 12.0),
        (50.0, True, 60.0),  # but never longer than adapted_at_most_s
        (8.0, False, 5.0),
    ],
)
def test_a_sender_that_pauses_is_waited_for_longer(pause_s: float, adapts: bool, decided_after_s: float) -> None:
    settings = QuietSettings(after_s=5.0, at_most_s=100.0, adapts=adapts, adapted_at_most_s=60.0)
    learned = Known(pauses={("ct1", "CT1"): pause_s, ("mr1", "MR1"): 59.0})
    study, senders = make_study(), [make_sender()]
    assert not verdict(study, senders, at(decided_after_s - 0.1), settings, PEERS, learned).complete
    assert verdict(study, senders, at(decided_after_s), settings, PEERS, learned).evidence == "quiet"


def test_a_quiet_time_that_is_configured_for_longer_is_not_shortened_by_experience() -> None:
    learned = Known(pauses={("slow", "SLOW"): 8.0})
    assert not verdict(make_study(), [make_sender("slow")], at(19), QUIET, PEERS, learned).complete


@pytest.mark.parametrize(
    ("now", "images", "required_images", "is_counted", "due"),
    [
        (0.3, 10, 10, False, True),
        (0.3, 9, 10, False, False),
        (0.2, 10, 10, False, False),
        (0.3, 1, None, True, True),
        (0.2, 1, None, True, False),
    ],
)
def test_required_series_and_counts_are_looked_at_only_when_they_can_decide(
    now: float, images: int, required_images: int | None, is_counted: bool, due: bool
) -> None:
    study = make_study(number_of_inputs=images)
    asked = may_be_due(study, at(now), QUIET, {}, required_images=required_images, is_counted=is_counted)
    assert asked is due


def test_the_next_look_comes_when_a_silence_is_long_enough() -> None:
    quiet, peers = QuietSettings(), {"ct1": make_peer(quiet_after_s=3)}
    study = make_study(last_instance_at=at(10))

    def look(seconds: float, *studies: StudyRecord) -> float:
        return next_look_s(studies, at(seconds), quiet, peers, at_most_s=0.2)

    assert look(10) == 0.2
    assert look(11, study) == 0.2
    assert look(12.95, study) == pytest.approx(0.055)  # the peer's 3 s
    assert look(14.9, study) == pytest.approx(0.105)  # the 5 s of all others
    assert look(16, study) == 0.2
