"""Pictures that are burned in: in the right place, with the right letters."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from pydicom import Dataset, dcmread, dcmwrite
from scipy import ndimage

from inference.findings import Findings
from inference.results.capture import MOST_FRAMES
from inference.results.drawing import wrapped
from inference.results.evidence import Evidence
from inference.results.forms import Form
from inference.results.orientation_letters import edge_letters
from inference.results.pictures import WindowedPictures
from inference.results.report_content import NOT_DRAWABLE, page_content
from tests.builders.findings import ct_headers, lungs, make_run, marked, pictures
from tests.builders.result_sets import built

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
CAPTURE = Form("capture", "none")


def test_outline_is_the_edge_of_the_mask_and_what_lies_inside_stays_to_be_seen() -> None:
    shape = (3, 512, 512)
    mask = np.zeros(shape, dtype=np.bool_)
    mask[1, 200:300, 150:260] = True
    mask[1, 200:230, 150:180] = False  # asymmetric
    segment = replace(lungs().segments[0], mask=mask, colour=(1, 2, 3))
    findings = lungs(segments=(segment,), groups=())
    evidence = ct_headers(3, rows=512, columns=512, spacing=(0.7, 0.7))
    shown = WindowedPictures(np.full(shape, -600, dtype=np.int16), centre=-600, width=1500)
    capture = built(findings, evidence=evidence, run=make_run(evidence), form=CAPTURE, shown=shown).of_kind("capture")
    (frame,) = frames(capture)
    edge = mask[1] & ~ndimage.binary_erosion(mask[1])
    drawn = np.all(frame == (1, 2, 3), axis=2)
    assert np.array_equal(drawn[:400], edge[:400])  # the legend stands below in the same colour
    assert np.all(frame[ndimage.binary_erosion(mask[1])] == frame[250, 200])
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == evidence[1].SOPInstanceUID


def test_slice_is_shown_through_its_window() -> None:
    shown = WindowedPictures(np.array([[[-1350, -600, 149, 500]]], dtype=np.int16), centre=-600, width=1500)
    assert shown.shown(0).tolist() == [[0, 127, 255, 255]]


def test_pixels_that_are_not_square_are_shown_in_true_proportion() -> None:
    evidence = ct_headers(spacing=(1.6, 0.8))
    capture = built(lungs(), evidence=evidence, run=make_run(evidence), form=CAPTURE, shown=pictures()).of_kind(
        "capture"
    )
    assert capture.Rows == pytest.approx(2 * capture.Columns, rel=0.01)


def test_long_series_is_sampled_and_says_so() -> None:
    shape = (60, 64, 64)
    mask = np.zeros(shape, dtype=np.bool_)
    mask[2:58, 20:40, 20:40] = True
    findings = lungs(segments=(replace(lungs().segments[0], mask=mask),), groups=())
    evidence = ct_headers(60)
    capture = built(findings, evidence=evidence, run=make_run(evidence), form=CAPTURE, shown=pictures(60)).of_kind(
        "capture"
    )
    assert capture.NumberOfFrames == MOST_FRAMES
    assert f"{MOST_FRAMES} of 56 images with outlines" in capture.DerivationDescription
    assert len({item.ReferencedSOPInstanceUID for item in capture.SourceImageSequence}) == MOST_FRAMES


@pytest.mark.parametrize(
    ("cosines", "letters"),
    [
        ((1, 0, 0, 0, 1, 0), ("R", "L", "A", "P")),
        ((-1, 0, 0, 0, 1, 0), ("L", "R", "A", "P")),
        ((0, 1, 0, 0, 0, -1), ("A", "P", "H", "F")),
        ((1, 0, 0, 0, 0, -1), ("R", "L", "H", "F")),
        ((0.8, 0.6, 0, 0, 0, -1), ("RA", "LP", "H", "F")),
    ],
)
def test_letters_say_which_side_lies_at_each_edge(cosines: tuple[float, ...], letters: tuple[str, ...]) -> None:
    header = Dataset()
    header.ImageOrientationPatient = [str(value) for value in cosines]
    assert edge_letters(header) == letters


def test_letters_of_a_projection_are_those_that_its_header_says() -> None:
    header = Dataset()
    assert edge_letters(header) is None
    header.PatientOrientation = ["L", "F"]
    assert edge_letters(header) == ("R", "L", "H", "F")
    header.PatientOrientation = ["?", "F"]
    assert edge_letters(header) is None


def test_marks_are_drawn_on_their_image() -> None:
    with_marks = frames(built(marked(), form=CAPTURE, shown=pictures()).of_kind("capture"))
    assert any(
        (frame == (255, 200, 60)).all(axis=2)[90:260, 75:85].any() for frame in with_marks
    )  # left edge of the box


def test_name_that_the_page_cannot_show_is_said_to_be_so() -> None:
    evidence = ct_headers(SpecificCharacterSet="ISO_IR 192", PatientName="\u9ad8\u6a4b^\u592a\u90ce")
    content = page_content(Findings(summary="RESEARCH USE."), Evidence(evidence), make_run(evidence))
    assert dict(content.identity)["Patient"] == NOT_DRAWABLE


@pytest.mark.parametrize("text", ["", "one", "a" * 25, "many words in one line and so on", "two\nlines"])
def test_wrapped_text_loses_nothing(text: str) -> None:
    lines = list(wrapped(text, 10))
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(len(line) <= 10 for line in lines)


def frames(capture: Dataset) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    target = io.BytesIO()
    dcmwrite(target, capture, enforce_file_format=True)
    target.seek(0)
    pixels = dcmread(target).pixel_array
    return pixels if pixels.ndim == 4 else pixels[None]
