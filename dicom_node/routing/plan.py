"""What follows once a study is complete: its decision, with one job for each engine that a rule asks for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from configs.peers import Peer
from configs.routes import Priority, Route
from dicom_node.routing.completion import Verdict, settle_until
from dicom_node.routing.destinations import kept_only, resolve
from dicom_node.routing.facts import StudyFacts
from dicom_node.routing.identity import differing, quarantine_reason
from dicom_node.routing.rules import Match, evaluate
from storage.records import Decision, NewJob, Onward, StudyRecord, StudyState, WantedPriors


@dataclass(frozen=True)
class Ruling:
    """What the site has laid down."""

    routes: Sequence[Route]
    peers: Mapping[str, Peer]
    engines: Collection[str]
    """Names of engines that are installed and enabled."""
    settle_s: float
    """Seconds that results settle where the sender's peer says nothing itself."""
    priorities: Mapping[str, Priority] = field(default_factory=dict)
    """Who else says how urgent the study is, and what they say."""
    fetched_from: str = ""
    """The peer from which the node fetched the study as a prior; empty: somebody sent it."""


@dataclass(frozen=True)
class Plan:
    """A decision, and where it takes the study."""

    decision: Decision
    to: StudyState
    reason: str


def plan(
    study: StudyRecord,
    verdict: Verdict,
    facts: StudyFacts,
    patients: Sequence[tuple[str, ...]],
    ruling: Ruling,
    *,
    decided_at: datetime,
) -> Plan:
    """Decide what becomes of a complete study.

    Parameters
    ----------
    patients
        Distinct patient keys of the study's inputs.
    decided_at
        Inputs received until then are those of this decision.
    """
    different = differing(patients)
    routes = () if different or ruling.fetched_from else ruling.routes
    evaluation = evaluate(routes, facts)
    drafts = [_job(match, study, verdict, facts, ruling) for match in evaluation.matches if match.route.engine]
    notes = {job.route: note for job, note in drafts if note}
    decision = Decision(
        study_instance_uid=study.study_instance_uid,
        decision_number=study.decision_number + 1,
        input_version=study.input_version,
        evidence=verdict.evidence,
        reason=verdict.reason,
        decided_at=decided_at,
        routes=tuple(
            replace(outcome, reason=" ".join(filter(None, (outcome.reason, notes.get(outcome.route)))))
            for outcome in evaluation.outcomes
        ),
        jobs=tuple(job for job, _ in drafts),
        priors=tuple(
            WantedPriors(match.route.name, match.route.priors.model_dump_json(by_alias=True))
            for match in evaluation.matches
            if match.route.priors is not None
        ),
        onward=_onward(evaluation.matches, ruling.peers),
    )
    if different:
        return Plan(decision, StudyState.QUARANTINED, quarantine_reason(different))
    if ruling.fetched_from:
        return Plan(decision, StudyState.UNMATCHED, _kept_as_prior(ruling.fetched_from))
    return _outcome(decision, list(notes.values()))


def as_far_as_kept(planned: Plan, expired: int) -> Plan:
    """Have a study that retention took images of not be analysed by the rest: a result on part of it would mislead.

    `expired`: inputs that were removed and did not come again.
    """
    if not expired or not planned.decision.jobs:
        return planned
    images = "1 image was" if expired == 1 else f"{expired} images were"
    reason = f"{images} removed by retention: send the whole study again to have it analysed anew."
    return Plan(replace(planned.decision, jobs=()), StudyState.UNMATCHED, reason)


def _onward(matches: Sequence[Match], peers: Mapping[str, Peer]) -> tuple[Onward, ...]:
    """Name who gets the originals, each once, by the first rule that says so."""
    found: dict[str, Onward] = {}
    for route in (match.route for match in matches):
        for name in route.originals_to:
            title = peers[name].ae_title if name in peers else ""
            found.setdefault(name, Onward(route.name, name, "" if title == "*" else title))
    return tuple(found.values())


def _job(match: Match, study: StudyRecord, verdict: Verdict, facts: StudyFacts, ruling: Ruling) -> tuple[NewJob, str]:
    """Draft one job, and say what its destinations lack."""
    route = match.route
    priority = min([route.priority, *ruling.priorities.values()], key=lambda each: each.rank)
    destinations = resolve(route.deliver_to, facts.senders, ruling.peers)
    engine = route.engine or ""
    job = NewJob(
        engine=engine,
        route=route.name,
        task=route.task,
        series_instance_uids=match.series_instance_uids,
        selection=route.series,
        deliver_to=destinations.names,
        deliver_refusals=route.deliver_refusals,
        settle_until=settle_until(
            study,
            facts.senders,
            ruling.peers,
            settle_s=ruling.settle_s,
            at_once=verdict.proven or priority is Priority.STAT,
        ),
        waiting_for_engine=engine not in ruling.engines,
        priority=priority,
        at_most_per_hour=route.at_most_per_hour,
    )
    return job, kept_only(destinations.without_deliver, ruling.peers)


def _outcome(decision: Decision, notes: Sequence[str]) -> Plan:
    running = [job for job in decision.jobs if not job.waiting_for_engine]
    waiting = [job for job in decision.jobs if job.waiting_for_engine]
    onward = " ".join(
        f'Rule "{each.route}" has the originals sent on to {each.destination}.' for each in decision.onward
    )
    waits = " ".join(
        f'Rule "{job.route}" asks for {job.engine}, which is not installed or not enabled; '
        "once it is: dicom-node rerun --waiting."
        for job in waiting
    )
    if running:
        said = ", ".join(f'{job.engine} by rule "{job.route}"{_urgency(job)}' for job in running)
        return Plan(
            decision,
            StudyState.ANALYSING,
            _sentences(decision.reason, f"Being analysed: {said}.", waits, *notes, onward),
        )
    if waiting:
        return Plan(decision, StudyState.WAITING_FOR_ENGINE, _sentences(waits, *notes, onward))
    if decision.onward:
        return Plan(decision, StudyState.UNMATCHED, f"{onward} No rule that matches asks for an engine.")
    return Plan(decision, StudyState.UNMATCHED, _unmatched(decision))


def _urgency(job: NewJob) -> str:
    return "" if job.priority is Priority.ROUTINE else f" ({job.priority.value})"


def _kept_as_prior(peer: str) -> str:
    return (
        f"Kept as an earlier study that a rule asked for, fetched from {peer}; not analysed unless somebody sends it."
    )


def _unmatched(decision: Decision) -> str:
    if not decision.routes:
        return "No rule matched: routes.yaml has no rule."
    return f"No rule matched. {' '.join(f'{outcome.route}: {outcome.reason}' for outcome in decision.routes)}"


def _sentences(*parts: str) -> str:
    return " ".join(dict.fromkeys(part for part in parts if part))
