"""A delivery that failed is sent again by one command, or one click."""

from __future__ import annotations

import json

import pytest

from configs.settings import Settings
from dicom_node.cli import main
from storage.blobs import LocalBlobs
from storage.database import Database
from storage.decisions import job_id_of, take
from storage.deliveries import Deliveries
from storage.findings_store import FindingsStore
from storage.jobs import Queue, prepare_queue
from storage.records import DeliveryState, StudyState
from storage.results import ResultBook
from tests.builders.ct import make_ct_instance, uid
from tests.builders.web import ADMIN_KEY, PaperWeb
from tests.builders.work import at, decision, new_job, put_findings, results_of


@pytest.fixture
def failed(sqlite_database: Database, blobs: LocalBlobs) -> tuple[PaperWeb, str]:
    """A delivery that failed, of a study that is kept; and the web application over it."""
    prepare_queue(sqlite_database.url)
    web = PaperWeb(sqlite_database, blobs, Settings.model_validate({"disk": {"reserve_mb": 0}}))
    web.receive(make_ct_instance())
    queue = Queue(sqlite_database)
    taken = decision(uid(1), new_job(), input_version=web.index.study(uid(1)).input_version)
    assert take(sqlite_database, queue, taken, to=StudyState.ANALYSING, reason="Complete.")
    results = results_of(put_findings(FindingsStore(sqlite_database, blobs), uid(1), "key1"))
    ResultBook(sqlite_database).reserve(results)
    deliveries = Deliveries(sqlite_database, queue)
    items = [(result.sop_instance_uid, result.kind) for result in results]
    (delivery_id,) = deliveries.ask_for(
        job_id_of(uid(1), 1, "classical-lung"),
        "key1",
        "binary+comprehensive-3d",
        uid(1),
        items,
        ["pacs"],
        not_before=at(0),
        at=at(0),
    )
    assert deliveries.begin(delivery_id, 1, at(1)) is not None
    deliveries.finish(delivery_id, DeliveryState.FAILED, "pacs rejected the association.", at(2))
    queue.close()
    return web, delivery_id


def state_of(web: PaperWeb, delivery_id: str) -> tuple[str, str]:
    delivery = web.parts.deliveries.delivery(delivery_id)
    return delivery.state.value, delivery.reason


def test_one_click_in_the_console_sends_again(failed: tuple[PaperWeb, str]) -> None:
    web, delivery_id = failed
    page = web.client(key=ADMIN_KEY).get(f"/console/studies/{uid(1)}").text
    action = page.split('<form method="post" action="/console/deliveries/')[1].split('"')[0]
    assert "Send again" not in web.client().get(f"/console/studies/{uid(1)}").text  # the open loopback may look alone
    answer = web.client(key=ADMIN_KEY).post(f"/console/deliveries/{action}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/console/studies/{uid(1)}")
    assert state_of(web, delivery_id)[0] == "waiting"
    assert "Send again" not in web.client(key=ADMIN_KEY).get(f"/console/studies/{uid(1)}").text
    web.close()


def test_one_command_lists_and_sends_again_what_failed(
    failed: tuple[PaperWeb, str],
    sqlite_database: Database,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: object,
) -> None:
    web, delivery_id = failed
    path = sqlite_database.url.removeprefix("sqlite:///")
    monkeypatch.chdir(str(tmp_path))
    monkeypatch.setenv("DICOM_NODE_DATA_DIR", path.rsplit("/", 1)[0])

    def run(*words: str) -> str:
        with pytest.raises(SystemExit) as end:
            main(["deliveries", *words])
        assert not end.value.code
        return capsys.readouterr().out

    assert [each["delivery_id"] for each in json.loads(run("list", "--state", "failed", "--json"))] == [delivery_id]
    assert "None has failed." in run("retry", "--failed", "--to", "archive")
    assert f"Sent again: {delivery_id}" in run("retry", "--failed", "--to", "pacs")
    assert state_of(web, delivery_id) == ("waiting", "asked for on the command line")
    assert "There is none." in run("list", "--state", "failed")
    web.close()
