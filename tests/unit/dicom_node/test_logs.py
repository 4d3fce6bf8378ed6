from __future__ import annotations

import json
import logging
import sys

from configs.errors import NodeError
from dicom_node.logs import JsonLines, TextLines


def record(message: str = "instance kept", **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"msg": message, "levelname": "INFO", "created": 1.5})
    vars(made).update(extra)
    return made


def test_a_line_has_time_level_role_sentence_and_fields() -> None:
    line = TextLines("receiver").format(record(action="kept", sop_instance_uid="1.2"))
    assert line == "1970-01-01T00:00:01.500Z INFO receiver: instance kept action=kept sop_instance_uid=1.2"


def test_a_peer_cannot_forge_a_line() -> None:
    line = TextLines("receiver").format(record(calling_ae_title="A\n2026 ERROR forged\x1b[2J"))
    assert "\n" not in line
    assert "\x1b" not in line


def test_a_foreign_exception_does_not_bring_its_values_along() -> None:
    try:
        try:
            raise ValueError("Invalid value for VR PN: 'Test^Quiet'")
        except ValueError as cause:
            raise NodeError("the header cannot be read") from cause
    except NodeError:
        made = record(exc_info=sys.exc_info())
    for line in (TextLines("worker").format(made), JsonLines("worker").format(made)):
        assert "Quiet" not in line
        assert "ValueError" in line
        assert "the header cannot be read" in line


def test_json_lines_are_json() -> None:
    line = json.loads(JsonLines("web").format(record(action="kept", number=3)))
    assert (line["role"], line["action"], line["number"]) == ("web", "kept", 3)
