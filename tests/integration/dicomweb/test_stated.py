"""What other makers' reports and segmentations state, over HTTP."""

from __future__ import annotations

import io

import pytest
from httpx import Client
from pydicom import Dataset

from dicom_node.pictures import KeptReadings
from storage.findings_store import FindingsStore
from storage.records import Origin, OriginKind
from tests.builders.findings import STUDY, lungs
from tests.builders.result_sets import built
from tests.builders.web import PaperWeb

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def reading(web: PaperWeb) -> PaperWeb:
    """Have the node read what it keeps, rather than say what it was told."""
    real = KeptReadings(web.index, web.blobs, FindingsStore(web.database, web.blobs))
    web.readings.stated = real.stated  # type: ignore[method-assign]
    return web


def keep(web: PaperWeb, part10: bytes) -> None:
    web.intake.receive(io.BytesIO(part10), Origin(kind=OriginKind.DIMSE, peer="vendor"))


def test_report_and_segmentation_of_another_maker_are_told_as_findings(reading: PaperWeb, client: Client) -> None:
    for result in built(lungs()).results:
        keep(reading, result.part10)
    told = client.get(f"/api/studies/{STUDY}/findings").json()
    assert told["schema"] == "stated/1"
    seg, sr = sorted((each["findings"] for each in told["objects"]), key=lambda each: len(each["groups"]))
    assert [one["label"] for one in seg["segments"]] == ["Right lung", "Left lung"]
    figures = {m["name"]["meaning"]: m["value"] for group in sr["groups"] for m in group["measurements"]}
    assert figures["Volume"] == 0.0102
    assert "not checked by this node" in sr["summary"]
    assert all(each["not_read"] == "" for each in told["objects"])


def test_what_cannot_be_read_is_named_with_its_reason_and_the_rest_is_told(reading: PaperWeb, client: Client) -> None:
    made = built(lungs())
    keep(reading, made.part10("seg"))
    sr = made.sr
    sr.ConceptNameCodeSequence[0].CodeValue = "121070"
    keep(reading, encoded(sr))
    told = client.get(f"/api/studies/{STUDY}/findings").json()["objects"]
    assert sorted(bool(each["findings"]) for each in told) == [False, True]
    (reason,) = [each["not_read"] for each in told if each["findings"] is None]
    assert "no Imaging Measurement Report" in reason


def test_damaged_segmentation_is_no_error_of_the_node(reading: PaperWeb, client: Client) -> None:
    seg = built(lungs()).seg
    seg.Rows = 50000
    seg.Columns = 50000
    keep(reading, encoded(seg))
    (told,) = client.get(f"/api/studies/{STUDY}/findings").json()["objects"]
    assert told["findings"] is None
    assert "too large" in told["not_read"]


def test_images_are_not_among_what_is_stated_and_unknown_studies_are_404(reading: PaperWeb, client: Client) -> None:
    keep(reading, built(lungs()).part10("seg"))
    assert len(client.get(f"/api/studies/{STUDY}/findings").json()["objects"]) == 1
    assert client.get("/api/studies/1.2.3.4/findings").status_code == 404


def encoded(dataset: Dataset) -> bytes:
    target = io.BytesIO()
    dataset.save_as(target)
    return target.getvalue()
