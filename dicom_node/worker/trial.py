"""Rules tried on a study without any effect: which matches, which term failed on what, and what would follow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread

from configs.errors import ConfigError
from configs.peers import Peer
from configs.routes import Route
from dicom_node.routing.destinations import resolve
from dicom_node.routing.facts import SeriesFacts, StudyFacts, attribute_of
from dicom_node.routing.identity import differing, quarantine_reason
from dicom_node.routing.required import required
from dicom_node.routing.rules import Match, evaluate, holds
from dicom_node.worker.evidence import facts_of, gap_of
from dicom_node.worker.sources import UNREADABLE_HEADER, by_series
from inference.engines.protocol import SeriesNeeds
from inference.errors import UnsuitableStudy
from inference.series import CandidateSeries, choose_series
from storage.blobs import BlobStore
from storage.index import Index
from storage.records import EVERYTHING, InstanceRecord, Sender, StudyFilter

#: Files of a folder that are looked at.
_MOST_FILES = 50_000
#: Kept apart from images: they are never analysed. Source: PS3.3 C.7.3.1.1.1 (Modality).
_DOCUMENTS = frozenset(
    {"SR", "KO", "PR", "SEG", "DOC", "REG", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "PLAN", "AU"}
)


@dataclass(frozen=True)
class Site:
    """What rules are tried against."""

    routes: Sequence[Route]
    peers: Mapping[str, Peer]
    engines: Mapping[str, SeriesNeeds]
    """What each engine that is installed and enabled can read."""


def try_kept(uid: str, site: Site, index: Index, blobs: BlobStore, visible: StudyFilter = EVERYTHING) -> dict[str, Any]:
    """Try the rules on a kept study.

    Raises
    ------
    NotKept
        There is no such study, or the asker may not see it.
    """
    study = index.study(uid, visible)
    inputs = index.inputs_of(uid)
    senders = index.senders_of(uid, now=study.last_instance_at, idle_after_s=0.0)
    groups = by_series(inputs)
    images = {name: sum(each.number_of_frames for each in group) for name, group in groups.items()}
    facts = facts_of(uid, senders, inputs, blobs)
    different = differing(index.patients_of(uid))
    return _tried(site, facts, images) | {
        "quarantine": quarantine_reason(different) if different else "",
        "required_series": _required(site, facts, images, groups, blobs),
    }


def _required(
    site: Site,
    facts: StudyFacts,
    images: Mapping[str, int],
    groups: Mapping[str, Sequence[InstanceRecord]],
    blobs: BlobStore,
) -> str:
    """Say what the series that rules wait for would prove."""
    found = required(site.routes, facts, images, lambda name: gap_of(groups[name], blobs))
    return "" if found is None else found.reason


def try_folder(folder: Path, site: Site, senders: Sequence[Sender] = ()) -> list[dict[str, Any]]:
    """Try the rules on the studies of a folder of DICOM files, as if `senders` had sent them.

    Raises
    ------
    ConfigError
        The folder holds no DICOM image.
    """
    studies: dict[str, dict[str, list[Dataset]]] = {}
    for header in _headers(folder):
        series = studies.setdefault(str(header.get("StudyInstanceUID") or ""), {})
        series.setdefault(str(header.get("SeriesInstanceUID") or ""), []).append(header)
    if not studies:
        raise ConfigError(f"{folder} holds no DICOM image.")
    tried = []
    for uid, groups in studies.items():
        facts = StudyFacts(uid, senders, tuple(SeriesFacts(name, group[0]) for name, group in groups.items()))
        images = {name: sum(_frames(each) for each in group) for name, group in groups.items()}
        tried.append(_tried(site, facts, images) | {"quarantine": "", "required_series": ""})
    return tried


def _headers(folder: Path) -> Iterator[Dataset]:
    files = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files[:_MOST_FILES]:
        try:
            header = dcmread(path, stop_before_pixels=True)
        except UNREADABLE_HEADER:
            continue
        if "Rows" in header and str(header.get("Modality") or "") not in _DOCUMENTS:
            yield header


def _frames(header: Dataset) -> int:
    (text, *_) = attribute_of(header, "NumberOfFrames").values or ("1",)
    return max(1, int(text)) if text.isdigit() else 1


def _tried(site: Site, facts: StudyFacts, images: Mapping[str, int]) -> dict[str, Any]:
    evaluation = evaluate(site.routes, facts)
    matches = {match.route.name: match for match in evaluation.matches}
    by_name = {route.name: route for route in site.routes}
    return {
        "study_instance_uid": facts.study_instance_uid,
        "rules": [
            {
                "rule": outcome.route,
                "engine": outcome.engine,
                "matched": outcome.matched,
                "reason": outcome.reason,
                "series": [_series(by_name[outcome.route], facts, series, images) for series in facts.series],
                "follows": _follows(matches[outcome.route], site, facts, images) if outcome.matched else "",
            }
            for outcome in evaluation.outcomes
        ],
    }


def _series(route: Route, facts: StudyFacts, series: SeriesFacts, images: Mapping[str, int]) -> dict[str, Any]:
    answer = holds(route.when, facts, series)
    named = attribute_of(series.header, "SeriesNumber").values if series.header is not None else ()
    return {
        "series_instance_uid": series.series_instance_uid,
        "series_number": named[0] if named else "",
        "images": images.get(series.series_instance_uid, 0),
        "holds": answer.holds,
        "reason": f"{answer.reason}.",
    }


def _follows(match: Match, site: Site, facts: StudyFacts, images: Mapping[str, int]) -> str:
    """Say what a rule that matches leads to: the series that is read, where results go, how urgent it is."""
    route = match.route
    onward = f"The originals go to {', '.join(route.originals_to)}." if route.originals_to else ""
    if route.engine is None:
        return f"{onward} It asks no engine."
    destinations = resolve(route.deliver_to, facts.senders, site.peers).names
    said = [f"Results go to {', '.join(destinations)}." if destinations else "Results are kept here only."]
    if route.priority.value != "routine":
        said.append(f"Urgency: {route.priority.value}.")
    if route.priors is not None:
        said.append(f"Earlier studies are asked for: {', '.join(route.priors.sources)}.")
    if onward:
        said.append(onward)
    needs = site.engines.get(route.engine)
    if needs is None:
        return " ".join([f"{route.engine} is not installed or not enabled; the study would wait for it.", *said])
    candidates = [
        CandidateSeries(series.series_instance_uid, series.header, images.get(series.series_instance_uid, 0))
        for series in facts.series
        if series.series_instance_uid in match.series_instance_uids and series.header is not None
    ]
    if route.series != "best":
        return " ".join([f"{route.engine} looks at each of {len(candidates)} series.", *said])
    try:
        chosen = choose_series(candidates, needs)
    except UnsuitableStudy as error:
        return " ".join([f"{route.engine} would decline: {error}", *said])
    number = chosen.header.get("SeriesNumber")
    return " ".join([f"{route.engine} reads series {number or chosen.series_instance_uid}.", *said])


def as_lines(tried: Mapping[str, Any]) -> list[str]:
    """Give what a trial said as lines of text."""
    lines = [f"Study {tried['study_instance_uid']}"]
    lines += [tried[key] for key in ("quarantine", "required_series") if tried[key]]
    for rule in tried["rules"]:
        matches = "MATCHES" if rule["matched"] else "no     "
        lines.append(f"{matches}  {rule['rule']} -> {rule['engine'] or 'no engine'}: {rule['reason']}")
        for series in rule["series"]:
            name = series["series_number"] or series["series_instance_uid"]
            lines.append(
                f"    series {name} ({series['images']} images): {'holds' if series['holds'] else 'fails'}: "
                f"{series['reason']}"
            )
        if rule["follows"]:
            lines.append(f"    then: {rule['follows']}")
    return lines if tried["rules"] else [*lines, "There is no rule."]
