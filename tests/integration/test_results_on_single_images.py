"""Results on images that lie in no frame of reference: told by pixel, with no spatial attribute invented."""

from __future__ import annotations

import io
from dataclasses import replace

import highdicom as hd
import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread

from inference.errors import UnusableAnswer
from inference.findings import SpaceLocation
from inference.grid import read_grid
from inference.results import gate
from inference.results.evidence import Evidence
from inference.results.forms import Form
from inference.results.frames import frame_facts
from inference.results.read import segments_of
from tests.builders.findings import FRAME_OF_REFERENCE, ct_headers, lungs, make_run, marked
from tests.builders.grids import KINDS, blob, grid_header, outlined, ramp
from tests.builders.result_sets import ResultSet, built, items, name
from tests.builders.series import folder_sources
from tests.builders.shared_data import shared_data

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SEGMENTATIONS = ["binary+none", "labelmap+none"]
FORMS = [
    *("binary+comprehensive-3d", "binary+comprehensive", "binary+enhanced", "labelmap+comprehensive-3d"),
    *("none+basic-text", "none+pdf", "none+summary", "capture+comprehensive"),
]
SPATIAL = (
    *("FrameOfReferenceUID", "PositionReferenceIndicator", "ImagePositionPatient", "ImageOrientationPatient"),
    *("PixelSpacing", "SliceThickness", "SpacingBetweenSlices", "DimensionOrganizationType"),
)


def made(kind: str, form: str = "binary+comprehensive-3d", *masks: np.ndarray) -> ResultSet:  # type: ignore[type-arg]
    header = grid_header(kind)
    findings = outlined(header, *masks)
    return built(findings, evidence=(header,), run=make_run((header,)), form=Form.of(form), shown=ramp(header))


@pytest.mark.parametrize("form", SEGMENTATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_mask_comes_back_bit_for_bit_in_our_reader_in_highdicom_and_in_pydicom(kind: str, form: str) -> None:
    small = np.zeros_like(blob())
    small[0, 3:5, 40:43] = True
    result = made(kind, form, blob(), small)
    uid = str(result.evidence[0].SOPInstanceUID)
    theirs = hd.seg.segread(io.BytesIO(result.part10("seg"))).get_pixels_by_source_instance(
        [uid], ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )
    pixels = result.seg.pixel_array
    for index, (read, mask) in enumerate(zip(segments_of(result.seg), (blob(), small), strict=True)):
        assert np.array_equal(read.stacked([uid]), mask)
        assert np.array_equal(theirs[..., index].astype(np.bool_), mask)
        plain = pixels == index + 1 if form.startswith("labelmap") else pixels[index] > 0
        assert np.array_equal(plain, mask[0])


@pytest.mark.parametrize("form", SEGMENTATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_place_is_invented(kind: str, form: str) -> None:
    seg = made(kind, form).seg
    said = {element.keyword for element in seg.iterall()}
    assert not said & set(SPATIAL)
    assert all(facts.position is None for facts in frame_facts(seg))


@pytest.mark.parametrize("kind", KINDS)
def test_segmentation_says_which_way_the_image_shows_the_patient(kind: str) -> None:
    seg = made(kind, "binary+none").seg
    assert list(seg.PatientOrientation or []) == list(KINDS[kind].get("PatientOrientation", []))
    assert seg.get("ImageLaterality") == KINDS[kind].get("ImageLaterality")
    assert seg.LossyImageCompression == KINDS[kind].get("LossyImageCompression", "00")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_form_is_made(kind: str, form: str) -> None:
    kinds = [result.kind for result in made(kind, form).results]
    assert kinds == [each for each in (Form.of(form).outlines_kind, Form.of(form).report_kind) if each]


def test_same_findings_give_the_same_bytes() -> None:
    for form in FORMS:
        assert [one.part10 for one in made("DX", form).results] == [one.part10 for one in made("DX", form).results]


def test_report_names_segment_and_image_in_a_planar_group() -> None:
    result = made("DX")
    report = hd.sr.srread(io.BytesIO(result.part10("sr")))
    (group,) = [g for g in report.content.get_planar_roi_measurement_groups() if g.reference_type.value == "121214"]
    frame, image = group.referenced_segmentation_frame
    (segment,) = frame.ReferencedSOPSequence
    assert (segment.ReferencedSOPInstanceUID, segment.ReferencedSegmentNumber) == (result.seg.SOPInstanceUID, 1)
    assert "ReferencedFrameNumber" not in segment  # PS3.3 C.18.4: one of them alone
    assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == result.evidence[0].SOPInstanceUID
    assert [measured.value for measured in group.get_measurements()] == [pytest.approx(blob().sum() * 0.04)]


def test_marks_are_two_dimensional_references_to_the_image() -> None:
    result = made("CR")
    (mark,) = items(result.sr, "SCOORD")
    (image,) = mark.ContentSequence
    assert list(mark.GraphicData)[:4] == [10.0, 12.0, 20.0, 12.0]
    assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == result.evidence[0].SOPInstanceUID
    assert not items(result.sr, "SCOORD3D")
    assert not any("Frame of Reference" in name(each) for each in items(result.sr, "UIDREF"))


def test_mark_in_space_on_an_image_that_lies_nowhere_is_refused() -> None:
    header = grid_header("DX")
    mark = replace(marked().groups[-1], location=SpaceLocation("POINT", ((1.0, 2.0, 3.0),), FRAME_OF_REFERENCE))
    for place in (mark, replace(mark, location=SpaceLocation("POINT", ((1.0, 2.0, 3.0),), ""))):
        with pytest.raises(UnusableAnswer, match="frame of reference"):
            built(lungs(segments=(), groups=(place,)), evidence=(header,), run=make_run((header,)))


def test_outlines_on_several_images_that_lie_nowhere_are_refused() -> None:
    headers = (grid_header("DX"), grid_header("DX"))
    headers[1].SOPInstanceUID = "1.2.3.4"
    findings = outlined(headers[0], np.concatenate([blob(), blob()]))
    with pytest.raises(UnusableAnswer, match="2 images without a frame of reference"):
        built(findings, evidence=headers, run=make_run(headers))


def test_one_frame_of_a_photograph_of_several_is_named_by_its_number() -> None:
    header = grid_header("VL photograph")
    header.NumberOfFrames = 3
    evidence = Evidence([header], [2])
    result = built(outlined(header), evidence=evidence, run=make_run((header,)))
    (facts,) = frame_facts(result.seg)
    assert facts.derivations[0].sources[0].frame_number == 2
    (read,) = segments_of(result.seg)
    assert np.array_equal(read.stacked([header.SOPInstanceUID], [2]), blob())


def test_captures_of_images_of_different_size_have_one_size() -> None:
    headers = (grid_header("DX", rows=700, columns=600), grid_header("DX", rows=640, columns=660))
    headers[1].SOPInstanceUID = f"{headers[0].SOPInstanceUID}.2"
    groups = []
    for number, header in enumerate(headers):
        box = outlined(header).groups[-1]
        groups.append(replace(box, tracking_id=f"box-{number}"))
    shown = [ramp(header).shown(0) for header in headers]
    findings = lungs(segments=(), groups=tuple(groups))
    pictures = replace(ramp(headers[0]), render=lambda index: shown[index])
    result = built(findings, evidence=headers, run=make_run(headers), form=Form.of("capture+none"), shown=pictures)
    capture = result.of_kind("capture")
    assert (capture.NumberOfFrames, capture.Rows, capture.Columns) == (2, 700, 660)
    assert not capture.pixel_array[0][:, :25].any()  # black beside the narrower one


BROKEN = {
    "frame of reference": lambda seg: setattr(seg, "FrameOfReferenceUID", FRAME_OF_REFERENCE),
    "Patient Orientation": lambda seg: delattr(seg, "PatientOrientation"),
    "PixelMeasuresSequence": lambda seg: setattr(
        seg.SharedFunctionalGroupsSequence[0], "PixelMeasuresSequence", [Dataset()]
    ),
    "has a position": lambda seg: setattr(
        seg.PerFrameFunctionalGroupsSequence[0], "PlanePositionSequence", [_somewhere()]
    ),
    "source image": lambda seg: setattr(
        seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0],
        "ReferencedSOPInstanceUID",
        "1.2.3",
    ),
}


def _somewhere() -> Dataset:
    item = Dataset()
    item.ImagePositionPatient = [0, 0, 0]
    return item


@pytest.mark.parametrize("said", BROKEN)
def test_gate_refuses_what_is_wrong_on_such_images(said: str) -> None:
    result = made("DX")
    gate.check(result.results, result.evidence)
    BROKEN[said](result.seg)
    with pytest.raises(UnusableAnswer, match=said):
        gate.check(result.results, result.evidence)


def test_an_image_without_a_place_among_others_that_have_one_is_refused() -> None:
    headers = ct_headers()
    del headers[4].ImagePositionPatient
    with pytest.raises(UnusableAnswer, match="no position"):
        built(lungs(), evidence=headers)


@pytest.mark.parametrize("file", ["nih_pa_no_finding.dcm", "nema_RG1_thorax_J2KI.dcm", "gdcm_CR-MONO1-10-chest.dcm"])
def test_masks_on_real_chest_radiographs_come_back_bit_for_bit(file: str) -> None:
    path = shared_data("cxr", file)
    grid = read_grid(folder_sources(path)[0])
    mask = (grid.array < np.median(grid.array))[None]
    header = dcmread(path, stop_before_pixels=True)
    findings = outlined(header, mask)
    run = make_run((header,), study_instance_uid=header.StudyInstanceUID)
    for form in SEGMENTATIONS:
        (read,) = segments_of(built(findings, evidence=(header,), run=run, form=Form.of(form)).seg)
        assert np.array_equal(read.stacked([header.SOPInstanceUID]), mask)


def test_mask_on_a_real_photograph_of_skin_comes_back_bit_for_bit() -> None:
    photograph = np.asarray(Image.open(shared_data("derm", "ISIC_0012222.jpg")).convert("RGB"))
    header = grid_header("VL photograph", rows=photograph.shape[0], columns=photograph.shape[1])
    mask = (photograph.mean(axis=2) < 100)[None]
    result = built(
        outlined(header, mask),
        evidence=(header,),
        run=make_run((header,)),
        shown=replace(ramp(header), render=lambda _: photograph),
        form=Form.of("labelmap+none"),
    )
    (read,) = segments_of(result.seg)
    assert np.array_equal(read.stacked([header.SOPInstanceUID]), mask)
