from __future__ import annotations

from typing import Any

from dicom_node.routing.completion import Verdict
from dicom_node.routing.facts import StudyFacts
from dicom_node.routing.plan import Plan, Ruling, plan
from storage.records import StudyState
from tests.builders.studies import at, make_facts, make_header, make_peer, make_route, make_sender, make_study

QUIET = Verdict(True, "quiet", "No image for 5.0 s, and nobody is sending this study.")
PACS = make_peer(ae_title="PACS", port=104, deliver={"by": "dimse"}, settle_s=9)
PATIENT = ("TEST-1", "", "TEST^QUIET", "", "")


def decide(
    facts: StudyFacts | None = None, *, patients: tuple[tuple[str, ...], ...] = (PATIENT,), **given: Any
) -> Plan:
    ruling = {
        "routes": [make_route({"Modality": "CT"})],
        "peers": {"pacs": PACS},
        "engines": {"classical-lung"},
        "settle_s": 60.0,
        **given,
    }
    facts = facts or make_facts(make_header(), senders=(make_sender("pacs"),))
    study = make_study(input_version=7, decision_number=2)
    return plan(study, QUIET, facts, patients, Ruling(**ruling), decided_at=at(6))


def test_a_matching_study_is_analysed_and_its_decision_says_all() -> None:
    said = decide()
    assert said.to is StudyState.ANALYSING
    assert said.reason == f'{QUIET.reason} Being analysed: classical-lung by rule "chest-ct".'
    decision = said.decision
    assert (decision.decision_number, decision.input_version, decision.evidence) == (3, 7, "quiet")
    assert decision.decided_at == at(6)
    job = decision.jobs[0]
    assert (job.engine, job.route, job.series_instance_uids, job.selection) == (
        "classical-lung",
        "chest-ct",
        ("1.1",),
        "best",
    )
    assert job.deliver_to == ("pacs",)
    assert job.settle_until == at(9)
    assert not job.waiting_for_engine


def test_each_series_by_one_job() -> None:
    facts = make_facts(make_header(), make_header())
    jobs = decide(facts, routes=[make_route({"Modality": "CT"}, series="each")]).decision.jobs
    assert [(job.selection, job.series_instance_uids) for job in jobs] == [("each", ("1.1", "1.2"))]


def test_images_of_two_patients_lead_to_no_job() -> None:
    said = decide(patients=(PATIENT, ("TEST-2", "", "TEST^QUIET", "", "")))
    assert said.to is StudyState.QUARANTINED
    assert said.decision.jobs == ()
    assert "differ in Patient ID." in said.reason


def test_a_rule_whose_engine_is_missing_leaves_the_study_waiting() -> None:
    said = decide(engines=set())
    assert said.to is StudyState.WAITING_FOR_ENGINE
    assert said.decision.jobs[0].waiting_for_engine
    assert "asks for classical-lung, which is not installed" in said.reason
    assert "dicom-node rerun --waiting" in said.reason


def test_a_missing_engine_does_not_hold_up_another() -> None:
    routes = [make_route({"Modality": "CT"}), make_route({"Modality": "CT"}, name="mv", engine="medversa")]
    said = decide(routes=routes)
    assert said.to is StudyState.ANALYSING
    assert [job.waiting_for_engine for job in said.decision.jobs] == [False, True]
    assert 'Rule "mv" asks for medversa' in said.reason


def test_an_unmatched_study_says_what_failed() -> None:
    said = decide(make_facts(make_header(Modality="MR")))
    assert said.to is StudyState.UNMATCHED
    assert said.reason == "No rule matched. chest-ct: Modality is MR, the rule asks for CT."
    assert decide(routes=[]).reason == "No rule matched: routes.yaml has no rule."


def test_results_that_go_nowhere_are_announced_in_study_and_rule() -> None:
    said = decide(make_facts(make_header(), senders=(make_sender("ct1"),)), peers={"ct1": make_peer()})
    assert said.decision.jobs[0].deliver_to == ()
    for reason in (said.reason, said.decision.routes[0].reason):
        assert 'Kept here only: peer "ct1" has no deliver. Add one: dicom-node peers' in reason
