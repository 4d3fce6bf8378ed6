"""Keys and the audit trail, on both databases."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import select

from storage.audit import Audit, AuditAction, AuditOutcome
from storage.database import Database
from storage.errors import KeyRefused, NotKept
from storage.keys import PERMISSIONS, Keys
from storage.peer_tables import api_keys
from storage.records import EVERYTHING, StudyFilter
from tests.builders.work import at


@pytest.fixture
def keys(database: Database) -> Keys:
    return Keys(database)


def test_a_secret_opens_its_key(keys: Keys) -> None:
    visible = StudyFilter(frozenset({"ct1"}))

    secret = keys.create("viewer.1", ["read", "console"], visible, at(0))

    key = keys.recognise(secret)
    assert re.fullmatch(r"dn_viewer\.1_[A-Za-z0-9_-]{43}", secret)
    assert key is not None
    assert (key.name, key.permissions, key.visible) == ("viewer.1", {"read", "console"}, visible)


def test_what_is_kept_does_not_hold_the_secret(keys: Keys, database: Database) -> None:
    secret = keys.create("viewer", ["read"], EVERYTHING, at(0))

    with database.read() as connection:
        row = connection.execute(select(api_keys)).one()

    assert secret.removeprefix("dn_viewer_") not in repr(tuple(row))


def test_a_wrong_secret_opens_nothing(keys: Keys) -> None:
    secret = keys.create("viewer", ["read"], EVERYTHING, at(0))

    wrong = ["", secret[:-1], secret + "A", secret.swapcase(), secret.upper(), secret[3:], f" {secret}"]
    assert [keys.recognise(one) for one in wrong] == [None] * len(wrong)


def test_the_secret_of_one_key_does_not_open_another(keys: Keys) -> None:
    drawn = keys.create("one", ["read"], EVERYTHING, at(0)).removeprefix("dn_one_")
    keys.create("two", ["read"], EVERYTHING, at(0))

    assert keys.recognise(f"dn_two_{drawn}") is None
    assert keys.recognise(f"dn_three_{drawn}") is None


def test_a_revoked_key_is_still_known(keys: Keys) -> None:
    secret = keys.create("viewer", ["read"], EVERYTHING, at(0))
    keys.revoke("viewer", at(1))
    keys.revoke("viewer", at(2))

    known = keys.recognise(secret)
    assert known is not None
    assert known.revoked_at == at(1)
    assert [key.name for key in keys.all()] == ["viewer"]


def test_a_key_keeps_when_it_expires(keys: Keys) -> None:
    lasting = keys.create("lasting", ["read"], EVERYTHING, at(0))
    short = keys.create("short", ["read"], EVERYTHING, at(0), expires_at=at(60))

    known = [keys.recognise(secret) for secret in (lasting, short)]

    assert [key.expires_at for key in known if key] == [None, at(60)]


def test_a_name_is_used_once(keys: Keys) -> None:
    keys.create("viewer", ["read"], EVERYTHING, at(0))
    keys.revoke("viewer", at(1))

    with pytest.raises(KeyRefused, match="named viewer"):
        keys.create("viewer", ["read"], EVERYTHING, at(2))


@pytest.mark.parametrize("name", ["", "a_b", "a b", "-a", "x" * 64, "ä"])
def test_names_that_a_secret_could_not_carry_are_refused(keys: Keys, name: str) -> None:
    with pytest.raises(KeyRefused):
        keys.create(name, ["read"], EVERYTHING, at(0))


def test_unknown_permissions_are_refused(keys: Keys) -> None:
    keys.create("all", PERMISSIONS, EVERYTHING, at(0))

    with pytest.raises(KeyRefused, match="no permission root"):
        keys.create("viewer", ["read", "root"], EVERYTHING, at(0))


def test_revoking_what_there_is_not_says_so(keys: Keys) -> None:
    with pytest.raises(NotKept):
        keys.revoke("none", at(0))


def test_audit_events_are_told_latest_first(database: Database) -> None:
    audit = Audit(database)
    audit.record(AuditAction.ACCESS, "viewer", "1.2", AuditOutcome.DONE, "", at(0))
    audit.record(AuditAction.KEYS, "admin", None, AuditOutcome.REFUSED, "viewer", at(1))

    latest, first = audit.events()

    assert (latest.action, latest.actor, latest.outcome, latest.at) == (
        AuditAction.KEYS,
        "admin",
        AuditOutcome.REFUSED,
        at(1),
    )
    assert audit.events(study_instance_uid="1.2") == [first]
    assert audit.events(before=latest.number) == [first]
