"""Which result sets a destination gets. Each set stays closed under references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from configs.peers import DeliverByDimse, Peer
from inference.findings import Findings
from inference.results.forms import CANONICAL, Form

#: Sets of one object that refers to images alone, by the word of `deliver.send`.
_COMPANIONS = {
    "text": Form("none", "basic-text"),
    "capture": Form("capture", "none"),
    "summary": Form("none", "summary"),
    "pdf": Form("none", "pdf"),
}


def forms_of(deliver: DeliverByDimse) -> tuple[Form, ...]:
    """Give the forms that a peer's `deliver` asks for, the main one first.

    A report names the segmentation of its own set, so that one without segmentation is another set.
    """
    outlines = deliver.outlines if "seg" in deliver.send else "none"
    report = deliver.report if "sr" in deliver.send else "none"
    main = [Form(outlines, report)] if (outlines, report) != ("none", "none") else []
    return (*main, *(form for word, form in _COMPANIONS.items() if word in deliver.send))


def destinations_by_form(
    destinations: Sequence[str], peers: Mapping[str, Peer], findings: Findings
) -> dict[Form, tuple[str, ...]]:
    """Say which destinations get which set; forms that would be empty are left out.

    A destination that is not in the peer list, or has no `deliver`, is asked to take the canonical set: its
    delivery then says what is missing.
    """
    shown = any(segment.mask.any() for segment in findings.segments)
    marked = any(group.location is not None for group in findings.groups)
    found: dict[Form, list[str]] = {}
    for name in destinations:
        peer = peers.get(name)
        deliver = peer.deliver if peer is not None else None
        for form in forms_of(deliver) if deliver is not None else (CANONICAL,):
            empty = form.report == "none" and not (shown or (marked and form.outlines == "capture"))
            if not empty:
                found.setdefault(form, []).append(name)
    return {form: tuple(names) for form, names in found.items()}
