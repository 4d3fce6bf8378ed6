from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.demo.way import Sending, spans_of, steps_of

BEGAN = datetime(2026, 1, 2, 10, 0, 0, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def said(seconds: float) -> str:
    return after(seconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")


SENDING = Sending(BEGAN, after(2), count=60)


@pytest.fixture
def arrived(tmp_path: Path) -> list[tuple[str, Path]]:
    """A SEG that the PACS wrote after 13 s, and an SR one second later."""
    files = [("SEG", tmp_path / "seg"), ("SR", tmp_path / "sr")]
    for number, (_, path) in enumerate(files):
        path.touch()
        os.utime(path, (after(13 + number).timestamp(),) * 2)
    return files


def page() -> dict[str, object]:
    def step(at: float, subject: str, state: str) -> dict[str, str]:
        return {"at": said(at), "subject": subject, "to_state": state, "reason": ""}

    return {
        "way": [step(0.1, "study", "gathering"), step(7, "study", "analysing"), step(12.9, "delivery", "sending")],
        "decisions": [{"decided_at": said(7)}],
        "jobs": [{"started_at": said(7.5), "ended_at": said(12.5)}],
    }


def test_what_modality_node_and_pacs_saw_is_one_way_in_order_of_time(arrived: list[tuple[str, Path]]) -> None:
    steps = steps_of(page(), SENDING, arrived, "PACS")
    assert [(round(step.after_s, 1), step.what, step.state) for step in steps] == [
        (0.0, "modality", "sending"),
        (0.1, "study", "gathering"),
        (2.0, "modality", "sent"),
        (7.0, "study", "analysing"),
        (12.9, "delivery", "sending"),
        (13.0, "PACS", "received"),
        (14.0, "PACS", "received"),
    ]


def test_spans_say_what_took_how_long(arrived: list[tuple[str, Path]]) -> None:
    assert {name: round(seconds, 1) for name, seconds in spans_of(page(), SENDING, arrived)} == {
        "sending the images": 2.0,
        "waiting for more images": 5.0,
        "analysis": 5.0,
        "delivery": 1.5,
        "from the last image to the PACS": 12.0,
    }


def test_what_did_not_happen_took_no_time() -> None:
    nothing = {"way": [], "decisions": [], "jobs": [{"started_at": said(7.5), "ended_at": None}]}
    assert [name for name, _ in spans_of(nothing, SENDING, [])] == ["sending the images"]
