"""Stories are told on paper parts: what reads pixels or builds objects is stood in for."""

from __future__ import annotations

import pytest

from tests.builders import stage as paper
from tests.builders.stage import Stage


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = Stage()
    room = "dicom_node.worker"
    monkeypatch.setattr(f"{room}.sources.read_headers", paper.paper_headers)
    monkeypatch.setattr(f"{room}.analyse.read_volume", paper.paper_volume)
    monkeypatch.setattr(f"{room}.analyse.encode_findings", paper.encode_paper_findings)
    monkeypatch.setattr(f"{room}.selections.choose_series", paper.choose_longest)
    monkeypatch.setattr(f"{room}.keeping.decode_findings", paper.decode_paper_findings)
    monkeypatch.setattr(f"{room}.keeping.frame_numbers_of", paper.no_frame_numbers)
    monkeypatch.setattr(f"{room}.keeping.build_results", made.build)
    monkeypatch.setattr(f"{room}.keeping.encode", paper.encode_paper)
    monkeypatch.setattr(f"{room}.watch.take", made.take)
    return made
