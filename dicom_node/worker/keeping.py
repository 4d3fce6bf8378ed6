"""From stored findings to kept result objects: built once, kept as they are, never built again."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from PIL import Image

from dicom_node.worker.parts import WorkerParts
from dicom_node.worker.revisions import RunFacts, revision_reason
from dicom_node.worker.sources import headers_of, sources_of
from inference.findings import Findings
from inference.findings_codec import decode_findings, frame_numbers_of
from inference.pixels import render_frame
from inference.results.build import build_results, encode
from inference.results.evidence import Evidence
from inference.results.forms import CANONICAL, Form
from inference.results.pictures import Picture, Pictures, RenderedPictures, WindowedPictures, window_of, window_said
from inference.results.result import Result
from inference.results.run import Predecessor, Run
from inference.volume import read_volume
from storage.errors import NotKept
from storage.records import FindingsRecord, InstanceRecord, Origin, OriginKind, Outcome, ResultRecord, ResultState

log = logging.getLogger(__name__)

#: Sending order, and the order of keeping: an SR never stands here before the SEG that it names.
_ORDER = {"seg": 0, "capture": 0, "sr": 1, "text": 1, "summary": 1, "pdf": 1}


class ResultDiffers(RuntimeError):
    """A result was built again with other bytes than it is kept with: our bug; the kept one stays."""


@dataclass(frozen=True)
class KeptSet:
    """The kept results of one run, in one form."""

    run_key: str
    form: str
    items: tuple[tuple[str, str], ...]
    """(SOP Instance UID, kind) in sending order."""
    refusal: str
    """Why nothing was analysed; empty: it was."""

    @property
    def refused(self) -> bool:
        """Whether the engine declined."""
        return bool(self.refusal)


class Material:
    """What the result sets of one run are made from, each part read once, when it is first needed."""

    def __init__(self, record: FindingsRecord, node: WorkerParts) -> None:
        self.record = record
        self.node = node

    @cached_property
    def findings(self) -> Findings:
        """What the engine found."""
        return self._decoded[0]

    @cached_property
    def used(self) -> tuple[InstanceRecord, ...]:
        """The image of each slice; of a refusal, the considered ones.

        Raises
        ------
        NotKept
            One of them is no longer here.
        """
        inputs = {one.sop_instance_uid: one for one in self.node.index.inputs_of(self.record.study_instance_uid)}
        # One that was set apart since then is no input any more, and still what these findings were made from.
        return tuple(inputs.get(uid) or self.node.index.instance(uid) for uid in self._decoded[1])

    @cached_property
    def evidence(self) -> Evidence:
        """Headers of the slices."""
        instances = {one.sop_instance_uid: one for one in self.used}
        headers = dict(zip(instances, headers_of(self.node.blobs, list(instances.values())), strict=True))
        numbers = frame_numbers_of(self.record.content)
        return Evidence.of_frames([headers[one.sop_instance_uid] for one in self.used], numbers)

    @cached_property
    def run(self) -> Run:
        """What the objects say about how they came to be."""
        return run_of(self.record, self.node)

    @cached_property
    def _decoded(self) -> tuple[Findings, tuple[str, ...]]:
        return decode_findings(self.record.content)


def keep_results(material: Material, form: Form = CANONICAL) -> KeptSet:
    """Keep one result set of a run; what is kept already stays as it is.

    Raises
    ------
    ResultDiffers
        Part of the set is kept, and building it again gave other bytes.
    UnusableAnswer
        The findings cannot be encoded as correct objects.
    """
    record, node = material.record, material.node
    known = [result for result in node.results.of_run(record.run_key) if result.form == str(form)]
    if not known or not all(_is_kept(result.sop_instance_uid, node) for result in known):
        known = _build_and_keep(material, form)
    items = sorted(((result.sop_instance_uid, result.kind) for result in known), key=lambda item: _ORDER[item[1]])
    return KeptSet(record.run_key, str(form), tuple(items), material.findings.refusal or "")


class SetMaker:
    """Makes further sets of runs, for destinations that do not take the one they were asked to; one at a time.

    Pictures need the whole volume in memory.
    """

    def __init__(self, node: WorkerParts) -> None:
        self._node = node
        self._turn = threading.Lock()

    def __call__(self, run_key: str, form: Form) -> tuple[tuple[str, str], ...]:
        """Keep the results of a run in a form; give SOP Instance UID and kind of each, in sending order.

        Raises
        ------
        NotKept, UnusableAnswer, ResultDiffers
        """
        record = self._node.findings.of(run_key)
        if record is None:
            raise NotKept("the findings of this run are missing", run_key=run_key)
        with self._turn:
            return keep_results(Material(record, self._node), form).items


def build_from(material: Material, form: Form = CANONICAL) -> tuple[Result, ...]:
    """Build one result set from stored findings, without keeping it.

    Raises
    ------
    UnusableAnswer
        The findings cannot be encoded as correct objects.
    NotKept
        An image that they were made from is no longer here.
    """
    findings, evidence, node = material.findings, material.evidence, material.node
    shown = form.has_pictures and findings.refusal is None
    pictures = _pictures(material.used, evidence, node) if shown else None
    return build_results(findings, evidence, material.run, node.identity, form, pictures)


def _pictures(used: Sequence[InstanceRecord], evidence: Evidence, node: WorkerParts) -> Pictures:
    """Give the used images as shown: in the same order as the engine read them."""
    if evidence.lies_nowhere:
        return RenderedPictures(partial(_rendered, used, evidence, node), window_said(evidence[0]))
    instances = {one.sop_instance_uid: one for one in used}
    volume = read_volume(sources_of(node.blobs, list(instances.values())), node.decoder)
    centre, width = window_of(volume.headers[0])
    return WindowedPictures(volume.array, centre, width)


def _rendered(used: Sequence[InstanceRecord], evidence: Evidence, node: WorkerParts, index: int) -> Picture:
    frame_index = (evidence.frame_numbers[index] or 1) - 1
    with node.blobs.open(used[index].path) as file:
        if node.decoder is None:
            return render_frame(file, frame_index)
        png = node.decoder.picture(file, frame_index, form="PNG")
    return np.asarray(Image.open(io.BytesIO(png)))


def _build_and_keep(material: Material, form: Form) -> list[ResultRecord]:
    node, results = material.node, build_from(material, form)
    refused = material.findings.refusal is not None
    records = [_record_of(result, material.record, refused=refused) for result in results]
    # Reserved first: from here on the node knows these UIDs as its own, whoever sends them back.
    node.results.reserve(records)
    for result in sorted(results, key=lambda result: _ORDER[result.kind]):
        kept = node.intake.receive(io.BytesIO(encode(result)), Origin(kind=OriginKind.OURS))
        if kept.outcome is Outcome.SET_ASIDE:
            log.error(
                "a result built again has other bytes than the kept one",
                extra={"action": "result_differs", "sop_instance_uid": kept.sop_instance_uid},
            )
            raise ResultDiffers(f"{kept.sop_instance_uid} is kept with other bytes than were built now")
        log.info("result kept", extra={"action": "result_kept", "sop_instance_uid": kept.sop_instance_uid})
    return records


def run_of(record: FindingsRecord, node: WorkerParts) -> Run:
    """Tell what result objects say about how they came to be."""
    facts = RunFacts.from_json(record.facts)
    before = _last_published(record, node)
    series = node.index.series_of(record.study_instance_uid)
    return Run(
        run_key=record.run_key,
        study_instance_uid=record.study_instance_uid,
        engine=facts.engine,
        task=record.task,
        revision=record.revision,
        analysed_at=record.analysed_at,
        timezone=node.timezone,
        predecessor=before[1] if before else None,
        revision_reason=revision_reason(facts, RunFacts.from_json(before[0].facts)) if before else "",
        used_series_numbers={
            one.series_number for one in series if one.number_of_inputs and one.series_number is not None
        },
    )


def _last_published(record: FindingsRecord, node: WorkerParts) -> tuple[FindingsRecord, Predecessor] | None:
    """Find the latest earlier revision whose SR is kept: one that never got so far cannot be referred to.

    Nor is one that was taken back: it may be of another patient.
    """
    before = node.findings.predecessor(record)
    while before is not None:
        for result in node.results.of_run(before.run_key):
            said = result.kind == "sr" and result.form == str(CANONICAL) and result.state is not ResultState.RETRACTED
            if said and _is_kept(result.sop_instance_uid, node):
                return before, Predecessor(
                    sop_class_uid=result.sop_class_uid,
                    sop_instance_uid=result.sop_instance_uid,
                    series_instance_uid=result.series_instance_uid,
                    analysed_at=before.analysed_at,
                )
        before = node.findings.predecessor(before)
    return None


def _record_of(result: Result, record: FindingsRecord, *, refused: bool) -> ResultRecord:
    dataset = result.dataset
    return ResultRecord(
        run_key=record.run_key,
        form=result.form,
        kind=result.kind,
        study_instance_uid=record.study_instance_uid,
        series_instance_uid=str(dataset.SeriesInstanceUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        sop_class_uid=str(dataset.SOPClassUID),
        engine=record.engine,
        revision=record.revision,
        refusal=refused,
        current=True,
    )


def _is_kept(sop_instance_uid: str, node: WorkerParts) -> bool:
    try:
        node.index.instance(sop_instance_uid)
    except NotKept:
        return False
    return True
