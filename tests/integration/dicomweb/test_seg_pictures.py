"""Segmentations of any maker on their images, as pictures."""

from __future__ import annotations

from io import BytesIO

import highdicom as hd
import numpy as np
import numpy.typing as npt
import pytest
from httpx import Client
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes

from tests.builders.ct import encode, make_ct_instance, make_ct_series, uid
from tests.builders.shared_data import shared_data
from tests.builders.web import PaperWeb

SIZE = 32
IMAGES = {"Rows": SIZE, "Columns": SIZE, "PixelData": np.full((SIZE, SIZE), 1024, np.uint16).tobytes()}


def make_seg(sources: list[Dataset], mask: npt.NDArray[np.bool_], **changed: object) -> Dataset:
    """A segmentation by another maker's library: one segment, (slices, rows, columns)."""
    described = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="Liver",
        segmented_property_category=codes.SCT.Organ,
        segmented_property_type=codes.SCT.Liver,
        algorithm_type="MANUAL",
    )
    for each in sources:
        each.file_meta = dcmread(BytesIO(encode(each))).file_meta
    made = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=mask.astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=[described],
        series_instance_uid=uid(1, 9),
        series_number=9,
        sop_instance_uid=uid(1, 9, 1),
        instance_number=1,
        manufacturer="Other",
        manufacturer_model_name="Other",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=True,
    )
    for keyword, value in changed.items():
        setattr(made, keyword, value)
    return made


def masks() -> npt.NDArray[np.bool_]:
    """An L in the second slice, nothing in the first, a dot in the third."""
    mask = np.zeros((3, SIZE, SIZE), np.bool_)
    mask[1, 4:20, 6:10] = True
    mask[1, 16:20, 6:26] = True
    mask[2, 30, 30] = True
    return mask


def path(image: str = "", **more: object) -> str:
    asked = "&".join(f"{name}={value}" for name, value in ({"image": image} | more).items() if value)
    return f"/api/studies/{uid(1)}/instances/{uid(1, 9, 1)}/overlay" + (f"?{asked}" if asked else "")


def coloured(content: bytes) -> npt.NDArray[np.bool_]:
    return np.asarray(np.ptp(np.asarray(Image.open(BytesIO(content)).convert("RGB")).astype(int), axis=2) > 12)


@pytest.fixture
def kept(web: PaperWeb) -> list[Dataset]:
    """Three images and a segmentation of them."""
    sources = make_ct_series(3, **IMAGES)
    for each in sources:
        web.receive(each)
    web.receive(make_seg(sources, masks()))
    return sources


def test_it_is_shown_where_it_has_most_unless_an_image_is_named(kept: list[Dataset], client: Client) -> None:
    picture = client.get(path())
    assert picture.status_code == 200, picture.text
    assert picture.headers["content-type"] == "image/png"
    assert np.array_equal(coloured(picture.content), masks()[1])
    for number, each in enumerate(kept):
        assert np.array_equal(coloured(client.get(path(str(each.SOPInstanceUID))).content), masks()[number])


def test_the_console_shows_segmentations_of_other_makers(kept: list[Dataset], client: Client) -> None:
    page = client.get(f"/console/studies/{uid(1)}").text
    assert "Segmentations of other makers" in page
    shown = f"/api/studies/{uid(1)}/instances/{uid(1, 9, 1)}/overlay?accept=image/jpeg"
    assert shown in page
    assert client.get(shown).headers["content-type"] == "image/jpeg"


def test_jpeg_is_given_where_it_is_asked_for(kept: list[Dataset], client: Client) -> None:
    answer = client.get(path(quality=50), headers={"Accept": "image/jpeg"})
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(BytesIO(answer.content)).size == (SIZE, SIZE)
    assert client.get(path(), headers={"Accept": "image/webp"}).status_code == 406


def test_who_has_it_already_is_told_so(kept: list[Dataset], client: Client) -> None:
    known = client.get(path()).headers["etag"]
    assert client.get(path(), headers={"If-None-Match": known}).status_code == 304


def test_position_decides_not_the_named_image_nor_the_order(web: PaperWeb, client: Client) -> None:
    sources = make_ct_series(3, **IMAGES)
    seg = make_seg(sources, masks())
    first = seg.PerFrameFunctionalGroupsSequence[0]
    first.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID = uid(1, 1, 1)  # a false name
    for each in (sources[2], sources[0], sources[1], seg):
        web.receive(each)
    assert not coloured(client.get(path(uid(1, 1, 1))).content).any()
    assert np.array_equal(coloured(client.get(path(uid(1, 1, 2))).content), masks()[1])


def test_another_grid_is_laid_by_millimetres(web: PaperWeb, client: Client) -> None:
    # The image has pixels of half the size and begins elsewhere: what is outlined stays where it is in the patient.
    sources = make_ct_series(3, **IMAGES)
    fine = make_ct_instance(
        5,
        series=3,
        ImagePositionPatient=[0.75 * 4, 0.75 * 2, 5.0],
        PixelSpacing=[0.375, 0.375],
        FrameOfReferenceUID=uid(1, 0),
        **IMAGES,
    )
    web.receive(fine)
    web.receive(make_seg(sources, masks()))
    shown = coloured(client.get(path(str(fine.SOPInstanceUID))).content)
    halves = np.floor(np.arange(SIZE) / 2 + 0.5).astype(int)  # the whole pixel whose centre is nearest
    assert np.array_equal(shown, masks()[1][np.ix_(halves + 2, halves + 4)])


def test_without_a_frame_of_reference_the_named_image_decides(web: PaperWeb, client: Client) -> None:
    sources = make_ct_series(3, **IMAGES)
    seg = make_seg(sources, masks(), FrameOfReferenceUID=None)
    for each in (*sources, seg):
        web.receive(each)
    assert np.array_equal(coloured(client.get(path(uid(1, 1, 2))).content), masks()[1])


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"SegmentationType": "FRACTIONAL"}, 422),
        ({"SegmentationType": None}, 422),
        ({"SegmentSequence": []}, 422),
        ({"PixelData": b"\1\2"}, 422),
        ({"Rows": 60_000, "Columns": 60_000, "NumberOfFrames": 2}, 422),
        ({"NumberOfFrames": 900}, 422),
        ({"PerFrameFunctionalGroupsSequence": []}, 422),
    ],
)
def test_a_hostile_segmentation_is_refused_and_harms_nothing(
    web: PaperWeb, client: Client, changed: dict[str, object], status: int
) -> None:
    sources = make_ct_series(3, **IMAGES)
    for each in (*sources, make_seg(sources, masks(), **changed)):
        web.receive(each)
    for asked in (path(), path(uid(1, 1, 2))):
        answer = client.get(asked)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
    assert client.get("/live").status_code == 200


def test_only_segmentations_on_images_of_the_same_study_are_drawn(
    web: PaperWeb, client: Client, kept: list[Dataset]
) -> None:
    other = make_ct_instance(1, study=2, **IMAGES)
    web.receive(other)
    assert client.get(path(str(other.SOPInstanceUID))).status_code == 404
    assert client.get(path("1.2.3")).status_code == 404
    assert client.get(path(uid(1, 1, 1), frame=7)).status_code == 404
    assert client.get(path(image="x")).status_code == 400
    for study, instance in ((uid(2), uid(1, 9, 1)), (uid(1), uid(1, 1, 1)), (uid(1), "1.2.3")):
        assert client.get(f"/api/studies/{study}/instances/{instance}/overlay").status_code == 404


def test_a_segmentation_of_another_maker_is_drawn_on_its_real_images(web: PaperWeb, client: Client) -> None:
    images = [dcmread(file) for file in sorted(shared_data("ct_abdomen", "dcmqi_liver_ct_3slice").iterdir())]
    seg = dcmread(shared_data("ct_abdomen", "dcmqi_liver_seg", "liver.dcm"))
    for each in (*images, seg):
        web.receive(each)
    asked = f"/api/studies/{seg.StudyInstanceUID}/instances/{seg.SOPInstanceUID}/overlay"
    areas = []
    for each in images:
        answer = client.get(f"{asked}?image={each.SOPInstanceUID}")
        assert answer.status_code == 200, answer.text
        areas.append(int(coloured(answer.content).sum()))
    assert sorted(areas) == sorted(int(plane.sum()) for plane in seg.pixel_array)
