from __future__ import annotations

import re
from pathlib import Path

VERSIONS = Path(__file__).parents[3] / "storage" / "migrations" / "versions"
REVISION = re.compile(r'^revision = "(\d{4})"$', re.MULTILINE)
BEFORE = re.compile(r"^down_revision = (?:\"(\d{4})\"|None)$", re.MULTILINE)


def test_migrations_form_one_line_in_the_order_of_their_names() -> None:
    texts = {path.name: path.read_text() for path in sorted(VERSIONS.glob("*.py"))}
    said = [(REVISION.findall(text), BEFORE.findall(text)) for text in texts.values()]
    numbers = [f"{number:04}" for number in range(1, len(texts) + 1)]
    assert said == [([number], [before]) for number, before in zip(numbers, ["", *numbers], strict=False)]
    assert [name[:4] for name in texts] == numbers
