"""Which rules of `routes.yaml` hold for a study, and for those that do not: which term failed on what.

A rule holds for a study when all of its conditions hold for one series; its job gets exactly these series.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from configs.patterns import found_in
from configs.routes import (
    SENDER_TERMS,
    AllOf,
    AnyOf,
    AnyValue,
    Condition,
    Has,
    Matches,
    Not,
    Present,
    Route,
    Scalar,
    Term,
    Within,
)
from dicom_node.routing.facts import Attribute, SeriesFacts, StudyFacts, number_of
from storage.records import RouteOutcome

#: Attributes whose values may be shown: they say how an image was made, never of whom, by whom or when.
#: Free text (descriptions, protocol names, comments) is left out: people write names into it.
SHOWN = SENDER_TERMS | frozenset(
    {
        "AcquisitionType",
        "BitsAllocated",
        "BitsStored",
        "BodyPartExamined",
        "BurnedInAnnotation",
        "Columns",
        "ConvolutionKernel",
        "EchoTime",
        "FilterType",
        "ImageLaterality",
        "ImageType",
        "KVP",
        "Laterality",
        "LossyImageCompression",
        "MRAcquisitionType",
        "MagneticFieldStrength",
        "Manufacturer",
        "ManufacturerModelName",
        "Modality",
        "NumberOfFrames",
        "PatientPosition",
        "PhotometricInterpretation",
        "PixelSpacing",
        "PresentationIntentType",
        "ReconstructionDiameter",
        "RepetitionTime",
        "Rows",
        "SOPClassUID",
        "SamplesPerPixel",
        "ScanOptions",
        "ScanningSequence",
        "SequenceVariant",
        "SliceThickness",
        "SpacingBetweenSlices",
        "ViewPosition",
    }
)

_REASONS_SHOWN = 3
_LONGEST_VALUE = 64


@dataclass(frozen=True)
class Answer:
    """What one condition said of one series."""

    holds: bool
    reason: str
    """The term that decided, and the value found."""


@dataclass(frozen=True)
class Match:
    """One rule that holds, and for which series."""

    route: Route
    series_instance_uids: tuple[str, ...]


@dataclass(frozen=True)
class Evaluation:
    """What all rules said of one study."""

    outcomes: tuple[RouteOutcome, ...]
    """One for every rule, in the order of `routes.yaml`."""
    matches: tuple[Match, ...]
    """At most one for each engine, and every rule that matches without one."""


def evaluate(routes: Sequence[Route], facts: StudyFacts) -> Evaluation:
    """Find the first matching rule of each engine and all that ask for none, and explain every rule."""
    outcomes: list[RouteOutcome] = []
    matches: list[Match] = []
    taken: dict[str, Match] = {}
    for route in routes:
        if route.engine in taken:
            reason = f'Not tried: rule "{taken[route.engine].route.name}" already gives this study to {route.engine}.'
            outcomes.append(RouteOutcome(route.name, route.engine, matched=False, reason=reason))
            continue
        answers = [(series, holds(route.when, facts, series)) for series in facts.series]
        matched = tuple(series.series_instance_uid for series, answer in answers if answer.holds)
        if matched:
            matches.append(Match(route, matched))
            if route.engine is not None:
                taken[route.engine] = matches[-1]
        reason = _summary([answer for _, answer in answers])
        outcomes.append(RouteOutcome(route.name, route.engine or "", matched=bool(matched), reason=reason))
    return Evaluation(tuple(outcomes), tuple(matches))


def holds(condition: Condition, facts: StudyFacts, series: SeriesFacts) -> Answer:
    """Tell whether a condition holds for one series, and which term decided."""
    match condition:
        case AllOf(conditions):
            answers = [holds(part, facts, series) for part in conditions]
            return next((answer for answer in answers if not answer.holds), Answer(True, "every term holds"))
        case AnyOf(conditions):
            answers = [holds(part, facts, series) for part in conditions]
            none_holds = Answer(False, " and ".join(answer.reason for answer in answers) or "the list of any is empty")
            return next((answer for answer in answers if answer.holds), none_holds)
        case Not(part):
            answer = holds(part, facts, series)
            return Answer(
                not answer.holds, f"{answer.reason}, which the rule excludes" if answer.holds else answer.reason
            )
        case Term(name, _):
            return _term(condition, facts.attribute(series, name))


def _term(term: Term, found: Attribute) -> Answer:
    if isinstance(term.operator, Present):
        return Answer(
            found.present == term.operator.present, f"{term.name} is {'present' if found.present else 'absent'}"
        )
    if not found.present:
        return Answer(False, f"{term.name} is absent")
    if not found.comparable:
        return Answer(False, f"{term.name} has no value that can be compared")
    match term.operator:
        case AnyValue(values):
            held = any(_equal(text, value, found) for text in found.values for value in values)
            asked = " or ".join(str(value) for value in values)
        case Has(value):
            held = any(_equal(text, value, found) for text in found.values)
            asked = f"{value} among them"
        case Matches(pattern):
            held = any(found_in(pattern, text) for text in found.values)
            asked = f"what matches {pattern}"
        case Within(minimum, maximum):
            held = all(_within(text, minimum, maximum) for text in found.values)
            asked = _range(minimum, maximum)
    return Answer(held, _said(term.name, found, "" if held else asked))


def _equal(text: str, value: Scalar, found: Attribute) -> bool:
    """Compare one value of the attribute with one of the rule.

    Numbers as numbers (1.25 is 1.250), text without regard to case, `*` and `?` standing for anything.
    Of an attribute with several values any may be meant; of several in the rule, any may hold.
    """
    wanted = number_of(str(value)) if found.numeric or not isinstance(value, str) else None
    if wanted is not None or not isinstance(value, str):
        return wanted is not None and number_of(text) == wanted
    # Only * and ? are special: brackets stand for themselves.
    return fnmatchcase(text.casefold(), value.strip().casefold().replace("[", "[[]"))


def _within(text: str, minimum: float | None, maximum: float | None) -> bool:
    number = number_of(text)
    if number is None:
        return False
    return (minimum is None or number >= minimum) and (maximum is None or number <= maximum)


def _range(minimum: float | None, maximum: float | None) -> str:
    bounds = [] if minimum is None else [f"at least {minimum:g}"]
    return " and ".join(bounds if maximum is None else [*bounds, f"at most {maximum:g}"])


def _said(name: str, found: Attribute, asked: str) -> str:
    if name not in SHOWN:
        return f"{name} has another value" if asked else f"{name} has the value asked for"
    text = _printable("\\".join(found.values))
    return f"{name} is {text}" + (f", the rule asks for {asked}" if asked else "")


def _printable(text: str) -> str:
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _summary(answers: Sequence[Answer]) -> str:
    """Say in one sentence what a rule said of all series."""
    if not answers:
        return "The study has no image to look at."
    matching = sum(answer.holds for answer in answers)
    if matching:
        return f"Matches {matching} of {len(answers)} series."
    reasons = Counter(answer.reason for answer in answers).most_common()
    said = [reason if len(answers) == 1 else f"{reason} ({number} series)" for reason, number in reasons]
    more = [f"{len(said) - _REASONS_SHOWN} further reasons"] if len(said) > _REASONS_SHOWN else []
    return f"{'; '.join([*said[:_REASONS_SHOWN], *more])}."
