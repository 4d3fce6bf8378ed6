from __future__ import annotations

from dataclasses import replace

import pytest

from dicom_node.worker.analyse import analyse, infer, publish
from dicom_node.worker.keeping import ResultDiffers
from inference.errors import EngineUnavailable, UnsuitableStudy
from storage.records import JobState
from tests.builders.paper_parts import JOB_ID, PaperEngine, PowerCut, make_input, make_job
from tests.builders.stage import Stage
from tests.builders.studies import at, make_peer, make_sender, make_study


@pytest.fixture
def stage(stage: Stage) -> Stage:
    stage.keep(*[make_input(number) for number in (1, 2, 3)])
    stage.index.study_record = make_study(decision_number=1)
    return stage


def test_a_study_comes_to_kept_results_and_their_delivery_is_asked_for(stage: Stage) -> None:
    analyse(JOB_ID, stage.worker)
    job = stage.jobs.record
    assert (job.state, len(job.run_keys)) == (JobState.DONE, 1)
    assert job.reason == "2 results kept, delivery to pacs asked for."
    (job_id, run_key, form, study, items, destinations, not_before) = stage.deliveries.asked[0]
    assert (job_id, run_key, form) == (JOB_ID, job.run_keys[0], "binary+comprehensive-3d")
    assert study == job.study_instance_uid
    assert [kind for _, kind in items] == ["seg", "sr"]
    assert (destinations, not_before) == (("pacs",), at(60))
    assert all(uid in stage.index.instances for uid, _ in items)


def test_the_log_says_how_long_reading_and_the_engine_took(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        analyse(JOB_ID, stage.worker)
    (said,) = [vars(each) for each in caplog.records if vars(each).get("action") == "volume_analysed"]
    assert (said["job_id"], said["study_instance_uid"]) == (JOB_ID, stage.jobs.record.study_instance_uid)
    assert min(said["read_s"], said["engine_s"]) >= 0


def test_what_a_destination_asks_for_is_kept_and_on_its_way_before_the_canonical_set_is_built(stage: Stage) -> None:
    stage.peers = {"pacs": make_peer(host="127.0.0.1", port=104, deliver={"send": ["sr"], "report": ["enhanced"]})}
    analyse(JOB_ID, stage.worker)
    asked = [(form, destinations) for _, _, form, _, _, destinations, _ in stage.deliveries.asked]
    assert asked == [("none+enhanced", ("pacs",)), ("binary+comprehensive-3d", ())]


def test_running_the_story_again_adds_nothing_and_asks_the_engine_no_second_time(stage: Stage) -> None:
    analyse(JOB_ID, stage.worker)
    before = (dict(stage.blobs), list(stage.deliveries.asked), list(stage.results.records))
    stage.jobs.record = replace(stage.jobs.record, state=JobState.QUEUED)
    stage.second = 999
    analyse(JOB_ID, stage.worker)
    assert (dict(stage.blobs), stage.deliveries.asked, stage.results.records) == before
    assert stage.engine.asked == 1
    assert len(stage.built) == 2


@pytest.mark.parametrize("kind", ["seg", "sr"])
def test_a_power_cut_between_keeping_leaves_one_result_set(stage: Stage, kind: str) -> None:
    stage.door.fails_at = kind
    with pytest.raises(PowerCut):
        analyse(JOB_ID, stage.worker)
    kept = dict(stage.blobs)
    stage.door.fails_at = ""
    analyse(JOB_ID, stage.worker)
    assert stage.jobs.record.state is JobState.DONE
    assert stage.engine.asked == 1
    assert len(stage.blobs) == len(stage.results.records) == 2
    assert kept.items() <= stage.blobs.items()


def test_a_result_built_again_with_other_bytes_is_loud_and_the_kept_one_stays(stage: Stage) -> None:
    stage.door.fails_at = "sr"
    with pytest.raises(PowerCut):
        analyse(JOB_ID, stage.worker)
    (path, kept), stage.door.fails_at = next(iter(stage.blobs.items())), ""
    stage.blobs[path] = other = kept + b" of an earlier version"
    with pytest.raises(ResultDiffers):
        publish(JOB_ID, stage.worker)
    assert stage.blobs == {path: other}
    assert not stage.deliveries.asked


def test_images_that_came_after_the_decision_wait_for_the_next_one(stage: Stage) -> None:
    stage.keep(make_input(4, received_at=at(7)))
    analyse(JOB_ID, stage.worker)
    facts = next(iter(stage.findings.records.values())).facts
    assert sorted(facts["inputs"]) == ["1.1.1", "1.1.2", "1.1.3"]


def test_late_images_lead_to_a_revision_that_names_its_predecessor(stage: Stage) -> None:
    analyse(JOB_ID, stage.worker)
    stage.keep(*[make_input(number, received_at=at(30)) for number in (4, 5)])
    stage.index.study_record = make_study(decision_number=2)
    stage.jobs.record = make_job(decision_number=2, created_at=at(40))
    analyse(JOB_ID, stage.worker)
    run = stage.built[-1].run
    assert (run.revision, run.revision_reason) == (2, "2 images arrived later.")
    assert run.predecessor is not None
    assert run.predecessor.sop_instance_uid == str(stage.built[0].dataset.SOPInstanceUID)
    assert run.predecessor.analysed_at == at(10)


def test_a_revision_that_was_never_published_is_nobodys_predecessor(stage: Stage) -> None:
    infer(JOB_ID, stage.worker)
    stage.keep(make_input(4))
    stage.jobs.record = make_job()
    analyse(JOB_ID, stage.worker)
    assert (stage.built[-1].run.revision, stage.built[-1].run.predecessor) == (2, None)


def test_a_job_that_a_later_decision_replaced_does_nothing(stage: Stage) -> None:
    stage.index.study_record = make_study(decision_number=2)
    analyse(JOB_ID, stage.worker)
    assert stage.jobs.record.state is JobState.SUPERSEDED
    assert stage.engine.asked == 0


def test_a_job_that_ended_meanwhile_does_nothing(stage: Stage) -> None:
    stage.jobs.record = make_job(state=JobState.SUPERSEDED)
    analyse(JOB_ID, stage.worker)
    assert stage.engine.asked == 0
    assert not stage.built


def test_best_takes_one_series_and_each_takes_all_with_revisions_of_their_own(stage: Stage) -> None:
    stage.keep(*[make_input(number, series="1.2") for number in (1, 2)])
    both = ("1.1", "1.2")
    stage.jobs.record = make_job(series_instance_uids=both)
    analyse(JOB_ID, stage.worker)
    assert [record.facts["series_instance_uids"] for record in stage.findings.records.values()] == [["1.1"]]
    stage.jobs.record = make_job(series_instance_uids=both, selection="each")
    analyse(JOB_ID, stage.worker)
    assert len(stage.jobs.record.run_keys) == 2
    assert [record.revision for record in stage.findings.records.values()] == [1, 1, 1]
    assert stage.jobs.record.reason == "4 results kept, delivery to pacs asked for."


def test_only_series_that_the_rule_chose_are_read(stage: Stage) -> None:
    stage.keep(*[make_input(number, series="1.2") for number in range(1, 9)])
    analyse(JOB_ID, stage.worker)
    facts = next(iter(stage.findings.records.values())).facts
    assert facts["series_instance_uids"] == ["1.1"]


@pytest.mark.parametrize("refuser", ["series", "volume", "engine"])
def test_an_engine_that_declines_leaves_a_kept_report_that_goes_nowhere(stage: Stage, refuser: str) -> None:
    if refuser == "series":
        stage.index.instances = {"1.1.1": make_input(1)}
    if refuser == "volume":
        stage.keep(make_input(99))
    if refuser == "engine":
        stage.engine.answer = UnsuitableStudy("lungs not covered")
    analyse(JOB_ID, stage.worker)
    job = stage.jobs.record
    assert job.state is JobState.DECLINED
    assert job.reason.startswith("Not analysed: ")
    assert job.reason.endswith(". The report that says so is kept here.")
    assert [result.kind for result in stage.built] == ["sr"]
    assert stage.built[0].text.startswith("NOT ANALYSED by classical-lung: ")
    assert stage.results.records[0].refusal
    # Nothing leaves, but what an earlier revision still had to deliver is superseded.
    assert [asked[5] for asked in stage.deliveries.asked] == [()]


def test_a_refusal_is_delivered_where_the_rule_says_so(stage: Stage) -> None:
    stage.engine.answer = UnsuitableStudy("lungs not covered")
    stage.jobs.record = make_job(deliver_refusals=True)
    analyse(JOB_ID, stage.worker)
    assert stage.jobs.record.state is JobState.DECLINED
    assert [asked[5] for asked in stage.deliveries.asked] == [("pacs",)]


def test_one_declined_series_among_several_does_not_decline_the_job(stage: Stage) -> None:
    stage.keep(make_input(1, series="1.2"))
    stage.jobs.record = make_job(series_instance_uids=("1.1", "1.2"), selection="each")
    analyse(JOB_ID, stage.worker)
    assert stage.jobs.record.state is JobState.DONE
    assert stage.jobs.record.reason == (
        "Not analysed: no series has 2 images. 2 results kept, delivery to pacs asked for."
    )


def test_an_engine_that_is_not_available_leaves_the_job_waiting(stage: Stage) -> None:
    stage.engine.answer = EngineUnavailable("the device is gone")
    analyse(JOB_ID, stage.worker)
    assert stage.jobs.record.state is JobState.WAITING_FOR_ENGINE
    assert stage.jobs.record.reason == "classical-lung is not available: the device is gone"
    assert not stage.findings.records


def test_an_engine_that_does_not_run_here_leaves_the_job_waiting(stage: Stage) -> None:
    stage.engines = {}
    analyse(JOB_ID, stage.worker)
    assert stage.jobs.record.state is JobState.WAITING_FOR_ENGINE


def test_any_other_failure_is_for_the_queue(stage: Stage) -> None:
    stage.engine = PaperEngine(ValueError("a bug"))
    with pytest.raises(ValueError, match="a bug"):
        analyse(JOB_ID, stage.worker)
    assert stage.jobs.record.state is JobState.RUNNING


def test_a_job_whose_images_are_gone_is_declined_with_its_reason(stage: Stage) -> None:
    stage.index.instances = {}
    analyse(JOB_ID, stage.worker)
    assert stage.jobs.record.state is JobState.DECLINED
    assert stage.jobs.record.reason.startswith("No image of the series")


def test_results_without_a_destination_say_how_to_add_one(stage: Stage) -> None:
    stage.jobs.record = make_job(deliver_to=())
    stage.index.senders = [make_sender("ct1")]
    stage.peers = {"ct1": make_peer()}
    analyse(JOB_ID, stage.worker)
    assert stage.jobs.record.reason.startswith(
        '2 results kept. Kept here only: peer "ct1" has no deliver. Add one: dicom-node peers'
    )


def test_results_of_a_rule_without_destinations_say_so(stage: Stage) -> None:
    stage.jobs.record = make_job(deliver_to=())
    analyse(JOB_ID, stage.worker)
    assert stage.jobs.record.reason == '2 results kept. Kept here only: rule "chest-ct" named no destination.'
