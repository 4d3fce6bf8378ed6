"""The conformance statement is what the code's tables say."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.conformance import services, statement
from dicom_node.scp import contexts
from dicom_node.scp.contexts import SERVICE_CLASSES, TRANSFER_SYNTAXES

COMMITTED = Path(__file__).parents[3] / "CONFORMANCE.md"


def test_the_committed_statement_is_the_generated_one() -> None:
    assert COMMITTED.read_text("utf-8") == statement(), "run: make conformance"


def test_the_statement_names_every_served_class_and_every_transfer_syntax() -> None:
    text = statement()
    assert all(uid in text for uid in (*SERVICE_CLASSES, *TRANSFER_SYNTAXES))


def test_every_served_service_says_its_statuses() -> None:
    assert set(services.SERVED) >= {*SERVICE_CLASSES.values(), "store"}


def test_a_class_that_is_served_anew_changes_the_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    before = statement()
    monkeypatch.setitem(contexts.SERVICE_CLASSES, "1.2.840.10008.5.1.1.40.1", "store")
    assert statement() != before
