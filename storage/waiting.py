"""What of a study waits for a person: corrections and rejection notes, decided on all together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from storage.corrections import Corrections
from storage.records import NoteState, VariantRecord
from storage.rejections import Note, Rejections


@dataclass(frozen=True)
class Waiting:
    """What waits."""

    corrections: tuple[VariantRecord, ...]
    notes: tuple[Note, ...]

    def __str__(self) -> str:
        return f"{len(self.corrections)} corrections and {len(self.notes)} rejection notes"

    def lines(self) -> list[str]:
        """Say of each what it is and why it waits."""
        said = [(each.sop_instance_uid, each.reason) for each in self.corrections]
        said += [(each.sop_instance_uid, each.reason) for each in self.notes]
        return [f"{uid}: {reason}" for uid, reason in said]


def waiting(study_instance_uid: str, corrections: Corrections, rejections: Rejections) -> Waiting:
    """Give what waits."""
    notes = [note for note in rejections.of_study(study_instance_uid) if note.state is NoteState.HELD]
    return Waiting(tuple(corrections.held(study_instance_uid)), tuple(notes))


def apply_all(found: Waiting, corrections: Corrections, rejections: Rejections, *, by: str, at: datetime) -> None:
    """Make each correction and follow each note.

    Raises
    ------
    Inapplicable
        One cannot be made; those before it are.
    """
    for variant in found.corrections:
        corrections.apply(variant, by=by, at=at)
    for note in found.notes:
        rejections.apply(note, by=by, at=at)


def refuse_all(found: Waiting, corrections: Corrections, rejections: Rejections, *, by: str, at: datetime) -> None:
    """Let the first images stay as they are."""
    for variant in found.corrections:
        corrections.refuse(variant, by=by, at=at)
    for note in found.notes:
        rejections.set_down(note, f"Refused by {by}.", at)
