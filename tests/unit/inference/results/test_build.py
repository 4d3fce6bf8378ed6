"""The same run gives the same bytes, wherever and whenever."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from inference.errors import UnusableAnswer
from inference.results.build import build_results, encode
from tests.builders.findings import NODE, ct_headers, lungs, make_run, refused, second_run
from tests.builders.result_sets import built


def test_segmentation_goes_before_the_report_that_names_it() -> None:
    assert [result.kind for result in built(lungs()).results] == ["seg", "sr"]
    assert {result.form for result in built(lungs()).results} == {"binary+comprehensive-3d"}


def test_encoded_file_is_explicit_little_endian_with_our_implementation() -> None:
    for result in built(lungs()).results:
        meta = result.dataset.file_meta
        assert meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
        assert meta.MediaStorageSOPInstanceUID == result.dataset.SOPInstanceUID
        assert meta.ImplementationVersionName == "DICOM_NODE"
        assert encode(result)[128:132] == b"DICM"


def test_names_follow_from_the_run_and_not_from_the_clock() -> None:
    first = built(lungs()).results
    later = built(lungs(), run=make_run(analysed_at=datetime(2026, 4, 1, tzinfo=UTC))).results
    for one, other in zip(first, later, strict=True):
        assert one.dataset.SOPInstanceUID == other.dataset.SOPInstanceUID


def test_no_name_is_drawn_by_chance() -> None:
    seg = built(lungs()).seg
    ours = [str(element.value) for element in seg.iterall() if element.VR == "UI" and element.tag != 0x00080016]
    foreign = {uid for uid in ours if not uid.startswith(("2.25.", "1.2.826.0.1.3680043.8.498.1", "1.2.840.10008."))}
    assert foreign == set()
    assert seg.DimensionOrganizationSequence[0].DimensionOrganizationUID.startswith("2.25.")


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        (None, ("20260301", "150307.250000")),  # Europe/Vienna, the node's zone
        ("-0330", ("20260301", "103307.250000")),
        ("+1200", ("20260302", "020307.250000")),
        ("rubbish", ("20260301", "150307.250000")),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_all_times_are_the_start_of_the_analysis_in_the_zone_of_the_source(
    offset: str | None, expected: tuple[str, str]
) -> None:
    headers = ct_headers(**({"TimezoneOffsetFromUTC": offset} if offset else {}))
    for result in built(lungs(), evidence=headers).results:
        for name in ("InstanceCreation", "Series", "Content"):
            assert (result.dataset[f"{name}Date"].value, result.dataset[f"{name}Time"].value) == expected


def test_contribution_says_its_offset() -> None:
    item = built(lungs()).sr.ContributingEquipmentSequence[0]
    assert item.ContributionDateTime == "20260301150307.250000+0100"


def test_local_codes_are_identified_where_they_are_used() -> None:
    (scheme,) = built(lungs()).sr.CodingSchemeIdentificationSequence
    assert scheme.CodingSchemeDesignator == "99DICOMNODE"
    assert "CodingSchemeIdentificationSequence" not in built(refused()).sr


def test_revision_is_another_object_of_the_same_series() -> None:
    run = make_run()
    first = built(lungs(), run=run)
    second = built(lungs(), run=second_run(run, first.sr))
    for kind in ("sr", "seg"):
        one, other = getattr(first, kind), getattr(second, kind)
        assert one.SeriesInstanceUID == other.SeriesInstanceUID
        assert one.SOPInstanceUID != other.SOPInstanceUID
        assert (one.InstanceNumber, other.InstanceNumber) == (1, 2)


def test_results_without_any_image_are_refused() -> None:
    with pytest.raises(UnusableAnswer, match="no image"):
        build_results(refused(), (), make_run(), NODE)
