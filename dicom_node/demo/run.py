"""The main job, played once: a study goes in by C-STORE, SR and SEG come back to a PACS."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from configs.peers import Peer
from dicom_node.demo.checks import StudyShown, check_received
from dicom_node.demo.page import write_page
from dicom_node.demo.phantom import write_phantom_study
from dicom_node.demo.stage import MODALITY, NODE, PACS, DemoFailed, Stage
from dicom_node.scu.files import copy_instances, outgoing
from dicom_node.scu.store import send

#: States in which nothing more will happen to a study by itself.
_FINAL_STUDY = frozenset({"answered", "declined", "failed", "unmatched", "quarantined", "waiting for engine"})
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
            uids = _send(stage, files, progress)
            _await_answers(stage, uids, progress)
        shown = tuple(_look(stage, uid) for uid in uids)
        page = write_page(stage.folder, stage.sent, shown)
        for study in shown:
            _show(study, console)
        good = all(not study.problems for study in shown)
        console.print(f"\nThe page to look at: {page}", highlight=False)
        console.print(
            f"Took {time.monotonic() - began:.0f} s. {'All checks passed.' if good else 'NOT as it should be.'}"
        )
        if keep:
            console.print(
                f"Left up until Ctrl-C: console {stage.base_url}/console, DICOMweb {stage.base_url}/dicom-web"
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
        progress.update(task, total=len(files), completed=len(files))
        return files
    task = progress.add_task("Making a chest CT phantom", total=None)
    files = write_phantom_study(stage.sent, on_slice=lambda done, of: progress.update(task, total=of, completed=done))
    progress.update(task, total=len(files), completed=len(files))
    return files


def _send(stage: Stage, files: Sequence[Path], progress: Progress) -> list[str]:
    """Send all files as a modality would; give the studies' UIDs in the order of their first image."""
    items = [outgoing(path) for path in files]
    task = progress.add_task(f"Sending by C-STORE as {MODALITY}", total=len(items))
    node = Peer(ae_title=NODE, host="127.0.0.1", port=stage.ports.dimse)
    refused: list[int] = []

    def on_status(_: object, status: int) -> None:
        if status != 0x0000:
            refused.append(status)
        progress.advance(task)

    send(node, calling_ae_title=MODALITY, items=items, on_status=on_status)
    if refused:
        raise DemoFailed(f"The node did not keep {len(refused)} instances; first status 0x{refused[0]:04X}.")
    return [study["study_instance_uid"] for study in reversed(stage.get("/api/studies")["studies"])]


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
    return study["state"] in _FINAL_STUDY and deliveries


def _look(stage: Stage, uid: str) -> StudyShown:
    way = stage.get(f"/api/studies/{uid}")
    report = stage.get_text(f"/api/studies/{uid}/report.txt") if way["results"] else ""
    received, problems = check_received(stage.received, stage.sent, uid)
    return StudyShown(uid, way, report, received, problems)


def _show(study: StudyShown, console: Console) -> None:
    say: Callable[[str], None] = lambda text: console.print(text, highlight=False, markup=False)  # noqa: E731
    say(f"\nStudy {study.study_instance_uid}")
    for step in study.way["way"]:
        say(f"  {step['at']}  {step['subject']:<9} {step['to_state']:<20} {step['reason']}")
    if study.report:
        say("\nThe report (SR as text)\n")
        say("  " + study.report.replace("\n", "\n  "))
    for each in study.received:
        say(f"{PACS} received {each.modality}: {each.path}")
    for problem in study.problems:
        say(f"PROBLEM: {problem}")


def _wait_for_interrupt() -> None:
    try:
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        pass
