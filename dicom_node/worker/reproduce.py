"""Kept results made again: from their findings, byte for byte, and from their inputs, figure by figure."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from pydicom import Dataset, dcmread

from dicom_node.worker.keeping import Material, build_from
from dicom_node.worker.parts import WorkerParts
from dicom_node.worker.revisions import RunFacts
from dicom_node.worker.sources import sources_of
from inference.engines.protocol import EngineDescription
from inference.errors import EngineUnavailable, UnsuitableStudy
from inference.findings import Findings, refusal
from inference.findings_codec import decode_findings, encode_findings
from inference.results.charset import quietly
from inference.results.forms import Form
from inference.volume import read_volume
from storage.errors import Inapplicable, NotKept
from storage.records import FindingsRecord, ResultRecord
from storage.visibility import is_note


@dataclass(frozen=True)
class Reproduced:
    """What came of making something again."""

    what: str
    same: bool
    differences: tuple[str, ...] = ()


def rebuild(sop_instance_uid: str, node: WorkerParts) -> Reproduced:
    """Build one kept result from its stored findings and compare the bytes.

    Raises
    ------
    NotKept
        It is no result of this node, or what it was made from is gone.
    Inapplicable
        It is a note that takes results back: findings say nothing of it.
    """
    result, record = _found(sop_instance_uid, node)
    if is_note(result.form):
        raise Inapplicable("This is a note that takes results back, not made from findings. Reproduce what it names.")
    built = build_from(Material(record, node), Form.of(result.form))
    again = next((each for each in built if str(each.dataset.SOPInstanceUID) == sop_instance_uid), None)
    kept = _kept_bytes(sop_instance_uid, node)
    if again is None:
        return Reproduced("objects", False, ("nothing of this name is built from the findings any more",))
    # The File Meta Information is the one door's, not part of the result.
    ours, theirs = (dcmread(io.BytesIO(each)) for each in (again.part10, kept))
    digests = {hashlib.sha256(_data_set_of(each)).hexdigest() for each in (again.part10, kept)}
    if len(digests) == 1:
        return Reproduced("objects", True)
    return Reproduced("objects", False, tuple(_differing(ours, theirs)) or ("the encoding alone",))


def infer_again(sop_instance_uid: str, node: WorkerParts) -> Reproduced:
    """Have the engine read the recorded inputs again and compare what it finds.

    Raises
    ------
    NotKept
        It is no result of this node, or an input is gone.
    EngineUnavailable
        The engine does not run here.
    """
    _, record = _found(sop_instance_uid, node)
    facts = RunFacts.from_json(record.facts)
    engine = node.engines.get(facts.engine.name)
    if engine is None:
        raise EngineUnavailable(f"{facts.engine.name} does not run here, so that its answer cannot be made again.")
    before, used = decode_findings(record.content)
    instances = [node.index.instance(uid) for uid in facts.inputs]
    others = [one.sop_instance_uid for one in instances if facts.inputs[one.sop_instance_uid] != one.sha256]
    changed = [f"input {uid} changed" for uid in others]
    changed += _other_engine(facts.engine, engine.description)
    try:
        volume = read_volume(sources_of(node.blobs, instances), node.decoder)
        after, uids = engine.analyse(volume), tuple(source.sop_instance_uid for source in volume.sources)
        frames = volume.frame_numbers
    except UnsuitableStudy as error:
        after, uids, frames = refusal(facts.engine.name, str(error)), used, ()
    if not changed and encode_findings(after, uids, frames) == record.content:
        return Reproduced("findings", True)
    return Reproduced("findings", False, (*changed, *_findings_differ(before, after)))


def _found(sop_instance_uid: str, node: WorkerParts) -> tuple[ResultRecord, FindingsRecord]:
    study = node.index.instance(sop_instance_uid).study_instance_uid
    for result in node.results.of_study(study):
        if result.sop_instance_uid == sop_instance_uid:
            record = node.findings.of(result.run_key)
            if record is not None:
                return result, record
    raise NotKept(f"{sop_instance_uid} is no result that this node made.")


def _kept_bytes(sop_instance_uid: str, node: WorkerParts) -> bytes:
    with node.blobs.open(node.index.instance(sop_instance_uid).path) as file:
        return file.read()


def _data_set_of(part10: bytes) -> bytes:
    """Give the bytes behind the File Meta Information (PS3.10 7.1)."""
    header = dcmread(io.BytesIO(part10), stop_before_pixels=True, specific_tags=[])
    length = int(header.file_meta[0x00020000].value)
    return part10[132 + 12 + length :]


def _differing(ours: Dataset, theirs: Dataset) -> Iterator[str]:
    with quietly():
        for tag in sorted({*ours.keys(), *theirs.keys()}):
            if tag not in ours or tag not in theirs or ours[tag] != theirs[tag]:
                yield str((ours if tag in ours else theirs)[tag].keyword or tag)


def _other_engine(before: EngineDescription, now: EngineDescription) -> Iterator[str]:
    for name in ("version", "digest", "parameters"):
        if getattr(before, name) != getattr(now, name):
            yield f"the engine has another {name}: {getattr(now, name)}, was {getattr(before, name)}"


def _findings_differ(before: Findings, after: Findings) -> Iterator[str]:
    if before.summary != after.summary:
        yield "the summary"
    if before.refusal != after.refusal:
        yield "whether and why it was refused"
    yield from _figures_differ(_figures(before), _figures(after))
    masks = {segment.label: segment.mask for segment in after.segments}
    for segment in before.segments:
        other = masks.pop(segment.label, None)
        if other is None:
            yield f"{segment.label} is outlined no more"
        elif other.shape != segment.mask.shape:
            yield f"{segment.label} has another shape"
        elif voxels := int(np.count_nonzero(segment.mask != other)):
            yield f"{segment.label}: {voxels} voxels"
    yield from (f"{label} is outlined now" for label in masks)


def _figures(findings: Findings) -> Mapping[tuple[str, str], float]:
    return {
        (group.tracking_id, " ".join(code.meaning for code in (figure.derivation, figure.name) if code)): figure.value
        for group in findings.groups
        for figure in group.measurements
    }


def _figures_differ(before: Mapping[tuple[str, str], float], after: Mapping[tuple[str, str], float]) -> Iterator[str]:
    for key in dict.fromkeys((*before, *after)):
        if before.get(key) != after.get(key):
            yield f"{key[0]}, {key[1]}: {after.get(key)}, was {before.get(key)}"
