"""Delete over HTTP: optional, for keys that may, and in the audit trail."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import update

from storage import tables
from storage.audit import AuditAction, AuditOutcome
from storage.records import StudyFilter
from tests.builders.ct import make_ct_instance, uid
from tests.builders.web import ADMIN_KEY, PaperWeb

STUDY = f"/dicom-web/studies/{uid(1)}"
SERIES = f"{STUDY}/series/{uid(1, 1)}"
INSTANCE = f"{SERIES}/instances/{uid(1, 1, 1)}"


@pytest.fixture
def web(make_web: Callable[..., PaperWeb]) -> PaperWeb:
    web = make_web(http={"delete": True})
    for number in (1, 2):
        web.receive(make_ct_instance(number))
    with web.database.write() as connection:
        connection.execute(update(tables.studies).values(state="unmatched", reason="No rule matched."))
    return web


def test_each_level_can_be_deleted_and_is_then_not_found(web: PaperWeb) -> None:
    client = web.client(key=web.key("keeper", "delete", "read"))
    assert client.delete(INSTANCE).status_code == 204
    assert client.get(INSTANCE).status_code == 404
    assert client.get(f"{SERIES}/metadata").json()[0]["00080018"]["Value"] == [uid(1, 1, 2)]
    assert client.delete(INSTANCE).status_code == 404
    with web.database.write() as connection:
        connection.execute(update(tables.studies).values(state="unmatched"))
    assert client.delete(SERIES).status_code == 204
    assert client.get("/dicom-web/studies").json() == []
    assert client.delete(STUDY).status_code == 404
    events = web.audit.events(study_instance_uid=uid(1))
    done = [event for event in events if event.action is AuditAction.DELETE]
    assert [(event.actor, event.outcome) for event in done] == [("keeper", AuditOutcome.DONE)] * 2


def test_what_may_not_go_is_a_conflict_that_says_why_and_is_audited(web: PaperWeb) -> None:
    with web.database.write() as connection:
        connection.execute(update(tables.studies).values(state="gathering"))
    answer = web.client(key=ADMIN_KEY).delete(STUDY)
    assert answer.status_code == 409
    assert "may still come" in answer.json()["detail"]
    (event,) = web.audit.events(study_instance_uid=uid(1))
    assert (event.action, event.outcome) == (AuditAction.DELETE, AuditOutcome.REFUSED)


def test_who_sees_other_studies_alone_deletes_none_of_these(web: PaperWeb) -> None:
    key = web.key("mr", "delete", visible=StudyFilter(frozenset({"mr1"})))
    assert web.client(key=key).delete(STUDY).status_code == 404
    assert len(web.index.instances_of(uid(1))) == 2


def test_the_open_loopback_never_deletes(web: PaperWeb) -> None:
    assert web.client().delete(STUDY).status_code == 403
    assert len(web.index.instances_of(uid(1))) == 2


def test_as_shipped_there_is_no_such_service(make_web: Callable[..., PaperWeb]) -> None:
    web = make_web()
    web.receive(make_ct_instance())
    client = web.client(key=ADMIN_KEY)
    for path in (STUDY, SERIES, INSTANCE):
        assert client.delete(path).status_code == 405
        assert "DELETE" not in client.options(path).headers["allow"]
