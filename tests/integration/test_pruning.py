"""What nobody asks for any more goes, in short transactions; what tells who sent what stays."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select

from storage.associations import Associations
from storage.database import Database
from storage.index import Index
from storage.peer_tables import associations, refused_callers
from storage.pruning import forget_contacts
from storage.records import Kept, Origin, OriginKind
from tests.builders.ct import make_ct_instance, uid

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PAST = NOW - timedelta(days=40)


def count(database: Database, table: object) -> int:
    with database.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()  # type: ignore[arg-type]


def origin(association_id: str) -> Origin:
    return Origin(OriginKind.DIMSE, peer="ct1", calling_ae_title="CT1", association_id=association_id)


def test_old_associations_go_and_their_senders_are_still_known(
    database: Database, receive: Callable[..., Kept]
) -> None:
    book = Associations(database)
    for number in range(7):
        book.opened(f"old-{number}", "here", origin(f"old-{number}"), PAST)
        book.closed(f"old-{number}", "released", PAST)
    book.opened("open", "here", origin("open"), PAST)
    book.opened("young", "here", origin("young"), NOW)
    book.closed("young", "released", NOW)
    receive(make_ct_instance(), origin("old-1"))
    pauses: list[float] = []

    assert forget_contacts(database, NOW - timedelta(days=30), batch=3, pause=pauses.append) == 7

    assert count(database, associations) == 2
    assert len(pauses) == 2
    (sender,) = Index(database).senders_of(uid(1), now=NOW, idle_after_s=2.0)
    assert (sender.peer, sender.active) == ("ct1", False)


def test_refused_callers_are_bounded_by_age_and_by_number(database: Database) -> None:
    book = Associations(database)
    book.refused("OLD", "DICOMNODE", "10.0.0.1", "no peer matches", PAST)
    for number in range(10):
        book.refused(f"AE{number}", "DICOMNODE", "10.0.0.1", "no peer matches", NOW + timedelta(seconds=number))

    assert forget_contacts(database, NOW - timedelta(days=30), most_refused=4) == 7

    left = book.refused_since(PAST)
    assert [each.calling_ae_title for each in left] == ["AE9", "AE8", "AE7", "AE6"]
    assert count(database, refused_callers) == 4
