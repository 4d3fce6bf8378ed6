"""UPS-RS: work items by PS3.18 11, and IHE AIW-I: analyses asked for and watched as work items."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from xml.etree import ElementTree

import pytest
from httpx import Client, Response

from configs.routes import Priority
from dicom_node.worker.workitems import WorkitemParts, WorkitemWatch
from storage.decisions import take
from storage.findings_store import FindingsStore
from storage.jobs import Queue, prepare_queue
from storage.ledger_report import account
from storage.records import JobState, StudyFilter, StudyState
from storage.results import ResultBook
from storage.urgency import Priorities
from storage.workitems import Workitems
from tests.builders.ct import make_ct_instance, uid
from tests.builders.web import ADMIN_KEY, PaperWeb
from tests.builders.work import decision, results_of, transitions_of

WORKITEMS = "/dicom-web/workitems"
ITEM = "1.2.3.4"
ONE = f"{WORKITEMS}/{ITEM}"
MINE, OTHERS = "1.2.3.5", "1.2.3.6"
STATE, TRANSACTION = "00741000", "00081195"
JSON = {"Content-Type": "application/dicom+json"}


def text(vr: str, *values: str) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)}


def asked_for(engine: str = "classical-lung", study: str = uid(1), series: str = "") -> dict[str, Any]:
    """Make a work item that names an engine and a study."""
    code = {"00080100": text("SH", engine), "00080102": text("SH", "99DICOMNODE"), "00080104": text("LO", engine)}
    given = {"0020000D": text("UI", study)} | ({"0020000E": text("UI", series)} if series else {})
    return {
        "00741204": text("LO", "Lungs"),
        "00741200": text("CS", "HIGH"),
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Test^Quiet"}]},
        "00404018": {"vr": "SQ", "Value": [code]},
        "00404021": {"vr": "SQ", "Value": [given]},
    }


def plain() -> dict[str, Any]:
    """Make a work item for somebody else."""
    return {"00741204": text("LO", "Measure"), "00100020": text("LO", "TEST-1")}


def create(client: Client, dataset: dict[str, Any], item: str = ITEM) -> Response:
    return client.post(f"{WORKITEMS}?{item}", json=[dataset], headers=JSON)


def change(client: Client, state: str, transaction: str = MINE, path: str = ONE) -> Response:
    dataset = {STATE: text("CS", state), TRANSACTION: text("UI", transaction)}
    return client.put(f"{path}/state", json=[dataset], headers=JSON)


def state_of(client: Client) -> str:
    return str(client.get(ONE).json()[0][STATE]["Value"][0])


class Site:
    """The web application and what the courier and worker do beside it."""

    def __init__(self, web: PaperWeb) -> None:
        self.web = web
        prepare_queue(web.database.url)
        self.queue = Queue(web.database)
        self.results = ResultBook(web.database)
        self.jobs = web.parts.job_book
        parts = WorkitemParts(web.database, self.queue, web.index, Workitems(web.database), self.jobs, self.results)
        self.watch = WorkitemWatch(parts)

    def look(self) -> int:
        self.web.time += timedelta(seconds=1)
        return self.watch.tick(self.web.time)

    def decide(self) -> None:
        study = self.web.index.study(uid(1))
        taken = decision(
            uid(1), number=study.decision_number + 1, input_version=study.input_version, when=self.web.time
        )
        assert take(self.web.database, self.queue, taken, to=StudyState.UNMATCHED, reason="No rule matched.")

    def work(self, state: JobState = JobState.DONE) -> None:
        (job,) = [each for each in self.jobs.jobs_of(uid(1)) if each.state is JobState.QUEUED]
        assert self.jobs.begin(job.job_id, self.web.time) is not None
        found = FindingsStore(self.web.database, self.web.blobs).once(
            "b" * 12,
            study_instance_uid=uid(1),
            engine=job.engine,
            task=job.task,
            facts={"inputs": {}},
            at=self.web.time,
            make=lambda: b"findings",
        )
        self.results.reserve(results_of(found))
        self.jobs.know_runs(job.job_id, [found.run_key])
        self.jobs.finish(job.job_id, state, "2 results kept.", self.web.time)


@pytest.fixture
def site(web: PaperWeb) -> Any:
    made = Site(web)
    yield made
    made.queue.close()


def test_11_4_a_work_item_is_created_where_the_answer_says(web: PaperWeb, client: Client) -> None:
    answer = create(client, plain())
    assert answer.status_code == 201
    assert answer.headers["location"] == f"http://127.0.0.1:8080{ONE}"
    assert "created with modifications" in answer.headers["warning"]
    (item,) = client.get(answer.headers["location"]).json()
    assert item[STATE]["Value"] == ["SCHEDULED"]
    assert item["00080016"]["Value"] == ["1.2.840.10008.5.1.4.34.6.1"]
    assert item["00080018"]["Value"] == [ITEM]
    assert item["00741200"]["Value"] == ["MEDIUM"]
    assert TRANSACTION not in item
    assert create(client, plain()).status_code == 409
    assert transitions_of(web.database, ITEM) == ["SCHEDULED"]


@pytest.mark.parametrize("how", ["query", "name", "body", "none"])
def test_11_4_the_uid_may_stand_in_many_places(client: Client, how: str) -> None:
    query = {"query": f"?{ITEM}", "name": f"?AffectedSOPInstanceUID={ITEM}"}.get(how, "")
    dataset = plain() | ({"00080018": text("UI", ITEM)} if how == "body" else {})
    answer = client.post(f"{WORKITEMS}{query}", json=dataset, headers=JSON)
    assert answer.status_code == 201
    assert client.get(answer.headers["location"]).status_code == 200
    assert (answer.headers["location"].endswith(ITEM)) is (how != "none")


@pytest.mark.parametrize(
    "dataset",
    [
        {STATE: text("CS", "IN PROGRESS")},
        {TRANSACTION: text("UI", MINE)},
        {"00741200": text("CS", "NOW")},
        {"00404018": text("LO", "x"), "0040": {}},
        {"00404021": {"vr": "SQ", "Value": ["x"]}},
        {"00420011": {"vr": "OB", "BulkDataURI": "http://169.254.169.254/"}},
        {"00741204": {"vr": "LO", "Value": [7]}},
        asked_for("no-such-engine"),
        asked_for() | {"00404021": {"vr": "SQ"}},
    ],
)
def test_11_4_what_is_no_sound_work_item_is_refused(client: Client, dataset: dict[str, Any]) -> None:
    assert create(client, dataset).status_code == 400
    assert client.get(WORKITEMS).json() == []


def test_a_work_item_says_how_urgent_its_study_is(web: PaperWeb, client: Client) -> None:
    create(client, asked_for())
    create(client, plain() | {"00741200": text("CS", "HIGH")}, "1.2.9")
    said = Priorities(web.database)
    assert said.of(uid(1)) == {f"ups:{ITEM}": Priority.STAT}
    client.post(ONE, json=[{"00741200": text("CS", "LOW")}], headers=JSON)
    assert said.of(uid(1)) == {f"ups:{ITEM}": Priority.LOW}
    web.receive(make_ct_instance())
    ct = web.client(key=web.key("ct", "read", "predict", visible=StudyFilter(frozenset({"ct1"}))))
    assert create(ct, asked_for(), "1.2.10").status_code == 201
    assert said.of(uid(1)) == {f"ups:{ITEM}": Priority.LOW}


def test_11_4_malformed_requests_are_answered(client: Client) -> None:
    for content in (b"", b"{", b"[]", b"[1]", b"[{},{}]", b"x" * (1 << 21)):
        assert client.post(WORKITEMS, content=content, headers=JSON).status_code in (400, 413)
    assert client.post(WORKITEMS, content=b"x", headers={"Content-Type": "text/plain"}).status_code == 415
    assert client.post(f"{WORKITEMS}?1..2", json=plain(), headers=JSON).status_code == 400
    assert client.get(ONE).status_code == 404
    assert change(client, "IN PROGRESS").status_code == 404
    assert client.post(f"{ONE}/cancelrequest").status_code == 404


def test_11_5_a_work_item_comes_in_xml_on_request_and_goes_in_so(client: Client) -> None:
    create(client, plain())
    answer = client.get(ONE, headers={"Accept": "application/dicom+xml"})
    assert answer.headers["content-type"] == "application/dicom+xml"
    assert ElementTree.fromstring(answer.content).tag.endswith("NativeDicomModel")  # noqa: S314 (it is ours)
    document = answer.content.replace(ITEM.encode(), b"1.2.3.9")
    sent = client.post(WORKITEMS, content=document, headers={"Content-Type": "application/dicom+xml"})
    assert sent.status_code == 201
    assert sent.headers["location"].endswith("/1.2.3.9")


def test_11_6_who_claims_a_work_item_alone_changes_it(client: Client) -> None:
    create(client, plain())
    label = {"00741204": text("LO", "Other")}
    assert client.post(ONE, json=[label], headers=JSON).status_code == 200
    assert change(client, "IN PROGRESS").status_code == 200
    for transaction in ("", f"?{OTHERS}", f"?transaction-uid={OTHERS}"):
        assert client.post(f"{ONE}{transaction}", json=[label], headers=JSON).status_code == 409
    percent = {"00741002": {"vr": "SQ", "Value": [{"00741004": {"vr": "DS", "Value": [50]}}]}}
    for transaction, body in ((f"?{MINE}", percent), (f"?transaction-uid={MINE}", percent),
                              ("", percent | {TRANSACTION: text("UI", MINE)})):  # fmt: skip
        assert client.post(f"{ONE}{transaction}", json=[body], headers=JSON).status_code == 200
    (item,) = client.get(ONE).json()
    assert item["00741002"]["Value"][0]["00741004"]["Value"] == [50]
    assert item["00741204"]["Value"] == ["Other"]
    assert TRANSACTION not in item
    assert client.post(ONE, json=[{STATE: text("CS", "COMPLETED")}], headers=JSON).status_code == 400


def test_11_7_states_go_one_way_under_one_transaction(web: PaperWeb, client: Client) -> None:
    create(client, plain())
    assert change(client, "COMPLETED").status_code == 409
    assert change(client, "SCHEDULED").status_code == 400
    assert change(client, "IN PROGRESS", "").status_code == 400
    assert change(client, "IN PROGRESS").status_code == 200
    assert change(client, "IN PROGRESS").status_code == 409
    assert change(client, "COMPLETED", OTHERS).status_code == 409
    assert change(client, "COMPLETED").status_code == 409  # it does not say what was performed
    client.post(f"{ONE}?{MINE}", json=[{"00741216": {"vr": "SQ", "Value": [{}]}}], headers=JSON)
    assert change(client, "COMPLETED").status_code == 200
    again = change(client, "COMPLETED")
    assert again.status_code == 200
    assert "already in the requested state of COMPLETED" in again.headers["warning"]
    assert change(client, "CANCELED").status_code == 409
    assert client.post(f"{ONE}?{MINE}", json=[plain()], headers=JSON).status_code == 409
    assert transitions_of(web.database, ITEM) == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]


def test_11_8_a_scheduled_work_item_is_canceled_when_asked(web: PaperWeb, client: Client) -> None:
    create(client, plain())
    reason = [{"00741238": text("LT", "Wrong patient")}]
    assert client.post(f"{ONE}/cancelrequest", json=reason, headers=JSON).status_code == 202
    (item,) = client.get(ONE).json()
    assert item[STATE]["Value"] == ["CANCELED"]
    assert item["00741002"]["Value"][0]["00741238"]["Value"] == ["Wrong patient"]
    assert transitions_of(web.database, ITEM) == ["SCHEDULED", "IN PROGRESS", "CANCELED"]
    assert client.post(f"{ONE}/cancelrequest").status_code == 202
    create(client, plain(), "1.2.9")
    change(client, "IN PROGRESS", path=f"{WORKITEMS}/1.2.9")
    assert client.post(f"{WORKITEMS}/1.2.9/cancelrequest").status_code == 409


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["1.2.3", "1.2.2", "1.2.1"]),
        ("limit=1", ["1.2.3"]),
        ("offset=1&limit=1", ["1.2.2"]),
        ("ProcedureStepState=SCHEDULED", ["1.2.3", "1.2.2", "1.2.1"]),
        ("00741000=COMPLETED", []),
        ("PatientName=test*", ["1.2.3"]),
        ("PatientID=TEST-1", ["1.2.2", "1.2.1"]),
        ("ProcedureStepLabel=Mea?ure", ["1.2.2", "1.2.1"]),
        ("ScheduledWorkitemCodeSequence.CodeValue=classical-lung", ["1.2.3"]),
        (f"InputInformationSequence.StudyInstanceUID={uid(1)}", ["1.2.3"]),
        ("ScheduledProcedureStepStartDateTime=20261124-20261125", ["1.2.3", "1.2.2", "1.2.1"]),
        ("ScheduledProcedureStepStartDateTime=-20261123", []),
        ("SOPInstanceUID=1.2.1,1.2.3", ["1.2.3", "1.2.1"]),
        ("includefield=all&fuzzymatching=true", ["1.2.3", "1.2.2", "1.2.1"]),
    ],
)
def test_11_9_work_items_are_found_by_what_they_hold(
    web: PaperWeb, client: Client, query: str, found: list[str]
) -> None:
    for number, dataset in enumerate((plain(), plain(), asked_for()), 1):
        create(client, dataset, f"1.2.{number}")
        web.time += timedelta(seconds=1)
    answer = client.get(f"{WORKITEMS}?{query}")
    assert [each["00080018"]["Value"][0] for each in answer.json()] == found
    assert ("warning" in answer.headers) is ("limit" in query)
    assert client.get(f"{WORKITEMS}?NoSuchThing=1").status_code == 400


def test_who_sees_some_studies_sees_the_work_on_these(web: PaperWeb, client: Client) -> None:
    web.receive(make_ct_instance())
    for number, dataset in enumerate((plain(), asked_for(), asked_for(study=uid(2))), 1):
        create(client, dataset, f"1.2.{number}")
    ct = web.client(key=web.key("ct", "read", "predict", visible=StudyFilter(frozenset({"ct1"}))))
    assert [each["00080018"]["Value"] for each in ct.get(WORKITEMS).json()] == [["1.2.2"]]
    assert ct.get(f"{WORKITEMS}/1.2.1").status_code == 404
    assert change(ct, "IN PROGRESS", path=f"{WORKITEMS}/1.2.3").status_code == 404
    assert create(ct, asked_for(study=uid(2)), "1.2.7").status_code == 404


def test_aiw_i_a_work_item_for_an_engine_is_done_by_the_node(web: PaperWeb, client: Client, site: Site) -> None:
    web.receive(make_ct_instance())
    assert create(client, asked_for()).status_code == 201
    assert site.look() == 0
    assert state_of(client) == "SCHEDULED"  # the study is still gathering
    site.decide()
    assert site.look() == 1
    (item,) = client.get(ONE).json()
    assert item[STATE]["Value"] == ["IN PROGRESS"]
    assert item["00741002"]["Value"][0]["00741004"]["Value"] == [0.0]
    (job,) = site.jobs.jobs_of(uid(1))
    assert (job.engine, job.series_instance_uids, job.state) == ("classical-lung", (uid(1, 1),), JobState.QUEUED)
    assert job.priority is Priority.STAT  # PS3.3 C.30.2: HIGH is equivalent to STAT
    assert web.index.study(uid(1)).state is StudyState.ANALYSING
    assert change(client, "IN PROGRESS").status_code == 409
    assert change(client, "CANCELED").status_code == 409  # nobody else has our Transaction UID
    assert site.look() == 0

    site.work()
    assert site.look() == 1

    (item,) = client.get(ONE).json()
    assert item[STATE]["Value"] == ["COMPLETED"]
    assert item["00741002"]["Value"][0]["00741004"]["Value"] == [100.0]
    outputs = item["00741216"]["Value"][0]["00404033"]["Value"]
    named = [each["00081199"]["Value"][0]["00081155"]["Value"][0] for each in outputs]
    assert named == [each.sop_instance_uid for each in site.results.of_study(uid(1))]
    assert {each["0020000D"]["Value"][0] for each in outputs} == {uid(1)}
    assert transitions_of(web.database, ITEM) == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]
    assert web.audit.events(study_instance_uid=uid(1))


def test_aiw_i_a_failed_analysis_cancels_its_work_item_with_the_reason(
    web: PaperWeb, client: Client, site: Site
) -> None:
    web.receive(make_ct_instance())
    site.decide()
    create(client, asked_for())
    site.look()
    site.work(JobState.FAILED)
    site.look()
    (item,) = client.get(ONE).json()
    assert item[STATE]["Value"] == ["CANCELED"]
    assert item["00741002"]["Value"][0]["00741238"]["Value"] == ["2 results kept."]


def test_aiw_i_the_same_asked_for_twice_is_one_job_and_done_again_when_it_ended(
    web: PaperWeb, client: Client, site: Site
) -> None:
    web.receive(make_ct_instance())
    site.decide()
    for item in ("1.2.1", "1.2.2"):
        create(client, asked_for(), item)
    assert site.look() == 2
    site.work()
    assert site.look() == 2
    create(client, asked_for(series=uid(1, 1)), "1.2.3")
    create(client, asked_for(series=uid(9, 9)), "1.2.4")
    assert site.look() == 1
    site.work()
    site.look()
    states = {each["00080018"]["Value"][0]: each[STATE]["Value"][0] for each in client.get(WORKITEMS).json()}
    assert states == {**dict.fromkeys(("1.2.1", "1.2.2", "1.2.3"), "COMPLETED"), "1.2.4": "SCHEDULED"}
    assert len(site.jobs.jobs_of(uid(1))) == 1


def test_aiw_i_late_images_have_the_work_done_on_all_of_them(web: PaperWeb, client: Client, site: Site) -> None:
    web.receive(make_ct_instance())
    site.decide()
    create(client, asked_for())
    site.look()
    web.time += timedelta(seconds=1)
    web.receive(make_ct_instance(2))
    site.decide()
    assert site.look() == 1  # its job was superseded
    assert site.look() == 1
    assert [job.decision_number for job in site.jobs.jobs_of(uid(1))] == [1, 2]
    site.work()
    site.look()
    assert state_of(client) == "COMPLETED"


def test_11_8_a_work_item_of_ours_is_canceled_while_the_analysis_goes_on(
    web: PaperWeb, client: Client, site: Site
) -> None:
    web.receive(make_ct_instance())
    site.decide()
    create(client, asked_for())
    site.look()
    assert client.post(f"{ONE}/cancelrequest").status_code == 202
    assert state_of(client) == "CANCELED"
    site.work()
    assert site.look() == 0
    assert state_of(client) == "CANCELED"


def test_who_claims_a_work_item_before_the_node_does_performs_it(web: PaperWeb, client: Client, site: Site) -> None:
    create(client, asked_for())
    assert change(client, "IN PROGRESS").status_code == 200
    web.receive(make_ct_instance())
    site.decide()
    assert site.look() == 0
    assert site.jobs.jobs_of(uid(1)) == []


def test_a_deleted_study_cancels_what_was_to_be_done(make_web: Callable[..., PaperWeb]) -> None:
    web = make_web(http={"delete": True})
    site = Site(web)
    client = web.client(key=ADMIN_KEY)
    web.receive(make_ct_instance())
    site.decide()
    create(client, asked_for())
    site.look()
    site.work(JobState.FAILED)
    assert client.delete(f"/dicom-web/studies/{uid(1)}").status_code == 204
    site.look()
    assert state_of(client) == "CANCELED"
    assert account(web.database, web.blobs, web.time, queue=site.queue).unexplained == ()
    site.queue.close()
