"""Ten thousand random schedules on a virtual clock: no study starts too early, none is forgotten, none is done twice.

The world keeps raw events alone - who sent what when, which connection was open when, what was announced and what an
archive had - and judges each start from these. It shares no code and no notion of quiet with the rule.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from configs.settings import QuietSettings
from dicom_node.routing.completion import Announced, Counted, Known, Verdict, may_be_due, verdict
from storage.peer_records import Announcement, AnnouncementKind, AnnouncementState, Coverage
from storage.records import Sender, StudyRecord
from tests.builders.studies import at, make_peer, make_sender, make_study

QUIET = QuietSettings(after_s=5, sender_idle_after_s=2, at_most_s=300, missing_at_most_s=60)
PEERS = {"ct1": make_peer(), "slow": make_peer(quiet_after_s=12), "quick": make_peer(quiet_after_s=1)}
#: The same again, as the judge knows it: milliseconds.
SILENCE, IDLE, CEILING, MISSING = {"ct1": 5_000, "slow": 12_000, "quick": 1_000}, 2_000, 300_000, 60_000
CHUNKS, SCHEDULES = 10, 1_000
TICK = 500


@dataclass
class World:
    """All events, in ms."""

    arrivals: list[tuple[int, str, str, str]] = field(default_factory=list)
    """When, from whom, of which study, which image; an image may come again."""
    traffic: list[tuple[int, str, str]] = field(default_factory=list)
    """When, connection, whose."""
    closed: dict[str, int] = field(default_factory=dict)
    """Connection → when it ended."""
    carried: dict[str, set[str]] = field(default_factory=dict)
    """Study → connections over which images of it came."""
    steps: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Study → when its procedure step began and ended."""
    archived: dict[str, int] = field(default_factory=dict)
    """Study → images that an archive has from the beginning."""

    def here(self, study: str, now: int) -> set[str]:
        return {image for when, _, of, image in self.arrivals if of == study and when <= now}

    def planned(self, study: str) -> set[str]:
        return {image for _, _, of, image in self.arrivals if of == study}

    def new(self, study: str) -> list[tuple[int, str]]:
        """First arrivals of a study's images: when and from whom."""
        seen: set[str] = set()
        found = []
        for when, who, of, image in sorted(self.arrivals):
            if of == study and image not in seen:
                seen.add(image)
                found.append((when, who))
        return found

    def active(self, study: str, who: str, now: int) -> bool:
        """Whether a connection of this sender that carried the study is open and had traffic lately."""
        lines = {line for line in self.carried[study] if self.closed[line] > now}
        return any(line in lines and whose == who and now - IDLE <= when <= now for when, line, whose in self.traffic)

    def too_early(self, study: str, evidence: str, now: int) -> str:  # noqa: PLR0911 (one return for each reason)
        """Say why a start at this moment is premature; empty: it is not."""
        came = [(when, who) for when, who in self.new(study) if when <= now]
        last = max(when for when, _ in came)
        senders = {who for _, who in came}
        begun, ended = self.steps.get(study, (now + 1, now + 1))
        named = self.planned(study) if ended <= now else set()
        if begun <= now < ended:
            return "the modality still acquires"
        if named - self.here(study, now) and now - last < MISSING:
            return "announced images are missing"
        if evidence == "mpps":
            return "" if named and named == self.here(study, now) else "not all that was announced is here"
        if any(self.active(study, who, now) for who in senders):
            return "a sender is active"
        if self.archived.get(study, 0) > len(self.here(study, now)) and now - last < MISSING:
            return "an archive has more"
        if evidence == "counts":
            same = self.archived.get(study) == len(self.here(study, now)) == len(self.here(study, now - 2_000))
            return "" if same else "the archive does not have what is here"
        if any(now - when < SILENCE[who] for when, who in came):
            return "a sender has not been silent for its time"
        return ""


def make_world(seed: int) -> World:
    """Let one to three studies come from one to three senders over connections that they share, in bursts."""
    chance = random.Random(seed)
    world = World()
    studies = [f"s{number}" for number in range(chance.randint(1, 3))]
    for line in range(chance.randint(1, 3)):
        _send_over(world, chance, f"line{line}", chance.choice(list(SILENCE)), studies)
    for study in studies:
        images = world.planned(study)
        if not images:
            continue
        last = max(when for when, _, of, _ in world.arrivals if of == study)
        if chance.random() < 0.25:
            begun = chance.randrange(last + 1)
            world.steps[study] = (
                begun,
                max(begun, last + chance.choice([-3_000, -10, 0, 500, 4_000, 40_000, 400_000])),
            )
        if chance.random() < 0.25:
            world.archived[study] = len(images) + chance.choice([0, 0, 0, -1, 2])
    return world


def _send_over(world: World, chance: random.Random, line: str, who: str, studies: list[str]) -> None:
    """Send bursts of interleaved studies over one connection, with repetitions and images that come back."""
    now = chance.randrange(20_000)
    for _ in range(chance.randint(1, 3)):
        of = chance.sample(studies, chance.randint(1, len(studies)))
        for number in range(chance.randint(1, 8)):
            study = chance.choice(of)
            image = f"{study}.{chance.randrange(40)}" if chance.random() < 0.2 else f"{study}.{line}.{now}.{number}"
            world.arrivals.append((now, who, study, image))
            world.carried.setdefault(study, set()).add(line)
            world.traffic.append((now, line, who))
            now += chance.choice([5, 40, 300, 1_500, 1_990])
        for _ in range(chance.choice([0, 0, 3])):  # results that a PACS sends back: traffic, and no image
            world.traffic.append((now, line, who))
            now += 400
        now += chance.choice([100, 2_100, 4_900, 6_000, 14_000, 30_000, 3_600_000])
    # Some connections end with the last image, some stay open for hours.
    last = max(when for when, over, _ in world.traffic if over == line)
    world.closed[line] = last + chance.choice([0, 50, 1_000, 7_200_000])


@dataclass
class Node:
    """What the node would have in its index of one study."""

    world: World
    name: str
    decisions: int = 0
    decided_on: int = 0
    """Images that the last decision was on."""
    gathering_since: int | None = None

    def study(self, now: int) -> StudyRecord | None:
        """The study while it gathers."""
        came = [when for when, _ in self.world.new(self.name) if when <= now]
        if len(came) == self.decided_on:
            return None
        since = sorted(came)[self.decided_on]
        return make_study(
            number_of_inputs=len(came),
            number_of_instances=len(came),
            input_version=len(came),
            decision_number=self.decisions,
            gathering_since=at(since / 1000),
            last_instance_at=at(max(came) / 1000),
        )

    def senders(self, now: int) -> list[Sender]:
        latest: dict[str, int] = {}
        for when, who, of, _ in self.world.arrivals:
            if of == self.name and when <= now:
                latest[who] = max(when, latest.get(who, 0))
        return [
            make_sender(who, last=when / 1000, active=self.world.active(self.name, who, now))
            for who, when in latest.items()
        ]

    def known(self, now: int) -> Known:
        here = self.world.here(self.name, now)
        counted: tuple[Counted, ...] = ()
        if self.name in self.world.archived:
            has = self.world.archived[self.name]
            twice = len(here) == len(self.world.here(self.name, now - 2_000))
            counted = (Counted("pacs", has, max(0, has - len(here)), proven=twice and has == len(here)),)
        return Known(self._announced(here, now), counted=counted)

    def _announced(self, here: set[str], now: int) -> Announced:
        begun, ended = self.world.steps.get(self.name, (now + 1, now + 1))
        if begun > now:
            return Announced()
        over = ended <= now
        state = AnnouncementState.COMPLETED if over else AnnouncementState.IN_PROGRESS
        named = len(self.world.planned(self.name)) if over else 0
        step = Announcement("1.9", AnnouncementKind.PROCEDURE_STEP, state, "ct1", "CT1", named, at(0))
        unnamed = 0 if over else len(here)
        return Announced([step], Coverage(named, named - len(here) if over else 0, unnamed))


def run(world: World) -> tuple[Counter[str], list[str]]:
    """Look at all studies every half second; give the starts by their evidence, and what was wrong."""
    nodes = [Node(world, name) for name in sorted(world.carried)]
    starts: Counter[str] = Counter()
    wrong: list[str] = []
    moments = sorted({when for when, _, _, _ in world.arrivals})
    now, end = 0, max(moments) + CEILING + 10_000
    while now <= end:
        gathering = [(node, study) for node in nodes if (study := node.study(now)) is not None]
        for node, study in gathering:
            known = node.known(now)
            said = verdict(study, node.senders(now), at(now / 1000), QUIET, PEERS, known)
            if said.complete:
                starts[said.evidence] += 1
                wrong += judge(world, node, study, said, now, known)
                node.decisions += 1
                node.decided_on = study.number_of_inputs
        if gathering:
            now += TICK
        else:  # hours may pass until the next image
            now = next((when for when in moments if when > now), end + 1)
    for node in nodes:
        if node.decided_on != len(world.planned(node.name)):
            wrong.append(f"{node.name}: {node.decided_on} of {len(world.planned(node.name))} images were decided on")
    return starts, wrong


def judge(world: World, node: Node, study: StudyRecord, said: Verdict, now: int, known: Known) -> list[str]:
    """Say what is wrong with one start."""
    wrong = []
    is_due = may_be_due(
        study,
        at(now / 1000),
        QUIET,
        PEERS,
        known.announced.announcements,
        is_counted=any(each.proven for each in known.counted),
    )
    if not is_due:
        wrong.append(f"{node.name} at {now}: the cheap look would have missed the decision")
    if said.evidence == "ceiling":
        first = min(when for when, _ in world.new(node.name)[node.decided_on :])
        if now - first < CEILING:
            wrong.append(f"{node.name} at {now}: the ceiling fell early")
    elif why := world.too_early(node.name, said.evidence, now):
        wrong.append(f"{node.name} at {now} by {said.evidence}: {why}")
    return wrong


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_study_starts_too_early_and_none_is_forgotten(chunk: int) -> None:
    starts: Counter[str] = Counter()
    wrong: list[str] = []
    for seed in range(chunk * SCHEDULES, (chunk + 1) * SCHEDULES):
        some, bad = run(make_world(seed))
        starts.update(some)
        wrong += [f"seed {seed}: {each}" for each in bad]
    print(f"{SCHEDULES} schedules, {dict(starts)} starts, {len(wrong)} wrong")  # noqa: T201 (a figure)
    assert wrong == []
    assert min(starts[evidence] for evidence in ("quiet", "mpps", "counts", "ceiling")) > 10


def test_the_judge_sees_a_start_that_is_too_early() -> None:
    """A rule that starts at the first image, whatever is known, must be caught in most schedules."""
    caught = 0
    for seed in range(200):
        world = make_world(seed)
        when, _, study, _ = min(world.arrivals)
        caught += world.too_early(study, "quiet", when) != ""
    assert caught == 200
