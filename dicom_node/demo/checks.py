"""What must hold of the objects that the PACS stand-in received, looked at from outside the node."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread

from dicom_node.demo.way import Step

#: Attributes whose values in a result must be those of the source.
_IDENTITY = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate")


@dataclass(frozen=True)
class Received:
    """One object that the stand-in got."""

    modality: str
    path: Path
    dataset: Dataset


@dataclass(frozen=True)
class StudyShown:
    """What the demo shows of one study."""

    study_instance_uid: str
    state: str
    steps: tuple[Step, ...]
    """Its way: sent, then through the node, then received."""
    spans: tuple[tuple[str, float], ...]
    """What took how many seconds."""
    report: str
    """The SR that was received, as text; empty where none was."""
    received: tuple[Received, ...]
    problems: tuple[str, ...]
    """Why the demo failed for this study; empty: SR and SEG arrived and passed their checks."""


def checks_made() -> tuple[str, ...]:
    """Say what `check_received` asks for on this machine."""
    iod = "dciodvfy finds no error in them"
    if shutil.which("dciodvfy") is None:
        iod = "(their IODs are not checked: dciodvfy is not installed (Debian: apt-get install dicom3tools))"
    return (
        "one SR and one SEG arrived",
        "patient and study are those of the images",
        "all they refer to was sent or arrived",
        iod,
    )


def check_received(received: Path, sent: Path, study_instance_uid: str) -> tuple[tuple[Received, ...], tuple[str, ...]]:
    """Give the received SR and SEG of one study, and what is wrong with them."""
    objects = tuple(_objects_of(received, study_instance_uid))
    sources = {str(header.SOPInstanceUID): header for header in _headers_of(sent, study_instance_uid)}
    problems = list(_count_problems(objects))
    first = next(iter(sources.values()), Dataset())
    for each in objects:
        problems += [
            f"{each.modality}: {name} differs from the source" for name in _other_identity(each.dataset, first)
        ]
        known = set(sources) | {str(other.dataset.SOPInstanceUID) for other in objects}
        strangers = set(_referenced(each.dataset)) - known
        if strangers:
            problems.append(f"{each.modality}: refers to {len(strangers)} objects that neither were sent nor arrived")
        problems += [f"{each.modality}: {line}" for line in _iod_errors(each.path)]
    return objects, tuple(problems)


def _objects_of(folder: Path, study_instance_uid: str) -> Iterator[Received]:
    for path in sorted(folder.rglob("*.dcm")):
        dataset = dcmread(path)
        if dataset.StudyInstanceUID == study_instance_uid:
            yield Received(str(dataset.Modality), path, dataset)


def _headers_of(folder: Path, study_instance_uid: str) -> Iterator[Dataset]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        header = dcmread(path, stop_before_pixels=True, force=True)
        if header.get("StudyInstanceUID") == study_instance_uid:
            yield header


def _count_problems(objects: Sequence[Received]) -> Iterator[str]:
    for modality in ("SR", "SEG"):
        count = sum(each.modality == modality for each in objects)
        if count != 1:
            yield f"{count} {modality} objects arrived, not one"


def _other_identity(result: Dataset, source: Dataset) -> list[str]:
    return [name for name in _IDENTITY if str(result.get(name) or "") != str(source.get(name) or "")]


#: References of the source study itself, which are copied and lead elsewhere.
_COPIED = frozenset(
    {"ReferencedStudySequence", "ReferencedRequestSequence", "RequestAttributesSequence", "ReferencedPatientSequence"}
)


def _referenced(dataset: Dataset) -> Iterator[str]:
    for element in dataset:
        if element.keyword in _COPIED:
            continue
        if element.keyword == "ReferencedSOPInstanceUID" and element.value:
            yield str(element.value)
        elif element.VR == "SQ":
            for item in element.value:
                yield from _referenced(item)


def _iod_errors(path: Path) -> list[str]:
    """What dciodvfy calls an error, where it is installed."""
    tool = shutil.which("dciodvfy")
    if tool is None:
        return []
    done = subprocess.run([tool, str(path)], capture_output=True, text=True, errors="replace", check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
