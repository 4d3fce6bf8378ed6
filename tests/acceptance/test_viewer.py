"""A reader at a screen: the served viewer shows studies, outlines, reports and marks of this node."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom_node.demo.phantom import LEFT, RIGHT, ChestPhantom, write_phantom_study
from inference.results.read import segments_of
from tests.builders.browser import Browser
from tests.builders.hospital import Hospital
from tests.builders.result_sets import marks_on
from tests.builders.shared_data import shared_data
from tests.builders.viewing import Ohif, agreement, needed, tinted

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("viewer")]
SLICES, SPACING_MM, SEED = 60, 5.0, 11


@dataclass(frozen=True)
class Ward:
    """A node with a chest that was analysed, marks of another maker on it, and a reader."""

    hospital: Hospital
    ohif: Ohif
    study: dict[str, Any]
    marks: Dataset

    @property
    def uid(self) -> str:
        return str(self.study["study_instance_uid"])

    def result(self, kind: str) -> Dataset:
        return next(each for each in self.hospital.objects() if each.Modality == kind)


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    package, program = needed()
    folder = tmp_path_factory.mktemp("ward")
    (folder / "sent").mkdir()
    files = write_phantom_study(folder / "sent", slices=SLICES, spacing_mm=SPACING_MM, seed=SEED)
    hospital = Hospital(folder)
    try:
        hospital.node.start()
        (hospital.node.data_dir / "viewer").symlink_to(package)
        hospital.send(files)
        uid = str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
        study = hospital.node.await_state(uid, "answered")
        marks = marks_on([dcmread(file, stop_before_pixels=True) for file in files], at=30)
        (folder / "marks.dcm").write_bytes(marks.part10("sr"))
        assert hospital.send([folder / "marks.dcm"]) == [0x0000]
        with Browser(folder, program) as browser:
            yield Ward(hospital, Ohif(browser, hospital.node.url), study, marks.sr)
    finally:
        hospital.close()


def _series_of(ward: Ward, kind: str) -> str:
    return next(str(each["series_instance_uid"]) for each in ward.study["results"] if each["kind"] == kind)


def test_the_study_list_says_who_when_and_what(ward: Ward) -> None:
    ward.ohif.open_list()
    text = ward.ohif.read("Phantom, Chest", "Chest phantom")
    assert "CT\\SEG\\SR" in text
    assert f"{SLICES + 3}" in text.split()
    ward.ohif.keep("study-list")


def test_nothing_is_asked_of_anywhere_else_and_nothing_fails(ward: Ward) -> None:
    ward.ohif.open_study(ward.uid)
    ward.ohif.read(f"/{SLICES})")
    ward.ohif.still()
    own = (ward.hospital.node.url + "/", f"blob:{ward.hospital.node.url}/", "data:")
    asked = ward.ohif.asked("")
    assert len(asked) > 50
    assert [each["url"] for each in asked if not each["url"].startswith(own)] == []
    assert [each for each in asked if each["status"] not in (None, 200, 304)] == []
    assert ward.ohif.browser.complaints == []


def test_the_first_image_is_seen_and_its_thumbnail(ward: Ward) -> None:
    ward.ohif.open_study(ward.uid)
    ward.ohif.read(f"(1/{SLICES})", "S:2")
    shown = ward.ohif.shown_pixels(512, 512)
    image, _ = ChestPhantom(slices=SLICES, spacing_mm=SPACING_MM, seed=SEED).slice(0)
    expected = np.clip((image + 600 + 750) / 1500, 0, 1) * 255  # the window of the images
    assert np.median(abs(shown[:480, :, 0] - expected[:480])) < 12
    pictures = "[...document.querySelectorAll('[data-cy=study-browser-thumbnail] img')].map(e => e.naturalWidth)"
    widths = ward.ohif.browser.wait_for(
        f"(w => w.length && w.every(Boolean) && w)({pictures})", within_s=20, what="thumbnails"
    )
    assert len(widths) == 1
    ward.ohif.keep("first-image")


def test_opening_a_study_does_not_wait_long_for_the_node(ward: Ward) -> None:
    ward.ohif.browser.requests.clear()
    ward.ohif.open_study(ward.uid)
    ward.ohif.read(f"(1/{SLICES})")
    waits = {
        what: min(each["done"] - each["at"] for each in ward.ohif.asked(what) if "done" in each)
        for what in ("/series?", "/metadata", "/frames/")
    }
    assert sum(waits.values()) < 10.0, waits


def test_outlines_load_unasked_and_lie_on_the_lungs(ward: Ward) -> None:
    ward.ohif.open_study(ward.uid, _series_of(ward, "seg"))
    ward.ohif.read(f"(4/{SLICES})")  # the first image with an outline
    ward.ohif.scroll_to(31)
    shown = ward.ohif.shown_pixels(512, 512)
    ward.ohif.keep("outlines")
    _, labels = ChestPhantom(slices=SLICES, spacing_mm=SPACING_MM, seed=SEED).slice(30)
    assert agreement(tinted(shown), labels > 0) > 0.9
    red, blue = shown[..., 0] - shown[..., 2] > 24, shown[..., 2] - shown[..., 0] > 24
    assert agreement(red, labels == RIGHT) > 0.9
    assert agreement(blue, labels == LEFT) > 0.9


def test_segments_are_listed_by_their_labels(ward: Ward) -> None:
    ward.ohif.open_study(ward.uid, _series_of(ward, "seg"))
    ward.ohif.read(f"(4/{SLICES})")
    ward.ohif.press("panelSegmentation-btn")
    ward.ohif.read("Right lung", "Left lung")
    ward.ohif.keep("segments")


def test_marks_become_live_measurements_at_their_places(ward: Ward) -> None:
    ward.ohif.open_study(ward.uid, str(ward.marks.SeriesInstanceUID))
    ward.ohif.press("trackedMeasurements-btn")
    text = ward.ohif.read("Measurements (2)", "78.1 mm", "mm²", f"(31/{SLICES})")
    assert "Nodule" in text
    shown = ward.ohif.shown_pixels(1024, 1024)  # lines are thinner than pixels of the image
    ward.ohif.keep("marks")
    yellow = (shown[..., 0] > 150) & (shown[..., 1] > 150) & (shown[..., 2] < 110)
    rows = np.flatnonzero(yellow[:, 220:300].mean(axis=1) > 0.8)  # of the box, between its corners
    assert rows.min() == pytest.approx(400, abs=3)
    assert rows.max() == pytest.approx(520, abs=3)


def test_the_console_leads_to_the_study_with_its_outlines(ward: Ward) -> None:
    browser = ward.ohif.browser
    browser.open(f"{ward.hospital.node.url}/console/studies/{ward.uid}")
    link = "[...document.querySelectorAll('a')].find(e => e.innerText.startsWith('Open in the viewer'))"
    browser.wait_for(f"!!({link})", within_s=20, what="the console links to the viewer")
    ward.ohif.keep("console")
    browser.click_on(link)
    ward.ohif.read(f"(4/{SLICES})")
    assert tinted(ward.ohif.shown_pixels(512, 512)).any()


def test_outlines_of_a_real_chest_lie_where_the_object_says(ward: Ward) -> None:
    files = sorted(shared_data("ct_chest", "philips_64x5mm_kernelB").iterdir())
    headers = [dcmread(file, stop_before_pixels=True) for file in files]
    uid = str(headers[0].StudyInstanceUID)
    ward.hospital.send(files)
    study = ward.hospital.node.await_state(uid, "answered")
    seg = next(each for each in ward.hospital.objects() if each.Modality == "SEG" and each.StudyInstanceUID == uid)
    ward.ohif.open_study(uid, next(str(e["series_instance_uid"]) for e in study["results"] if e["kind"] == "seg"))
    ward.ohif.read("(", f"/{len(files)})")
    ward.ohif.scroll_to(32)
    shown = ward.ohif.shown_pixels(512, 512)
    ward.ohif.keep("real-chest")
    by_number = {int(each.InstanceNumber): str(each.SOPInstanceUID) for each in headers}
    source = by_number[_instance_number(ward)]
    drawn = [f.mask for s in segments_of(seg) for f in s.frames if f.source_sop_instance_uid == source]
    assert len(drawn) == 2
    assert agreement(tinted(shown), np.logical_or(*drawn)) > 0.9


def _instance_number(ward: Ward) -> int:
    shown = re.search(r"I:\s*(\d+) \(", ward.ohif.browser.text())
    assert shown is not None
    return int(shown[1])


def test_a_closed_node_asks_for_the_key_first_and_then_shows_the_study(tmp_path: Path) -> None:
    package, program = needed()
    hospital = Hospital(tmp_path, environ={"DICOM_NODE_AUTH__LOCAL": "closed", "DICOM_NODE_AUTH__ADMIN_KEY": "a" * 52})
    try:
        hospital.node.start()
        (hospital.node.data_dir / "viewer").symlink_to(package)
        (tmp_path / "sent").mkdir()
        files = write_phantom_study(tmp_path / "sent", slices=12, spacing_mm=5.0, seed=3)
        hospital.send(files)
        uid = str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
        with Browser(tmp_path, program) as browser:
            ohif = Ohif(browser, hospital.node.url)
            address = f"{hospital.node.url}/viewer/viewer?StudyInstanceUIDs={uid}"
            browser.open(address)
            _log_in(browser, "a" * 52)
            ohif.read("(1/12)", within_s=120)
    finally:
        hospital.close()


def _log_in(browser: Browser, key: str) -> None:
    """Type the key and press the button; each step waits for what the one before it does to the page."""
    field = "document.querySelector('#key')"
    browser.wait_for(f"!!({field}) && document.readyState === 'complete'", within_s=30, what="the login")
    browser.click_on(field)
    browser.wait_for(f"document.activeElement === {field}", within_s=10, what="the field takes the keys")
    browser.do("Input.insertText", text=key)
    browser.wait_for(f"{field}.value === {key!r}", within_s=10, what="the key is in the field")
    browser.click_on("document.querySelector('main button')")
    browser.wait_for("location.pathname.startsWith('/viewer')", within_s=30, what="the viewer after the login")
