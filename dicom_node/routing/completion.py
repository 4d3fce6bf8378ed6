"""When a study is complete, and how long its results settle. Pure: time is an argument."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from configs.peers import Peer
from configs.settings import QuietSettings
from storage.peer_records import Announcement, AnnouncementKind, AnnouncementState, Coverage
from storage.records import Sender, StudyRecord

#: Seconds after a moment at which it is looked: it has passed then, whatever the clock's grain.
_AFTERWARDS_S = 0.005
#: Seconds without an instance before what is here is compared with what is expected.
STILL_S = 0.3
#: A sender that paused once may pause somewhat longer the next time.
_PAUSE_MARGIN = 1.5

#: Seconds that results settle for a sender on this machine: it can take them back itself.
LOCAL_SETTLE_S = 5.0


_NONE_NAMED = Coverage(named=0, missing=0, unnamed_inputs=0)


@dataclass(frozen=True)
class Announced:
    """What peers announced of a study, compared with what is here."""

    announcements: Sequence[Announcement] = ()
    coverage: Coverage = _NONE_NAMED

    @property
    def in_progress(self) -> list[str]:
        """Peers that say that they still acquire."""
        return [_who(each) for each in self.announcements if each.state is AnnouncementState.IN_PROGRESS]

    @property
    def vouching(self) -> list[Announcement]:
        """Completed steps and notices."""
        return [each for each in self.announcements if each.state is AnnouncementState.COMPLETED]


NOTHING_ANNOUNCED = Announced()


@dataclass(frozen=True)
class Required:
    """Whether the series that rules wait for are here without gaps."""

    whole: bool
    reason: str
    """Which are here, or what is missing."""


@dataclass(frozen=True)
class Counted:
    """What an archive says that it has of the study, compared with what is here."""

    peer: str
    images: int
    """Images that it has, in series of images."""
    missing: int
    """Of the series that are here: images that it has and that are not here."""
    proven: bool
    """It gave the same answer twice, long enough apart, and that is what is here."""


@dataclass(frozen=True)
class Known:
    """What is known beside the study and its senders."""

    announced: Announced = NOTHING_ANNOUNCED
    required: Required | None = None
    """None: no rule that matches says what it waits for, or nobody has looked."""
    counted: Sequence[Counted] = ()
    pauses: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """Peer and calling AE title → the longest pause within a study that the sender was seen to make, seconds."""

    @property
    def missing(self) -> int:
        """Instances that are known to exist and are not here."""
        return max([self.announced.coverage.missing, *(each.missing for each in self.counted)])


NOTHING_KNOWN = Known()


@dataclass(frozen=True)
class Gathering:
    """All that is known about a study when somebody asks whether it is complete."""

    study: StudyRecord
    senders: Sequence[Sender]
    now: datetime
    settings: QuietSettings
    peers: Mapping[str, Peer]
    known: Known = NOTHING_KNOWN

    @property
    def announced(self) -> Announced:
        """Procedure steps and notices."""
        return self.known.announced

    @property
    def in_flight(self) -> bool:
        """Whether somebody sends or acquires, or an instance came just now."""
        active = any(sender.active for sender in self.senders) or bool(self.announced.in_progress)
        return active or self.since_s(self.study.last_instance_at) < STILL_S

    def quiet_after_s(self, sender: Sender) -> float:
        """Seconds without an instance after which this sender is done: as configured, longer where it pauses longer."""
        configured_s = _quiet_after_s(self.peers.get(sender.peer), self.settings)
        pause_s = self.known.pauses.get((sender.peer, sender.calling_ae_title), 0.0)
        if not self.settings.adapts or not pause_s:
            return configured_s
        return max(configured_s, min(pause_s * _PAUSE_MARGIN, self.settings.adapted_at_most_s))

    @property
    def expects_more(self) -> bool:
        """Whether instances that are known to exist may still come; they are not waited for without end."""
        waited_s = self.since_s(self.study.last_instance_at)
        return self.known.missing > 0 and waited_s < self.settings.missing_at_most_s

    def since_s(self, moment: datetime) -> float:
        """Seconds since a moment; negative where a clock went backwards."""
        return (self.now - moment).total_seconds()


@dataclass(frozen=True)
class Verdict:
    """Whether a study is complete, and why (or why not yet)."""

    complete: bool
    evidence: str
    """`quiet`, `ceiling` or the kind of evidence; empty while the study gathers."""
    reason: str
    proven: bool = False
    """The sender said so: results need not settle."""


def verdict(
    study: StudyRecord,
    senders: Sequence[Sender],
    now: datetime,
    settings: QuietSettings,
    peers: Mapping[str, Peer],
    known: Known = NOTHING_KNOWN,
) -> Verdict:
    """Tell whether nothing more is to be expected of this study.

    Parameters
    ----------
    senders
        Everybody who brought inputs of the study, with whether each is active now.
    peers
        Peer list: a peer's `quiet_after_s` goes before `settings.after_s`.
    known
        What was announced, required and counted, compared with what is here; how senders pause.
    """
    gathering = Gathering(study, senders, now, settings, peers, known)
    for rule in EVIDENCE:
        found = rule(gathering)
        if found is not None:
            return found
    return Verdict(complete=False, evidence="", reason=_still_waiting(gathering))


def announced_whole(gathering: Gathering) -> Verdict | None:
    """Believe the peers that made the study: all that they name is here, they name all that is here, all are done.

    Who names less than what is here vouches for a part alone; such a study becomes complete by silence.
    """
    announced = gathering.announced
    vouching, coverage = announced.vouching, announced.coverage
    if not vouching or announced.in_progress or coverage.missing or coverage.unnamed_inputs or not coverage.named:
        return None
    who = _listed(_who(each) for each in vouching)
    steps = any(each.kind is AnnouncementKind.PROCEDURE_STEP for each in vouching)
    said = "completed its procedure step" if steps else "gave notice of its instances"
    reason = f"{who} {said}, and all {coverage.named} that it names are here."
    return Verdict(True, "mpps" if steps else "availability", reason, proven=True)


def required_whole(gathering: Gathering) -> Verdict | None:
    """Believe the rules: what each of those that match waits for is here without gaps, and nobody is sending."""
    required = gathering.known.required
    if required is None or not required.whole or gathering.in_flight or gathering.known.missing:
        return None
    return Verdict(True, "required series", required.reason, proven=True)


def counted_whole(gathering: Gathering) -> Verdict | None:
    """Believe an archive that has, twice the same, just what is here, while nobody is sending."""
    if gathering.in_flight or gathering.known.missing:
        return None
    for counted in gathering.known.counted:
        if counted.proven:
            reason = f"{counted.peer} was asked twice and has the same {counted.images} images that are here."
            return Verdict(True, "counts", reason, proven=True)
    return None


def ceiling(gathering: Gathering) -> Verdict | None:
    """Take the study as it stands after the longest time that gathering may last."""
    at_most_s = gathering.settings.at_most_s
    if gathering.since_s(gathering.study.gathering_since) < at_most_s:
        return None
    busy = [sender.peer for sender in gathering.senders if sender.active]
    still = f" {_listed(busy)} had not stopped sending." if busy else ""
    acquiring = gathering.announced.in_progress
    still += f" {_listed(acquiring)} had a procedure step in progress." if acquiring else ""
    reason = f"Taken as it stands after {_seconds(at_most_s)} of gathering.{still}{_premature(gathering)}"
    return Verdict(True, "ceiling", reason)


def quiet(gathering: Gathering) -> Verdict | None:
    """Conclude from silence: every sender is inactive, has been quiet for its time, and acquires no more."""
    if any(sender.active for sender in gathering.senders) or _missing_s(gathering) > 0:
        return None
    if gathering.announced.in_progress or gathering.expects_more:
        return None
    since = _seconds(gathering.since_s(gathering.study.last_instance_at))
    reason = f"No image for {since}, and nobody is sending this study.{_premature(gathering)}"
    return Verdict(True, "quiet", reason)


#: Kinds of evidence, the first that speaks decides.
EVIDENCE: tuple[Callable[[Gathering], Verdict | None], ...] = (
    announced_whole,
    required_whole,
    counted_whole,
    ceiling,
    quiet,
)


def may_be_due(
    study: StudyRecord,
    now: datetime,
    settings: QuietSettings,
    peers: Mapping[str, Peer],
    announcements: Sequence[Announcement] = (),
    *,
    required_images: int | None = None,
    is_counted: bool = False,
) -> bool:
    """Tell cheaply whether asking for a verdict can lead to a decision: neither senders nor instances are looked up.

    Parameters
    ----------
    required_images
        Images without which no rule has the series that it waits for; None: no rule waits for any.
    is_counted
        An archive has what is here.
    """
    if (now - study.gathering_since).total_seconds() >= settings.at_most_s:
        return True
    if any(each.state is AnnouncementState.IN_PROGRESS for each in announcements):
        return False
    if announcements and study.number_of_instances >= max(each.number_named for each in announcements):
        return True
    since_last_s = (now - study.last_instance_at).total_seconds()
    if since_last_s >= STILL_S and (
        is_counted or (required_images is not None and study.number_of_inputs >= required_images)
    ):
        return True
    shortest_s = min([settings.after_s, *(peer.quiet_after_s for peer in peers.values() if peer.quiet_after_s)])
    return since_last_s >= shortest_s


def next_look_s(
    studies: Iterable[StudyRecord],
    now: datetime,
    settings: QuietSettings,
    peers: Mapping[str, Peer],
    *,
    at_most_s: float,
) -> float:
    """Give the seconds until the next look: to when a silence is long enough, if that comes first."""
    quiet = {settings.after_s, *(peer.quiet_after_s for peer in peers.values() if peer.quiet_after_s)}
    missing = [after_s - (now - study.last_instance_at).total_seconds() for study in studies for after_s in quiet]
    return min([at_most_s, *(each + _AFTERWARDS_S for each in missing if each > 0)])


def settle_until(
    study: StudyRecord, senders: Sequence[Sender], peers: Mapping[str, Peer], *, settle_s: float, at_once: bool
) -> datetime:
    """Tell until when results stay here, since no PACS can delete a superseded report.

    Parameters
    ----------
    settle_s
        For senders whose peer says nothing itself and is not on this machine.
    at_once
        Nothing settles: completeness rests on evidence, or somebody waits for the results.
    """
    if at_once:
        return study.last_instance_at
    waits = [_settle_s(peers.get(sender.peer), settle_s) for sender in senders] or [settle_s]
    return study.last_instance_at + timedelta(seconds=max(waits))


def _settle_s(peer: Peer | None, otherwise_s: float) -> float:
    if peer is None:
        return otherwise_s
    if peer.settle_s is not None:
        return peer.settle_s
    return min(LOCAL_SETTLE_S, otherwise_s) if peer.is_local else otherwise_s


def _quiet_after_s(peer: Peer | None, settings: QuietSettings) -> float:
    return peer.quiet_after_s if peer is not None and peer.quiet_after_s is not None else settings.after_s


def _missing_s(gathering: Gathering) -> float:
    """Seconds of silence that are still missing; at most 0: none."""
    missing = [
        gathering.quiet_after_s(sender) - gathering.since_s(sender.last_instance_at) for sender in gathering.senders
    ]
    # The last instance counts also where its sender is not listed (yet): study and senders are read apart.
    quickest_s = min((gathering.quiet_after_s(sender) for sender in gathering.senders), default=None)
    after_s = gathering.settings.after_s if quickest_s is None else quickest_s
    missing.append(after_s - gathering.since_s(gathering.study.last_instance_at))
    return max(missing)


def _premature(gathering: Gathering) -> str:
    """Say what is known to be expected still; the study reopens when it comes."""
    coverage = gathering.announced.coverage
    missing = []
    if coverage.missing:
        missing.append(f"{coverage.missing} of {coverage.named} announced instances are not here.")
    missing += [
        f"{each.peer} has {each.missing} images of these series that are not here."
        for each in gathering.known.counted
        if each.missing
    ]
    return f" Premature: {' '.join(missing)}" if missing else ""


def _who(announcement: Announcement) -> str:
    return announcement.calling_ae_title or announcement.peer


def _still_waiting(gathering: Gathering) -> str:
    busy = [sender.peer for sender in gathering.senders if sender.active]
    if busy:
        return f"Waiting: {_listed(busy)} may still be sending."
    if gathering.announced.in_progress and _missing_s(gathering) <= 0:
        return f"Waiting: {_listed(gathering.announced.in_progress)} has a procedure step in progress."
    if gathering.expects_more and _missing_s(gathering) <= 0:
        return f"Waiting: {gathering.known.missing} images that are known to exist are not here."
    return f"Waiting for {_seconds(_missing_s(gathering))} more without an image."


def _listed(peers: Iterable[str]) -> str:
    return ", ".join(sorted({peer or "a sender without a name" for peer in peers}))


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 10 else f"{value:.1f} s"
