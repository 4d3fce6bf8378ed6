"""The story of a study: from a complete study to kept results, in two steps that may each run twice."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from dicom_node.routing.destinations import SENDER, kept_only, resolve
from dicom_node.worker.forms import destinations_by_form
from dicom_node.worker.keeping import KeptSet, Material, keep_results
from dicom_node.worker.parts import WorkerParts
from dicom_node.worker.revisions import RunFacts
from dicom_node.worker.selections import Selection, select
from dicom_node.worker.sources import by_series, headers_of, sources_of
from inference.engines.protocol import Engine
from inference.errors import EngineUnavailable, UnsuitableStudy
from inference.findings import refusal
from inference.findings_codec import encode_findings
from inference.results.forms import CANONICAL, Form
from inference.results.run import run_key
from inference.volume import read_volume
from storage.errors import NotKept
from storage.records import FindingsRecord, InstanceRecord, JobRecord, JobState

log = logging.getLogger(__name__)


def analyse(job_id: str, node: WorkerParts) -> None:
    """Turn one complete study into kept results, and ask for their delivery."""
    infer(job_id, node)
    publish(job_id, node)


def infer(job_id: str, node: WorkerParts) -> None:
    """Let the engine read, and keep what it found before anything is built from it.

    A run that has findings is never asked for again. Where there is nothing to do, the job ends here.
    """
    job = node.job_book.begin(job_id, node.now())
    if job is None or _ended_early(job, node):
        return  # superseded or ended meanwhile
    engine = node.engines.get(job.engine)
    series = by_series(_inputs_of(job, node))
    if engine is None:
        _finish(job, JobState.WAITING_FOR_ENGINE, f"{job.engine} does not run here.", node)
        return
    if not series:
        _finish(job, JobState.DECLINED, "No image of the series that the rule chose is left to analyse.", node)
        return
    first = [inputs[0] for inputs in series.values()]
    headers = dict(zip(series, headers_of(node.blobs, first), strict=True))
    try:
        keys = [_run(job, engine, one, node) for one in select(job, series, headers, engine.description.reads)]
    except EngineUnavailable as error:
        _finish(job, JobState.WAITING_FOR_ENGINE, f"{job.engine} is not available: {error}", node)
        return
    node.job_book.know_runs(job_id, keys)


def publish(job_id: str, node: WorkerParts) -> None:
    """Build and keep the results of the job's runs, and ask for their delivery."""
    job = node.job_book.job(job_id)
    if job.state is not JobState.RUNNING:
        return
    if _has_changed(job, node):
        reason = "An image that it read was corrected, rejected or deleted meanwhile; the study is decided on anew."
        _finish(job, JobState.SUPERSEDED, reason, node)
        return
    kept = [_publish_run(key, job, node) for key in job.run_keys]
    state = JobState.DECLINED if all(one.refused for one in kept) else JobState.DONE
    _finish(job, state, _said(job, kept, node), node)


def _has_changed(job: JobRecord, node: WorkerParts) -> bool:
    """Tell whether the images of a run are no longer those that were read: a report would be of another patient."""
    digests = node.index.digests_of(job.study_instance_uid)
    inputs = [RunFacts.from_json(_findings_of(key, node).facts).inputs for key in job.run_keys]
    return any(digests.get(uid) != digest for used in inputs for uid, digest in used.items())


def _publish_run(key: str, job: JobRecord, node: WorkerParts) -> KeptSet:
    """Keep the sets that destinations ask for, then the canonical one; ask for their delivery as each is kept."""
    material = Material(_findings_of(key, node), node)
    findings = material.findings
    going = () if findings.refusal is not None and not job.deliver_refusals else job.deliver_to
    wanted = destinations_by_form(going, node.peers, findings, node.refused_by)
    kept: dict[Form, KeptSet] = {}
    # Asked for also where it goes nowhere: what an earlier revision still had to deliver is superseded.
    for form in dict.fromkeys((*wanted, CANONICAL)):
        one = kept[form] = keep_results(material, form)
        node.deliveries.ask_for(
            job.job_id,
            one.run_key,
            one.form,
            job.study_instance_uid,
            one.items,
            wanted.get(form, ()),
            not_before=job.settle_until,
            at=node.now(),
        )
    return kept[CANONICAL]


def _run(job: JobRecord, engine: Engine, selection: Selection, node: WorkerParts) -> str:
    """Make the findings of one run, or find them made; give the run key."""
    about = engine.description
    inputs = {instance.sop_instance_uid: instance.sha256 for instance in selection.inputs}
    series = tuple(by_series(selection.inputs))
    key = run_key(study_instance_uid=job.study_instance_uid, inputs=inputs.items(), engine=about, task=selection.task)
    node.findings.once(
        key,
        study_instance_uid=job.study_instance_uid,
        engine=job.engine,
        task=selection.task,
        facts=RunFacts(about, inputs, series).to_json(),
        at=node.now(),
        make=lambda: _read(job, engine, selection, node),
    )
    return key


def _read(job: JobRecord, engine: Engine, selection: Selection, node: WorkerParts) -> bytes:
    """Give the encoded findings of a selection: the engine's, or its refusal."""
    name = engine.description.name
    if selection.declined:
        looked_at = [instance.sop_instance_uid for instance in selection.looked_at]
        return encode_findings(refusal(name, _sentence(selection.declined)), looked_at)
    began = node.now()
    try:
        volume = read_volume(sources_of(node.blobs, selection.inputs), node.decoder)
        read = node.now()
        findings = engine.analyse(volume)
    except UnsuitableStudy as error:
        considered = [instance.sop_instance_uid for instance in selection.inputs]
        return encode_findings(refusal(name, _sentence(str(error))), considered)
    facts = {
        "read_s": round((read - began).total_seconds(), 3),
        "engine_s": round((node.now() - read).total_seconds(), 3),
    }
    names = {"study_instance_uid": job.study_instance_uid, "job_id": job.job_id}
    log.info("volume analysed", extra={"action": "volume_analysed", **names, **facts})
    return encode_findings(findings, [source.sop_instance_uid for source in volume.sources], volume.frame_numbers)


def _findings_of(key: str, node: WorkerParts) -> FindingsRecord:
    record = node.findings.of(key)
    if record is None:
        raise NotKept("the findings of this job are missing", run_key=key)
    return record


def _inputs_of(job: JobRecord, node: WorkerParts) -> list[InstanceRecord]:
    """Give the inputs that the decision was about: what came later waits for the next one."""
    return [
        instance
        for instance in node.index.inputs_of(job.study_instance_uid)
        if instance.series_instance_uid in job.series_instance_uids and instance.received_at <= job.created_at
    ]


def _ended_early(job: JobRecord, node: WorkerParts) -> bool:
    """End a job that a later decision on its study has replaced."""
    if node.index.study(job.study_instance_uid).decision_number <= job.decision_number:
        return False
    _finish(job, JobState.SUPERSEDED, "A later decision on this study took its place.", node)
    return True


def _finish(job: JobRecord, state: JobState, reason: str, node: WorkerParts) -> None:
    node.job_book.finish(job.job_id, state, reason, node.now())
    log.info("job ended", extra={"action": "job_ended", "job_id": job.job_id, "state": state.value})


def _said(job: JobRecord, kept: Sequence[KeptSet], node: WorkerParts) -> str:
    """Say what the job came to, and where its results go."""
    refusals = list(dict.fromkeys(one.refusal for one in kept if one.refused))
    going = [one for one in kept if not one.refused or job.deliver_refusals]
    results = sum(len(one.items) for one in going)
    said = [f"Not analysed: {reason}" for reason in refusals]
    if not going:
        return " ".join([*said, "The report that says so is kept here."])
    if job.deliver_to:
        return " ".join([*said, f"{results} results kept, delivery to {', '.join(job.deliver_to)} asked for."])
    return " ".join([*said, f"{results} results kept.", _kept_only(job, node)])


def _kept_only(job: JobRecord, node: WorkerParts) -> str:
    """Say why the results go nowhere, and what to do."""
    senders = node.index.senders_of(job.study_instance_uid, now=node.now(), idle_after_s=0.0)
    destinations = resolve([SENDER], senders, node.peers)
    if destinations.without_deliver:
        return kept_only(destinations.without_deliver, node.peers)
    return f'Kept here only: rule "{job.route}" named no destination.'


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."
