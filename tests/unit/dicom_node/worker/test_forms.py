from __future__ import annotations

import pytest

from dicom_node.worker.forms import choose
from tests.builders.stage import make_delivery


@pytest.mark.parametrize(
    ("kinds", "send", "sent", "problem"),
    [
        (("seg", "sr"), ("sr", "seg"), ["seg", "sr"], ""),
        (("sr", "seg"), ("sr", "seg", "summary"), ["seg", "sr"], ""),
        (("seg", "sr"), ("seg",), ["seg"], ""),
        (("sr",), ("sr",), ["sr"], ""),
        (("seg", "sr"), ("sr",), [], "pacs takes no SEG, and a report without its outlines is not available yet."),
        (("seg", "sr"), ("summary",), [], "pacs takes summary; this form is not available yet."),
        (("sr",), ("seg",), [], "pacs takes SEG; this form is not available yet."),
    ],
)
def test_a_destination_gets_what_it_takes_and_no_dangling_reference(
    kinds: tuple[str, ...], send: tuple[str, ...], sent: list[str], problem: str
) -> None:
    choice = choose(make_delivery(*kinds).items, send, "pacs")
    assert [item.kind for item in choice.items] == sent
    assert choice.problem.startswith(problem)
    assert bool(choice.problem) == bool(problem)
    assert len(choice.items) + len(choice.left_out) == len(kinds)
