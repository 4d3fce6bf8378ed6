"""Which result sets a destination gets. Each set stays closed under references."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from configs.peers import Deliver, Peer
from inference.findings import Findings
from inference.results.forms import CANONICAL, IN_WORDS, OUTLINES_CLASS, REPORT_CLASS, Form, Outlines, Report

T = TypeVar("T", Outlines, Report)

#: Sets of one object that refers to images alone, by the word of `deliver.send`.
_COMPANIONS = {
    "text": Form("none", "basic-text"),
    "capture": Form("capture", "none"),
    "summary": Form("none", "summary"),
    "pdf": Form("none", "pdf"),
}


def forms_of(deliver: Deliver, refused: Collection[str] = ()) -> tuple[Form, ...]:
    """Give the forms that a peer's `deliver` asks for, the main one first.

    A report names the segmentation of its own set, so that one without segmentation is another set.

    Parameters
    ----------
    refused
        SOP Classes that the peer is known not to take: the next form of the chain goes in their place. Where it
        would take none at all, the first is tried again.
    """
    main = Form("none", "none")
    if "seg" in deliver.send:
        main = Form(_first(deliver.outlines, OUTLINES_CLASS, refused), main.report)
    if "sr" in deliver.send:
        main = Form(main.outlines, _first(deliver.report, REPORT_CLASS, refused))
    if main == Form("none", "none") and {"seg", "sr"}.intersection(deliver.send):
        main = Form(
            deliver.outlines[0] if "seg" in deliver.send else "none",
            deliver.report[0] if "sr" in deliver.send else "none",
        )
    mains = [main] if main != Form("none", "none") else []
    return (*mains, *(form for word, form in _COMPANIONS.items() if word in deliver.send))


def _first(chain: Sequence[T], classes: Mapping[T, str], refused: Collection[str]) -> T | Literal["none"]:
    return next((each for each in chain if classes[each] not in refused), "none")


@dataclass(frozen=True)
class Instead:
    """What goes to a destination in place of what it did not take."""

    form: Form
    said: str
    """`SEG; sent secondary capture instead`."""


def instead(
    form: Form, kind: str, deliver: Deliver, refused: Collection[str], *, rest_accepted: bool
) -> Instead | None:
    """Choose the set that goes after one object of a set was refused; None: nothing is left to try.

    Parameters
    ----------
    kind
        What was refused of `form`.
    refused
        SOP Classes that the peer is known not to take.
    rest_accepted
        Something of the set is there already: it stays, and the new set names nothing of it.
    """
    outlines: Outlines = "none" if rest_accepted else form.outlines
    report: Report = form.report
    if kind == form.outlines_kind:
        former: Outlines | Report = form.outlines
        outlines = _first(_after(form.outlines, deliver.outlines), OUTLINES_CLASS, refused)
        then: Outlines | Report = outlines
    elif kind == form.report_kind:
        former = form.report
        report = _first(_after(form.report, deliver.report), REPORT_CLASS, refused)
        then = report
    else:
        return None
    if (outlines, report) == ("none", "none"):
        return None
    sent = f"sent {IN_WORDS[then]} instead" if then != "none" else "it is left out"
    return Instead(Form(outlines, report), f"{IN_WORDS[former]}; {sent}")


def _after(form: T, chain: Sequence[T]) -> Sequence[T]:
    """Give what comes after a form in a chain; nothing where it does not stand there."""
    return chain[chain.index(form) + 1 :] if form in chain else ()


def destinations_by_form(
    destinations: Sequence[str],
    peers: Mapping[str, Peer],
    findings: Findings,
    refused_by: Callable[[str], Collection[str]] = lambda _: (),
) -> dict[Form, tuple[str, ...]]:
    """Say which destinations get which set; forms that would be empty are left out.

    A destination that is not in the peer list, or has no `deliver`, is asked to take the canonical set: its
    delivery then says what is missing.

    Parameters
    ----------
    refused_by
        Gives the SOP Classes that a destination is known not to take.
    """
    shown = any(segment.mask.any() for segment in findings.segments)
    marked = any(group.location is not None for group in findings.groups)
    found: dict[Form, list[str]] = {}
    for name in destinations:
        peer = peers.get(name)
        deliver = peer.deliver if peer is not None else None
        for form in forms_of(deliver, refused_by(name)) if deliver is not None else (CANONICAL,):
            empty = form.report == "none" and not (shown or (marked and form.outlines == "capture"))
            if not empty:
                found.setdefault(form, []).append(name)
    return {form: tuple(names) for form, names in found.items()}
