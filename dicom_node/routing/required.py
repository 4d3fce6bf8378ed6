"""Whether the series that rules wait for are here. Pure: whether a series has gaps is asked of the caller."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from configs.routes import RequiredSeries, Route
from dicom_node.routing.completion import Required
from dicom_node.routing.facts import StudyFacts
from dicom_node.routing.rules import Match, evaluate, holds


def required(
    routes: Sequence[Route], facts: StudyFacts, images: Mapping[str, int], gap_in: Callable[[str], str]
) -> Required | None:
    """Tell whether every rule that matches has the series that it waits for.

    Parameters
    ----------
    images
        Series Instance UID → images that are here.
    gap_in
        Says what is missing of a series; empty: nothing.

    Returns
    -------
    Required | None
        None: no rule matches, or one that does says of no series that it waits for it. Silence must decide.
    """
    matches = evaluate(routes, facts).matches
    if not matches or not all(match.route.requires for match in matches):
        return None
    lacking = [
        said for match in matches for wanted in match.route.requires if (said := _lacks(wanted, facts, images, gap_in))
    ]
    if lacking:
        return Required(whole=False, reason=" ".join(dict.fromkeys(lacking)))
    return Required(whole=True, reason=f"{_named(matches)} here without gaps.")


def least_images(routes: Sequence[Route]) -> int | None:
    """How many images must be here before any rule can have what it waits for; None: no rule waits for a series."""
    waiting = [max(wanted.images for wanted in route.requires) for route in routes if route.requires]
    return min(waiting, default=None)


def _lacks(wanted: RequiredSeries, facts: StudyFacts, images: Mapping[str, int], gap_in: Callable[[str], str]) -> str:
    """Say what is missing of one series that a rule waits for; empty: it is here."""
    found = [series.series_instance_uid for series in facts.series if holds(wanted.when, facts, series).holds]
    if not found:
        return "A required series is not here."
    enough = [uid for uid in found if images.get(uid, 0) >= wanted.images]
    if not enough:
        most = max(images.get(uid, 0) for uid in found)
        return f"A required series has {most} images here, {wanted.images} are needed."
    gaps = [gap_in(uid) for uid in enough]
    return "" if not all(gaps) else f"A required series has gaps: {gaps[0]}"


def _named(matches: Sequence[Match]) -> str:
    names = [f'"{match.route.name}"' for match in matches]
    if len(names) == 1:
        return f"All series that rule {names[0]} requires are"
    return f"All series that rules {', '.join(names[:-1])} and {names[-1]} require are"
