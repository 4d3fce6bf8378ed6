"""Results on enhanced and legacy-converted images: references name their frames, outlines lie in their places."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydicom.uid import EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from inference.errors import UnusableAnswer
from inference.findings import ImageLocation, MeasurementGroup
from inference.findings_codec import decode_findings, encode_findings, frame_numbers_of
from inference.functional_groups import frame_headers
from inference.results import codes, gate
from inference.results.build import build_results
from inference.results.evidence import Evidence
from inference.results.forms import Form
from inference.results.frames import frame_facts
from inference.results.read import segments_of
from inference.results.result import Result
from tests.builders.findings import NODE, ct_headers, lungs, make_run, pictures
from tests.builders.multi_frame import frames_of_one_image, multi_frame
from tests.builders.result_sets import items, name

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

CLASSES = [EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage]


def built(used: Evidence, form: str = "binary+comprehensive-3d") -> dict[str, Result]:
    results = build_results(lungs(), used, make_run(used), NODE, Form.of(form), pictures())
    return {result.kind: result for result in results}


@pytest.mark.parametrize("sop_class", CLASSES)
@pytest.mark.parametrize("shuffled", [False, True], ids=["in order", "shuffled"])
@pytest.mark.parametrize("form", ["binary+none", "labelmap+none"])
def test_each_frame_names_the_frame_it_was_drawn_on_and_lies_there(form: str, shuffled: bool, sop_class: str) -> None:
    used = frames_of_one_image(sop_class, shuffled=shuffled)
    seg = built(used, form)["seg"].dataset
    places = {
        number: np.array(header.ImagePositionPatient, dtype=float)
        for header, number in zip(used, used.frame_numbers, strict=True)
    }
    for frame in frame_facts(seg):
        (derivation,) = frame.derivations
        (source,) = derivation.sources
        assert source.sop_class_uid == sop_class
        assert np.allclose(places[source.frame_number], frame.position)


def test_masks_come_back_in_the_order_of_the_slices_whatever_the_order_of_the_frames() -> None:
    used = frames_of_one_image(shuffled=True)
    seg = built(used)["seg"].dataset
    uids = [str(header.SOPInstanceUID) for header in used]
    for read, segment in zip(segments_of(seg), lungs().segments, strict=True):
        assert np.array_equal(read.stacked(uids, used.frame_numbers), segment.mask)


def test_image_is_referred_to_once() -> None:
    made = built(frames_of_one_image())
    (series,) = made["seg"].dataset.ReferencedSeriesSequence
    assert len(series.ReferencedInstanceSequence) == 1
    assert sum(name(item) == "Source" for item in items(made["sr"].dataset, "IMAGE")) == 1
    assert not any("Image Position" in name(item) for item in items(made["sr"].dataset, "NUM"))


def test_several_images_of_several_frames_make_one_series() -> None:
    images = [multi_frame(range(6)), multi_frame(range(6, 12), first=1)]
    used = Evidence.of_frames([images[0]] * 6 + [images[1]] * 6, [*range(1, 7), *range(1, 7)])
    seg = built(used)["seg"].dataset
    assert len(seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 2


@pytest.mark.parametrize(
    "form", ["none+basic-text", "none+pdf", "none+summary", "capture+comprehensive", "none+enhanced"]
)
def test_every_form_is_made_of_frames_too(form: str) -> None:
    assert built(frames_of_one_image(), form)


def test_mark_on_a_frame_is_drawn_on_that_frame_alone() -> None:
    used = frames_of_one_image(shuffled=True)
    line = ImageLocation("POLYLINE", ((8.0, 40.0), (50.0, 40.0)), str(used[0].SOPInstanceUID), used.frame_numbers[4])
    other = replace(line, frame_number=used.frame_numbers[9], points=((8.0, 30.0), (50.0, 30.0)))
    groups = tuple(
        MeasurementGroup(f"line-{place.frame_number}", codes.LUNG, codes.LUNG, None, (), location=place)
        for place in (line, other)
    )
    findings = lungs(segments=(), groups=groups)
    (capture,) = build_results(findings, used, make_run(used), NODE, Form.of("capture+none"), pictures())
    sources = [item.ReferencedFrameNumber for item in capture.dataset.SourceImageSequence]
    assert sources == [used.frame_numbers[4], used.frame_numbers[9]]
    first, second = (amber_rows(frame) for frame in capture.dataset.pixel_array)
    assert abs(first - second) > 50  # ten rows, enlarged


def amber_rows(frame: np.ndarray) -> float:  # type: ignore[type-arg]
    """Middle of the rows in which most is drawn in the colour of marks."""
    amber = np.all(frame == (255, 200, 60), axis=2).sum(axis=1)
    return float(np.flatnonzero(amber > 100).mean())


def test_frame_that_names_another_frame_is_refused_by_the_gate() -> None:
    used = frames_of_one_image()
    made = built(used)
    seg = made["seg"].dataset
    item = seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    item.ReferencedFrameNumber = item.ReferencedFrameNumber % 12 + 1
    with pytest.raises(UnusableAnswer, match="lies elsewhere"):
        gate.check(list(made.values()), used)


def test_frame_numbers_are_stored_with_the_findings_and_absent_for_images_of_one_frame() -> None:
    uids = ["1.2.3"] * 12
    content = encode_findings(lungs(), uids, list(range(1, 13)))
    assert frame_numbers_of(content) == tuple(range(1, 13))
    assert decode_findings(content)[1] == tuple(uids)
    plain = encode_findings(lungs(), uids)
    assert plain == encode_findings(lungs(), uids, [None] * 12)
    assert frame_numbers_of(plain) == ()


def test_headers_of_frames_are_those_of_single_images() -> None:
    used = frames_of_one_image(shuffled=True)
    assert [list(header.ImagePositionPatient) for header in used] == [
        list(header.ImagePositionPatient) for header in ct_headers()
    ]
    assert len(frame_headers(multi_frame(range(3)))) == 3
