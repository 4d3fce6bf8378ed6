"""The main job, played once: a study goes in by C-STORE, SR and SEG come back to a PACS."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from configs.errors import NodeError
from configs.peers import Peer
from dicom_node.demo.checks import StudyShown, check_received, checks_made
from dicom_node.demo.page import write_page
from dicom_node.demo.phantom import write_phantom_study
from dicom_node.demo.stage import MODALITY, NODE, PACS, DemoFailed, Stage
from dicom_node.demo.way import Sending, spans_of, steps_of
from dicom_node.parts import now
from dicom_node.scu.files import copy_instances, outgoing
from dicom_node.scu.store import Outgoing, send
from inference.results.text import report_text

#: States in which something more will happen to a study by itself.
_UNDER_WAY = frozenset({"gathering", "analysing"})
_FINAL_DELIVERY = frozenset({"delivered", "confirmed", "failed", "superseded"})
_ANSWER_WITHIN_S = 300.0


def play(folder: Path, *, source: Path | None, keep: bool, console: Console) -> bool:
    """Play the main job and show it; tell whether SR and SEG arrived and passed their checks.

    Parameters
    ----------
    folder
        Where everything of the demo goes; emptied first.
    source
        Folder of real files; None: a chest CT phantom is made.
    keep
        Leave node and stand-in up until Ctrl-C.

    Raises
    ------
    DemoFailed
        A process did not start, or the node did not come to an answer in time.
    """
    began = time.monotonic()
    with Stage(folder) as stage:
        with _progress(console) as progress:
            files = _make_study(stage, source, progress)
            stage.start_pacs()
            stage.start_node()
            sending = _send(stage, files, progress)
            uids = [study["study_instance_uid"] for study in reversed(stage.get("/api/studies")["studies"])]
            _await_answers(stage, uids, progress)
        shown = tuple(_look(stage, uid, sending) for uid in uids)
        page = write_page(stage.folder, stage.sent, shown)
        good = not sending.refused and all(not study.problems for study in shown)
        _say_all(console, shown, sending, page)
        verdict = "SR and SEG arrived and passed their checks." if good else "NOT as it should be: see PROBLEM above."
        _say(console, f"Took {time.monotonic() - began:.0f} s. {verdict}")
        if keep:
            _say(
                console, f"Left up until Ctrl-C: console {stage.base_url}/console, DICOMweb {stage.base_url}/dicom-web"
            )
            _wait_for_interrupt()
    return good


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description:<42}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def _make_study(stage: Stage, source: Path | None, progress: Progress) -> list[Path]:
    if source is not None:
        task = progress.add_task("Reading the files", total=None)
        files = copy_instances(source, stage.sent)
        if not files:
            raise DemoFailed(f"{source} holds no DICOM instances.")
        others = sum(path.is_file() for path in source.rglob("*")) - len(files)
        if others:
            progress.console.print(f"{others} files of {source} are no DICOM instances: left out.", highlight=False)
        progress.update(task, total=len(files), completed=len(files))
        return files
    task = progress.add_task("Making a chest CT phantom", total=None)
    files = write_phantom_study(stage.sent, on_slice=lambda done, of: progress.update(task, total=of, completed=done))
    progress.update(task, total=len(files), completed=len(files))
    return files


def _send(stage: Stage, files: Sequence[Path], progress: Progress) -> Sending:
    """Send all files as a modality would."""
    items = [outgoing(path) for path in files]
    task = progress.add_task(f"Sending by C-STORE as {MODALITY}", total=len(items))
    node = Peer(ae_title=NODE, host="127.0.0.1", port=stage.ports.dimse)
    refused: list[str] = []

    def on_status(item: Outgoing, status: int) -> None:
        if status != 0x0000:
            refused.append(f"{item.sop_instance_uid}: 0x{status:04X}")
        progress.advance(task)

    def on_refused(item: Outgoing, refusal: NodeError) -> None:
        refused.append(f"{item.sop_instance_uid}: {refusal}")
        progress.advance(task)

    began = now()
    send(node, calling_ae_title=MODALITY, items=items, on_status=on_status, on_refused=on_refused)
    if len(refused) == len(items):
        raise DemoFailed(f"The node kept none of {len(items)} instances; the first: {refused[0]}")
    return Sending(began, now(), len(items) - len(refused), tuple(refused))


def _await_answers(stage: Stage, uids: Sequence[str], progress: Progress) -> None:
    """Follow the studies until nothing more is to come, showing their states."""
    task = progress.add_task("The node: gathering", total=len(uids))
    deadline = time.monotonic() + _ANSWER_WITHIN_S
    while True:
        studies = [stage.get(f"/api/studies/{uid}") for uid in uids]
        done = [study for study in studies if _is_final(study)]
        states = sorted({str(study["state"]) for study in studies})
        progress.update(task, completed=len(done), description=f"The node: {', '.join(states)}")
        if len(done) == len(studies):
            return
        if time.monotonic() > deadline:
            raise DemoFailed(f"No answer after {_ANSWER_WITHIN_S:.0f} s; the study is {', '.join(states)}.")
        time.sleep(0.1)


def _is_final(study: dict[str, Any]) -> bool:
    deliveries = all(delivery["state"] in _FINAL_DELIVERY for delivery in study["deliveries"])
    return study["state"] not in _UNDER_WAY and deliveries


def _look(stage: Stage, uid: str, sending: Sending) -> StudyShown:
    page = stage.get(f"/api/studies/{uid}")
    received, problems = check_received(stage.received, stage.sent, uid)
    files = [(each.modality, each.path) for each in received]
    if page["state"] != "answered":
        problems = (f"The study is {page['state']}, not answered: {page['reason']}", *problems)
    return StudyShown(
        study_instance_uid=uid,
        state=page["state"],
        steps=tuple(steps_of(page, sending, files, PACS)),
        spans=tuple(spans_of(page, sending, files)),
        report="\n\n".join(report_text(each.dataset).strip() for each in received if each.modality == "SR"),
        received=received,
        problems=problems,
    )


def _say(console: Console, text: str) -> None:
    # Long lines stay whole: a path broken in two cannot be copied.
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _say_all(console: Console, shown: Sequence[StudyShown], sending: Sending, page: Path) -> None:
    for study in shown:
        _show(study, console)
    for refusal in sending.refused:
        _say(console, f"PROBLEM: not kept by the node: {refusal}")
    _say(console, f"\nWhat must hold: {'; '.join(checks_made())}.")
    _say(console, f"The page to look at: {page}")


def _show(study: StudyShown, console: Console) -> None:
    _say(console, f"\nStudy {study.study_instance_uid}: {study.state}")
    for step in study.steps:
        clock = f"{step.at:%H:%M:%S}.{step.at.microsecond // 1000:03d}"
        _say(console, f"  {clock} {step.after_s:>+7.1f} s  {step.what:<9} {step.state:<10} {step.why}".rstrip())
    _say(console, "  " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in study.spans))
    if study.report:
        _say(console, "\nThe report (the SR that the PACS received, as text)\n")
        _say(console, "  " + study.report.replace("\n", "\n  ") + "\n")
    for each in study.received:
        _say(console, f"{PACS} received {each.modality}: {each.path}")
    for problem in study.problems:
        _say(console, f"PROBLEM: {problem}")


def _wait_for_interrupt() -> None:
    try:
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        pass
