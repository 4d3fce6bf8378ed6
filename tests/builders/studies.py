"""Records, senders and facts of made-up studies, on a clock of their own."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pydicom import Dataset

from configs.peers import Peer
from configs.routes import Route
from dicom_node.routing.facts import SeriesFacts, StudyFacts
from storage.records import Sender, StudyRecord, StudyState

#: When the made-up studies begin.
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
STUDY_UID = "1.2.826.0.1.3680043.10.999.1"


def at(seconds: float) -> datetime:
    """Give a moment, by seconds after the start."""
    return START + timedelta(seconds=seconds)


def make_study(**overrides: Any) -> StudyRecord:
    """Make a gathering study whose only instance came at the start."""
    study = StudyRecord(
        study_instance_uid=STUDY_UID,
        patient_id="TEST-1",
        patient_name="Test^Quiet",
        accession_number="",
        study_date="20260301",
        study_time="120000",
        study_description="",
        modalities=("CT",),
        number_of_series=1,
        number_of_instances=1,
        number_of_inputs=1,
        state=StudyState.GATHERING,
        reason="",
        input_version=1,
        decision_number=0,
        first_received_at=START,
        gathering_since=START,
        last_instance_at=START,
        state_since=START,
    )
    return replace(study, **overrides)


def make_sender(peer: str = "ct1", *, last: float = 0.0, active: bool = False, **overrides: Any) -> Sender:
    """Make a sender whose last instance came `last` seconds after the start."""
    sender = Sender(peer, peer.upper(), "DICOMNODE", "10.1.2.3", at(last), active)
    return replace(sender, **overrides)


def make_header(**attributes: Any) -> Dataset:
    """Make the header of a CT image, without pixel data."""
    header = Dataset()
    header.Modality = "CT"
    header.SliceThickness = "1.250"
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.PatientName = "Test^Quiet"
    header.PatientID = "TEST-1"
    for keyword, value in attributes.items():
        if value is None:
            del header[keyword]
        else:
            setattr(header, keyword, value)
    return header


def make_facts(*headers: Dataset | None, senders: tuple[Sender, ...] = (make_sender(),)) -> StudyFacts:
    """Make the facts of a study with one series for each header, named `1.1`, `1.2`, and so on."""
    series = tuple(SeriesFacts(f"1.{number}", header) for number, header in enumerate(headers, start=1))
    return StudyFacts(STUDY_UID, senders, series)


def make_peer(**raw: Any) -> Peer:
    """Make a peer from the words of `peers.yaml`."""
    return Peer.model_validate({"ae_title": "CT1", "host": "10.1.2.3", **raw})


def make_route(when: Any = None, **raw: Any) -> Route:
    """Make a rule from the words of `routes.yaml`."""
    raw = {"name": "chest-ct", "engine": "classical-lung", **raw}
    return Route.model_validate(raw if when is None else {**raw, "when": when})
