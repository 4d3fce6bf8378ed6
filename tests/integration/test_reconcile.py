"""Files without rows, as kills leave them, enter again and nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from storage import intake as intake_module
from storage.blobs import LocalBlobs
from storage.database import Database
from storage.intake import Intake
from storage.reconcile import Reconciled, take_in_orphans
from storage.records import Kept
from storage.tables import instances, variants
from tests.builders.ct import encode, make_ct_instance
from tests.conftest import SENDER

Receive = Callable[..., Kept]


class Killed(BaseException):
    """The process ends here; nothing of it runs any more."""


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=1)


def files(blobs: LocalBlobs) -> set[str]:
    return {path.relative_to(blobs._root).as_posix() for path in (blobs._root / "instances").rglob("*.dcm")}


def paths(database: Database) -> set[str]:
    with database.read() as connection:
        return {row.path for table in (instances, variants) for row in connection.execute(select(table.c.path))}


@pytest.fixture
def orphan(blobs: LocalBlobs, intake: Intake, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Leave a placed file whose row never came, as a kill between the two does."""

    def leave(**overrides: Any) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(intake_module._Committer, "commit", lambda *_: (_ for _ in ()).throw(Killed()))
            patched.setattr(intake_module.Incoming, "__exit__", lambda *_: None)
            with pytest.raises(Killed):
                intake.receive(BytesIO(encode(make_ct_instance(**overrides))), SENDER)

    return leave


def test_an_orphan_whose_instance_is_not_kept_is_kept(
    database: Database, blobs: LocalBlobs, intake: Intake, orphan: Callable[..., None]
) -> None:
    orphan()
    assert take_in_orphans(database, blobs, intake, before=soon()) == Reconciled(kept=1)
    with database.read() as connection:
        row = connection.execute(select(instances)).one()
    assert (row.origin_kind, row.calling_ae_title) == ("recovered", "CT1")
    assert files(blobs) == paths(database) == {row.path}
    assert take_in_orphans(database, blobs, intake, before=soon()) == Reconciled()


def test_an_orphan_whose_instance_was_sent_again_goes(
    database: Database, blobs: LocalBlobs, intake: Intake, receive: Receive, orphan: Callable[..., None]
) -> None:
    orphan()
    kept = receive(make_ct_instance())
    assert take_in_orphans(database, blobs, intake, before=soon()) == Reconciled(known=1)
    assert files(blobs) == {kept.path}


def test_an_orphan_with_other_bytes_is_set_aside(
    database: Database, blobs: LocalBlobs, intake: Intake, receive: Receive, orphan: Callable[..., None]
) -> None:
    orphan(PatientID="TEST-2")
    receive(make_ct_instance())
    assert take_in_orphans(database, blobs, intake, before=soon()) == Reconciled(kept=1)
    assert files(blobs) == paths(database)
    assert len(files(blobs)) == 2


def test_kept_files_and_young_ones_are_left_alone(
    database: Database, blobs: LocalBlobs, intake: Intake, receive: Receive, orphan: Callable[..., None]
) -> None:
    receive(make_ct_instance())
    receive(make_ct_instance(PatientID="TEST-2"))
    assert take_in_orphans(database, blobs, intake, before=soon()) == Reconciled()
    orphan(SOPInstanceUID="1.2.3.4")
    before = files(blobs)
    assert take_in_orphans(database, blobs, intake, before=soon() - timedelta(hours=1)) == Reconciled()
    assert files(blobs) == before
    assert len(before) == 3


def test_what_is_no_instance_stays(database: Database, blobs: LocalBlobs, intake: Intake) -> None:
    blobs.put("instances/ab/x.dcm", b"no instance")
    assert take_in_orphans(database, blobs, intake, before=soon()) == Reconciled(unreadable=1)
    assert blobs.exists("instances/ab/x.dcm")


def test_an_index_older_than_the_files_gets_all_of_them_back(
    database: Database, blobs: LocalBlobs, intake: Intake, receive: Receive
) -> None:
    kept = [receive(make_ct_instance(number)) for number in range(1, 6)]
    with database.write() as connection:  # as a restored backup is: it does not know the latest
        connection.execute(instances.delete().where(instances.c.sop_instance_uid != kept[0].sop_instance_uid))
        connection.execute(update(instances).values(reason=""))
    assert take_in_orphans(database, blobs, intake, before=soon()) == Reconciled(kept=4)
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(instances)).scalar_one() == 5
        digests = set(connection.execute(select(instances.c.sha256)).scalars())
    assert digests == {each.sha256 for each in kept}


def test_it_ends_early_when_the_node_stops(
    database: Database, blobs: LocalBlobs, intake: Intake, orphan: Callable[..., None]
) -> None:
    orphan()
    stop = threading.Event()
    stop.set()
    assert take_in_orphans(database, blobs, intake, before=soon(), stop=stop) == Reconciled()


def test_the_path_of_the_store_does_not_matter(tmp_path: Path) -> None:
    store = LocalBlobs(tmp_path / "instances" / "a")
    store.put("instances/ab/x", b"x")
    assert list(store.placed("instances/a", before=soon())) == ["instances/ab/x"]
