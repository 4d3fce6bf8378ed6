from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from pydicom.errors import InvalidDicomError

from configs.routes import Priority
from dicom_node.errors import PeerUnreachable
from dicom_node.worker.turns import Turns
from dicom_node.worker.watch import CourierWatch, Tick
from storage.errors import IndexUnavailable
from storage.peer_records import Announcement, AnnouncementKind, AnnouncementState, Coverage
from storage.prior_book import PriorStudy
from storage.records import InstanceRecord, StudyRecord, StudyState
from tests.builders.paper_parts import make_input
from tests.builders.stage import Stage
from tests.builders.studies import STUDY_UID, at, make_peer, make_route, make_sender, make_study


@pytest.fixture
def stage(stage: Stage) -> Stage:
    stage.keep(*[make_input(number) for number in (1, 2)])
    stage.index.senders = [make_sender("ct1")]
    stage.index.patients = [("TEST-1", "", "TEST^QUIET", "", "")]
    stage.peers = {"ct1": make_peer(port=104, deliver={"by": "dimse"})}
    stage.routes = [make_route({"Modality": "CT"})]
    return stage


def test_a_quiet_study_is_decided_once(stage: Stage) -> None:
    watch = CourierWatch(stage.courier)
    assert watch.tick(at(4.9)) == Tick()
    assert watch.tick(at(5.0)) == Tick(decided=1)
    assert watch.tick(at(5.2)) == Tick()
    ((decision, to, reason),) = stage.decisions
    assert to is StudyState.ANALYSING
    assert reason.startswith("No image for 5.0 s")
    assert decision.jobs[0].deliver_to == ("ct1",)


def test_silence_before_the_node_listened_is_no_evidence(stage: Stage) -> None:
    watch = CourierWatch(stage.courier, since=at(60))
    assert watch.tick(at(64.9)) == Tick()
    assert watch.tick(at(65.0)) == Tick(decided=1)


def test_an_active_sender_holds_the_decision_up(stage: Stage) -> None:
    stage.index.senders = [make_sender("ct1", active=True)]
    assert CourierWatch(stage.courier).tick(at(50)) == Tick()


def test_senders_are_not_looked_up_before_a_decision_can_fall(stage: Stage) -> None:
    CourierWatch(stage.courier).tick(at(4))
    assert stage.index.asked_for_senders == 0


def test_an_instance_that_comes_in_between_undoes_the_decision(stage: Stage) -> None:
    class Late(type(stage.index)):  # type: ignore[misc]
        def patients_of(self, uid: str) -> list[tuple[str, ...]]:
            self.study_record = replace(self.study_record, input_version=2, last_instance_at=at(5))
            return super().patients_of(uid)  # type: ignore[no-any-return]

    stage.index.__class__ = Late
    watch = CourierWatch(stage.courier)
    assert watch.tick(at(5)) == Tick()
    assert not stage.decisions


def test_an_instance_received_while_the_ceiling_falls_belongs_to_the_decision(stage: Stage) -> None:
    stage.keep(make_input(3, received_at=at(100.5)))
    CourierWatch(stage.courier).tick(at(100))
    assert stage.decisions[0][0].decided_at == at(100.5)


def test_a_study_that_fails_disturbs_no_other_and_sits_out(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = make_study(), make_study(study_instance_uid="1.2.3")
    asked: list[str] = []

    def gathering() -> list[StudyRecord]:
        return [bad] if stage.decisions else [bad, good]

    def patients_of(uid: str) -> list[tuple[str, ...]]:
        asked.append(uid)
        if uid == "1.2.3":
            raise IndexUnavailable()
        return []

    monkeypatch.setattr(stage.index, "gathering", gathering)
    monkeypatch.setattr(stage.index, "patients_of", patients_of)
    watch = CourierWatch(stage.courier)
    assert watch.tick(at(5)) == Tick(decided=1, failed=1)
    assert watch.tick(at(5.5)) == Tick(failed=1)
    assert asked.count("1.2.3") == 1
    watch.tick(at(6))
    assert asked.count("1.2.3") == 2


def test_images_of_two_patients_are_set_apart(stage: Stage) -> None:
    stage.index.patients.append(("TEST-2", "", "TEST^QUIET", "", ""))
    CourierWatch(stage.courier).tick(at(5))
    assert stage.decisions[0][1] is StudyState.QUARANTINED
    assert stage.decisions[0][0].jobs == ()


def test_an_unreadable_header_does_not_hold_the_study_up(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(sources: object) -> None:
        raise InvalidDicomError("no header")

    monkeypatch.setattr("dicom_node.worker.sources.read_headers", unreadable)
    CourierWatch(stage.courier).tick(at(5))
    assert stage.decisions[0][1:] == (StudyState.UNMATCHED, "No rule matched. chest-ct: Modality is absent.")


def test_the_watch_ends_when_told_to_and_survives_a_bad_look(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    looks = 0

    def gathering() -> list[StudyRecord]:
        nonlocal looks
        looks += 1
        stage.second += 100
        if looks == 3:
            stop.set()
        raise IndexUnavailable()

    monkeypatch.setattr(stage.index, "gathering", gathering)
    CourierWatch(stage.courier).run(stop, every_s=0.0)
    assert looks == 3


def announce(stage: Stage, *, named: int, missing: int = 0) -> None:
    step = AnnouncementKind.PROCEDURE_STEP
    stage.announcements.said = [
        Announcement("1.9", step, AnnouncementState.COMPLETED, "ct1", "CT1", named, at(0)),
    ]
    stage.announcements.covers = Coverage(named, missing, 0)


def test_a_completed_step_decides_at_once_and_results_need_not_settle(stage: Stage) -> None:
    announce(stage, named=1)
    assert CourierWatch(stage.courier).tick(at(0.1)) == Tick(decided=1)
    ((decision, _, reason),) = stage.decisions
    assert decision.evidence == "mpps"
    assert reason.startswith("CT1 completed its procedure step, and all 1 that it names are here.")
    assert decision.jobs[0].settle_until == at(0)


def test_a_step_that_names_more_than_is_here_is_not_compared_before_its_time(stage: Stage) -> None:
    announce(stage, named=500, missing=499)
    watch = CourierWatch(stage.courier)
    assert watch.tick(at(0.1)) == Tick()
    assert stage.announcements.asked_for_coverage == 0
    assert watch.tick(at(5)) == Tick()
    assert stage.announcements.asked_for_coverage == 1
    assert watch.tick(at(100)) == Tick(decided=1)
    assert "Premature: 499 of 500 announced instances are not here." in stage.decisions[0][0].reason


def test_a_subject_that_fails_again_waits_longer() -> None:
    turns = Turns("test_failed")
    tried: list[float] = []

    def work(second: float) -> bool:
        tried.append(second)
        raise ValueError

    for second in range(20):
        turns.take("a", at(second), lambda second=second: work(float(second)))
    assert tried == [0, 1, 3, 7, 15]


def test_a_subject_that_succeeds_is_forgiven() -> None:
    turns = Turns("test_failed")
    turns.take("a", at(0), lambda: 1 / 0 > 0)
    assert turns.take("a", at(1), lambda: True) is True
    turns.take("a", at(2), lambda: 1 / 0 > 0)
    assert turns.take("a", at(3), lambda: False) is False


def make_pacs(stage: Stage, **images: int) -> None:
    """Let an archive be asked, and have these images of each series."""
    stage.peers["pacs"] = make_peer(ae_title="PACS", port=104, archive=True, ask=["counts"])
    stage.archive = {f"1.{name[1:]}": number for name, number in images.items()}


def run_until(watch: CourierWatch, stage: Stage, seconds: float, *, every_s: float = 0.2) -> float | None:
    """Look again and again; give the second of the first decision."""
    while stage.second <= seconds:
        if watch.tick(stage.now()).decided:
            return stage.second
        stage.second = round(stage.second + every_s, 3)
    return None


def test_an_archive_that_says_twice_what_is_here_decides_before_the_quiet_time(stage: Stage) -> None:
    make_pacs(stage, s1=2)
    stage.second = 0.0
    assert run_until(CourierWatch(stage.courier), stage, 10) == pytest.approx(2.4, abs=0.21)
    ((decision, _, _),) = stage.decisions
    assert decision.evidence == "counts"
    assert decision.reason == "pacs was asked twice and has the same 2 images that are here."
    assert decision.jobs[0].settle_until == at(0)
    assert stage.asked_archive == 2


def test_an_archive_that_has_more_is_waited_for_and_a_failing_one_is_not(stage: Stage) -> None:
    make_pacs(stage, s1=3)
    stage.second = 0.0
    assert run_until(CourierWatch(stage.courier), stage, 100) == pytest.approx(100)
    assert "Premature: pacs has 1 images of these series" in stage.decisions[0][0].reason
    assert stage.asked_archive <= 8
    stage.decisions.clear()
    stage.index.study_record = make_study()
    stage.archive = PeerUnreachable("away")
    stage.second = 0.0
    assert run_until(CourierWatch(stage.courier), stage, 10) == pytest.approx(5.0)
    assert stage.decisions[0][0].evidence == "quiet"


def test_an_answer_from_before_a_further_image_proves_nothing(stage: Stage) -> None:
    make_pacs(stage, s1=2)
    stage.second = 0.0
    watch = CourierWatch(stage.courier)
    assert run_until(watch, stage, 2.0) is None
    stage.keep(make_input(3))
    stage.index.study_record = replace(stage.index.study_record, input_version=2, last_instance_at=at(2.1))
    stage.archive = {"1.1": 3}
    assert run_until(watch, stage, 10) == pytest.approx(4.6, abs=0.31)
    assert stage.decisions[0][0].evidence == "counts"


def test_required_series_are_compared_once_for_each_state_of_the_input(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []

    def gap_of(inputs: list[InstanceRecord], blobs: object) -> str:
        compared.append(inputs[0].series_instance_uid)
        return "" if len(inputs) > 2 else "1 of its images is missing."

    monkeypatch.setattr("dicom_node.worker.evidence.gap_of", gap_of)
    stage.routes = [make_route({"Modality": "CT"}, requires=[{"when": {"Modality": "CT"}, "images": 2}])]
    stage.index.study_record = make_study(number_of_inputs=2)
    watch = CourierWatch(stage.courier)
    stage.second = 0.0
    assert run_until(watch, stage, 1.0) is None
    assert compared == ["1.1"]
    stage.keep(make_input(3))
    stage.index.study_record = make_study(number_of_inputs=3, input_version=2, last_instance_at=at(1.0))
    assert run_until(watch, stage, 3.0) == pytest.approx(1.4, abs=0.21)
    assert stage.decisions[0][0].evidence == "required series"
    assert stage.decisions[0][0].reason == 'All series that rule "chest-ct" requires are here without gaps.'


def test_pauses_are_learned_from_studies_that_are_complete(stage: Stage) -> None:
    stage.keep(make_input(3, received_at=at(9)), make_input(4, received_at=at(200)))
    CourierWatch(stage.courier).tick(at(300))
    assert stage.pauses.noted == {STUDY_UID: {("ct1", "CT1"): 9.0}}


def test_what_was_learned_of_a_sender_counts_for_its_next_study(stage: Stage) -> None:
    stage.pauses.known = {("ct1", "CT1"): 8.0}
    stage.second = 0.0
    assert run_until(CourierWatch(stage.courier), stage, 50) == pytest.approx(12.0)


def test_a_study_that_the_node_fetched_is_kept_and_not_analysed(stage: Stage) -> None:
    stage.priors.prior = PriorStudy(STUDY_UID, "1.2.9", "pacs", at(-5))
    CourierWatch(stage.courier).tick(at(5))
    ((decision, to, reason),) = stage.decisions
    assert (decision.jobs, to) == ((), StudyState.UNMATCHED)
    assert reason.startswith("Kept as an earlier study that a rule asked for, fetched from pacs;")


def test_an_urgent_order_goes_first_and_does_not_settle(stage: Stage) -> None:
    stage.priorities.said = {"worklist:ris": Priority.STAT, "ups:1.2": Priority.LOW}
    CourierWatch(stage.courier).tick(at(5))
    ((decision, _, reason),) = stage.decisions
    assert decision.jobs[0].priority is Priority.STAT
    assert decision.jobs[0].settle_until == at(0)
    assert 'classical-lung by rule "chest-ct" (stat)' in reason
