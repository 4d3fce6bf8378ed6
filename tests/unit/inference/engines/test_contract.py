"""What every engine promises: one suite, over each engine of the registry and over the tests' own stand-in."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from configs.engines import ENGINE_NAMES, EngineSettings
from inference.engines.protocol import Engine, EngineDescription, SeriesNeeds
from inference.errors import UnsuitableStudy
from inference.findings import Code, Findings, Measurement, MeasurementGroup, Segment
from inference.findings_codec import decode_findings, encode_findings
from inference.registry import engines
from inference.results import codes
from inference.results.run import run_key
from inference.volume import Volume
from tests.builders.chests import Chest, axial

CHEST = Chest(slice_mm=8.0)


class Brightest:
    """The tests' own engine: outlines what is brighter than water."""

    @property
    def description(self) -> EngineDescription:
        return EngineDescription(
            name="remote-brightest",
            version="1.0",
            kind="classical",
            title="Bright",
            manufacturer="Tests",
            family=codes.HISTOGRAM_ANALYSIS,
            digest="ab" * 32,
            reads=SeriesNeeds(modalities=("CT",), minimum_slices=2, thickest_mm=20.0),
        )

    def analyse(self, volume: Volume) -> Findings:
        if len(volume.array) < self.description.reads.minimum_slices:
            raise UnsuitableStudy(f"{len(volume.array)} images, 2 are needed.")
        mask = volume.array > 100
        segment = Segment("Bright", codes.ANATOMICAL_STRUCTURE, codes.LUNG, None, mask, "bright")
        count = Measurement(codes.VOLUME, float(mask.sum()), codes.CUBIC_CENTIMETRE)
        group = MeasurementGroup("bright", codes.LUNG, codes.LUNG, None, ("Bright",), (count,))
        return Findings("RESEARCH USE. Classical image analysis (no AI model).", (segment,), (group,))


def registered() -> dict[str, Engine]:
    return engines({name: EngineSettings() for name in ENGINE_NAMES})


@dataclass(frozen=True)
class Case:
    engine: Engine
    volume: Volume
    findings: Findings


@pytest.fixture(scope="module", params=[*registered(), "stand-in"])
def case(request: pytest.FixtureRequest) -> Case:
    engine: Engine = Brightest() if request.param == "stand-in" else registered()[request.param]
    volume, _ = axial(CHEST)
    return Case(engine, volume, engine.analyse(volume))


def test_engines_are_made_under_the_names_that_routes_use() -> None:
    made = registered()
    assert "classical-lung" in made
    assert {name: engine.description.name for name, engine in made.items()} == {name: name for name in made}
    assert engines({"classical-lung": EngineSettings(enabled=False)}) == {}
    assert engines({"medversa": EngineSettings(), "remote-else": EngineSettings()}).keys() <= {"medversa"}


def test_it_says_who_it_is(case: Case) -> None:
    about = case.engine.description
    assert case.engine.description == about
    assert re.fullmatch(r"[0-9a-f]{64}", about.digest)
    assert about.version
    assert about.manufacturer
    assert about.title
    assert len(f"RESEARCH {about.title} measurements (classical, not AI)") <= 64
    assert about.reads.modalities
    assert about.reads.minimum_slices >= 1
    assert about.reads.thickest_mm > 0


def test_its_digest_follows_its_parameters_into_the_run_key(case: Case) -> None:
    about = case.engine.description
    keys = {
        run_key(study_instance_uid="1.2", inputs=[("1.2.3", "ab" * 32)], engine=each, task="segmentation")
        for each in (about, replace(about, digest="0" * 64), replace(about, version="0"))
    }
    assert len(keys) == 3


def test_masks_are_bool_and_have_the_shape_of_the_volume(case: Case) -> None:
    assert case.findings.segments
    for segment in case.findings.segments:
        assert segment.mask.dtype == np.bool_
        assert segment.mask.shape == case.volume.array.shape
        assert segment.mask.any()
        assert 0 < len(segment.label) <= 64
        assert all(0 <= part <= 255 for part in segment.colour)


def test_labels_and_tracking_ids_are_told_apart(case: Case) -> None:
    for names in (
        [segment.label for segment in case.findings.segments],
        [segment.tracking_id for segment in case.findings.segments],
        [group.tracking_id for group in case.findings.groups],
    ):
        assert len(set(names)) == len(names)


def test_groups_name_segments_that_are_there(case: Case) -> None:
    labels = {segment.label for segment in case.findings.segments}
    assert case.findings.groups
    for group in case.findings.groups:
        assert set(group.segments) <= labels


def test_numbers_are_finite_and_have_ucum_units(case: Case) -> None:
    for group in case.findings.groups:
        for measurement in group.measurements:
            assert np.isfinite(measurement.value)
            assert measurement.unit.scheme == "UCUM"
        for missing in group.not_computed:
            assert missing.reason
            assert missing.unit.scheme == "UCUM"


def test_its_first_words_say_its_standing(case: Case) -> None:
    kind = case.engine.description.kind
    assert case.findings.refusal is None
    assert case.findings.summary.startswith("RESEARCH USE." if kind == "classical" else "Draft text")
    if kind == "classical":
        assert "classical image analysis (no AI model)" in case.findings.summary.replace("Classical", "classical")


def test_its_findings_are_the_same_a_second_time(case: Case) -> None:
    uids = [each.sop_instance_uid for each in case.volume.sources]
    again = case.engine.analyse(case.volume)
    assert encode_findings(again, uids) == encode_findings(case.findings, uids)


def test_its_findings_survive_storage(case: Case) -> None:
    uids = [each.sop_instance_uid for each in case.volume.sources]
    read, named = decode_findings(encode_findings(case.findings, uids))
    assert list(named) == uids
    assert read.summary == case.findings.summary
    for one, other in zip(read.segments, case.findings.segments, strict=True):
        assert np.array_equal(one.mask, other.mask)


def test_it_changes_nothing_of_the_volume(case: Case) -> None:
    array, affine = case.volume.array.copy(), case.volume.affine.copy()
    case.engine.analyse(case.volume)
    assert np.array_equal(case.volume.array, array)
    assert np.array_equal(case.volume.affine, affine)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda volume: replace(
            volume,
            array=volume.array[:1],
            headers=volume.headers[:1],
            sources=volume.sources[:1],
            frame_numbers=(None,),
        ),
    ],
    ids=["one slice"],
)
def test_what_it_cannot_read_is_refused_for_good_with_figures(case: Case, spoil: Callable[[Volume], Volume]) -> None:
    with pytest.raises(UnsuitableStudy, match=r"\d"):
        case.engine.analyse(spoil(case.volume))


def test_codes_have_a_scheme_and_a_meaning(case: Case) -> None:
    def of(segment: Segment) -> list[Code | None]:
        return [segment.category, segment.type, segment.laterality]

    used = [code for segment in case.findings.segments for code in of(segment)]
    used += [measurement.name for group in case.findings.groups for measurement in group.measurements]
    for code in used:
        if code is not None:
            assert code.value
            assert code.scheme
            assert 0 < len(code.meaning) <= 64
