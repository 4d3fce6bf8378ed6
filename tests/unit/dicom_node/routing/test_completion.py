from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.peers import Peer
from configs.settings import QuietSettings
from dicom_node.routing.completion import Verdict, may_be_due, settle_until, verdict
from storage.records import Sender
from tests.builders.studies import at, make_peer, make_sender, make_study

QUIET = QuietSettings(after_s=5.0, sender_idle_after_s=2.0, at_most_s=100.0)
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
    """What truly happened, kept without the rule's own notions: a list of arrivals and of busy times."""

    arrivals: list[tuple[float, str]] = field(default_factory=list)
    busy: list[tuple[float, float, str]] = field(default_factory=list)

    def premature(self, now: float, quiet_s: dict[str, float]) -> bool:
        """Somebody was sending, or had not been silent for its time."""
        heard = [arrival for arrival in self.arrivals if arrival[0] <= now]
        return any(start <= now < end for start, end, _ in self.busy) or any(
            now - moment < quiet_s[peer] for moment, peer in heard
        )

    def senders(self, now: float) -> list[Sender]:
        found = []
        for name in sorted({peer for moment, peer in self.arrivals if moment <= now}):
            last = max(moment for moment, peer in self.arrivals if peer == name and moment <= now)
            active = any(start <= now < end for start, end, peer in self.busy if peer == name)
            found.append(make_sender(name, last=last, active=active))
        return found


def make_world(seed: int, peers: dict[str, Peer]) -> World:
    """Let each peer send several bursts over associations that may stay open long after them."""
    chance = random.Random(seed)  # noqa: S311 (a schedule, no secret)
    world = World()
    for name in peers:
        moment = chance.uniform(0, 10)
        for _ in range(chance.randrange(4)):
            start = moment
            for _ in range(chance.randrange(1, 6)):
                world.arrivals.append((round(moment, 3), name))
                moment += chance.choice([0.01, 0.3, 1.9, 4.9, 6.0])
            # Activity covers the arrivals at least; an idle association counts no longer than its last traffic.
            world.busy.append((start, moment + chance.choice([0.0, 2.0, 30.0]), name))
            moment += chance.choice([0.5, 6.0, 25.0, 60.0])
    return world


@given(st.integers(min_value=0, max_value=2**32))
def test_never_premature_and_always_decided_by_the_ceiling(seed: int) -> None:
    quiet_s = {"ct1": 5.0, "slow": 20.0, "quick": 1.0}
    world = make_world(seed, PEERS)
    if not world.arrivals:
        return
    first = min(world.arrivals)[0]
    now, step = first, 0.25
    while True:
        heard = [moment for moment, _ in world.arrivals if moment <= now]
        study = make_study(gathering_since=at(first), last_instance_at=at(max(heard)))
        said = verdict(study, world.senders(now), at(now), QUIET, PEERS)
        premature = world.premature(now, quiet_s)
        if said.complete:
            assert may_be_due(study, at(now), QUIET, PEERS)
            assert said.evidence == "ceiling" if premature else said.evidence in {"quiet", "ceiling"}
            assert said.evidence != "ceiling" or now - first >= QUIET.at_most_s
            return
        # Nothing is put off without need: silence of everybody for its time is enough.
        assert premature
        assert now - first < QUIET.at_most_s
        now += step


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
    assert settle_until(study, senders, peers, settle_s=60.0, proven=proven) == at(30 + seconds)


def test_a_study_that_cannot_be_due_costs_no_look_at_its_senders() -> None:
    assert not may_be_due(make_study(), at(0.9), QUIET, PEERS)
    assert may_be_due(make_study(), at(1.0), QUIET, PEERS)
    assert may_be_due(make_study(last_instance_at=at(99.9)), at(100.0), QUIET, PEERS)
