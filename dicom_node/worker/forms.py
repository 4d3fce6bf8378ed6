"""Which objects of a result set a destination gets. A set stays closed under references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from storage.records import DeliveryItem

#: Sending order: an SR never arrives before the SEG that it names.
ORDER = ("seg", "sr")


@dataclass(frozen=True)
class Choice:
    """What goes to a destination."""

    items: tuple[DeliveryItem, ...]
    """In sending order."""
    left_out: tuple[DeliveryItem, ...]
    problem: str = ""
    """Why nothing can go; empty: `items` go."""


def choose(items: Sequence[DeliveryItem], send: Sequence[str], destination: str) -> Choice:
    """Choose by the peer's `deliver.send`.

    The SR of a set names its SEG, so it goes only where the SEG goes too; a SEG stands alone, and so does
    the SR of a refusal, which has none.
    """
    kinds = {item.kind for item in items}
    wanted = kinds & set(send)
    chosen = tuple(item for kind in ORDER for item in items if item.kind == kind and kind in wanted)
    left_out = tuple(item for item in items if item not in chosen)
    if not chosen:
        return Choice((), left_out, f"{destination} takes {_said(send)}; this form is not available yet.")
    if "sr" in wanted and "seg" in kinds - wanted:
        return Choice(
            (),
            tuple(items),
            f"{destination} takes no SEG, and a report without its outlines is not available yet. "
            f"Add seg to deliver.send of {destination} in peers.yaml.",
        )
    return Choice(chosen, left_out)


def _said(send: Sequence[str]) -> str:
    return " and ".join(kind if kind == "summary" else kind.upper() for kind in send) or "nothing"
