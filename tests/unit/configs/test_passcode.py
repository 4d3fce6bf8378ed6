from __future__ import annotations

import pytest

from configs.passcode import hash_passcode, is_hash, matches


def test_a_passcode_matches_its_own_hash_alone() -> None:
    hashed = hash_passcode("open sesame")
    assert matches(b"open sesame", hashed)
    assert not matches(b"open sesame ", hashed)
    assert not matches(b"", hashed)
    assert "sesame" not in hashed


def test_the_same_passcode_is_hashed_differently_each_time() -> None:
    assert hash_passcode("a") != hash_passcode("a")


@pytest.mark.parametrize("text", ["", "open sesame", "scrypt$00$11", "scrypt$" + "g" * 32 + "$" + "0" * 64])
def test_what_is_no_hash_matches_nothing(text: str) -> None:
    assert not is_hash(text)
    assert not matches(text.encode(), text)
