"""Kept results made again and held against their study, over real parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from dicom_node.worker.reproduce import infer_again, rebuild
from dicom_node.worker.verify import verify
from inference.errors import EngineUnavailable
from storage.blobs import LocalBlobs
from storage.database import Database
from storage.errors import NotKept
from storage.jobs import prepare_queue
from tests.builders.findings import engine
from tests.builders.studies import make_peer, make_route
from tests.integration.test_study_to_results import STUDY, Node, chest


@pytest.fixture
def node(database: Database, blobs: LocalBlobs, tmp_path: Path) -> Iterator[Node]:
    """A node that has analysed one study."""
    prepare_queue(database.url)
    made = Node(database, blobs, [make_route({"Modality": "CT"})], tmp_path / "pacs")
    made.peers["ct1"] = make_peer()
    made.send(chest(1, 12))
    made.later(30)
    made.tick()
    assert made.work()
    yield made
    made.close()


def results(node: Node) -> dict[str, Dataset]:
    found = {}
    for result in node.results.of_study(STUDY):
        with node.blobs.open(node.index.instance(result.sop_instance_uid).path) as file:
            found[result.kind] = dcmread(file)
    return found


@pytest.mark.parametrize("kind", ["sr", "seg"])
def test_result_is_built_again_byte_for_byte(node: Node, kind: str) -> None:
    said = rebuild(results(node)[kind].SOPInstanceUID, node.worker)
    assert (said.same, said.differences) == (True, ())


def test_another_version_of_the_node_is_told_by_what_differs(node: Node) -> None:
    other = replace(node.worker, identity=replace(node.worker.identity, version="9.9"))
    said = rebuild(results(node)["sr"].SOPInstanceUID, other)
    assert not said.same
    assert said.differences == ("SoftwareVersions",)


def test_engine_finds_the_same_in_the_recorded_inputs(node: Node) -> None:
    said = infer_again(results(node)["sr"].SOPInstanceUID, node.worker)
    assert (said.same, said.differences) == (True, ())
    assert node.engine.asked == 2


class Changed:
    """The same engine with another version, which finds one voxel less."""

    def __init__(self, before: Any) -> None:
        self.before, self.description = before, engine(version="2.0")

    def analyse(self, volume: Any) -> Any:
        found = self.before.analyse(volume)
        mask = found.segments[0].mask.copy()
        mask[tuple(axis[0] for axis in mask.nonzero())] = False
        figure = replace(found.groups[1].measurements[0], value=0.012)
        group = replace(found.groups[1], measurements=(figure, *found.groups[1].measurements[1:]))
        groups = (found.groups[0], group, *found.groups[2:])
        return replace(found, segments=(replace(found.segments[0], mask=mask), *found.segments[1:]), groups=groups)


def test_what_another_engine_finds_is_told_figure_by_figure(node: Node) -> None:
    other = replace(node.worker, engines={"classical-lung": Changed(node.engine)})
    said = infer_again(results(node)["sr"].SOPInstanceUID, other)
    assert said.differences == (
        "the engine has another version: 2.0, was 1.0",
        "lung-right, Volume: 0.012, was 0.0121",
        "Right lung: 1 voxels",
    )


def test_engine_that_does_not_run_here_is_said(node: Node) -> None:
    with pytest.raises(EngineUnavailable, match="does not run here"):
        infer_again(results(node)["sr"].SOPInstanceUID, replace(node.worker, engines={}))


def test_image_is_no_result(node: Node) -> None:
    image = node.index.inputs_of(STUDY)[0].sop_instance_uid
    with pytest.raises(NotKept, match="no result"):
        rebuild(image, node.worker)


def test_our_own_results_pass(node: Node) -> None:
    assert verify(list(results(node).values()), node.index, node.blobs) == []


def test_segmentation_alone_passes(node: Node) -> None:
    assert verify([results(node)["seg"]], node.index, node.blobs) == []


def test_damaged_result_is_told(node: Node) -> None:
    damaged = results(node)
    damaged["seg"].PatientID = "T-0002"
    del damaged["sr"].CompletionFlag
    told = verify(list(damaged.values()), node.index, node.blobs)
    assert "seg: PatientID is not that of the source" in told
    assert any("CompletionFlag is missing" in problem for problem in told)


def test_result_of_a_study_that_is_not_kept_is_refused(node: Node) -> None:
    stranger = results(node)["seg"]
    for item in stranger.ReferencedSeriesSequence[0].ReferencedInstanceSequence:
        item.ReferencedSOPInstanceUID = f"{item.ReferencedSOPInstanceUID}.9"
    with pytest.raises(NotKept):
        verify([stranger], node.index, node.blobs)
