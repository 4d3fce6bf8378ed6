"""The page that the demo leaves: the way, the report, and the received segmentation on the images that were sent."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydicom import Dataset, dcmread

from dicom_node.demo.checks import Received, StudyShown, checks_made
from dicom_node.demo.stage import MODALITY, PACS
from dicom_node.pictures import PLANES, draw, referenced_images
from inference.volume import SourceInstance, read_volume

_TEMPLATES = Path(__file__).parent


def write_page(folder: Path, sent: Path, shown: Sequence[StudyShown]) -> Path:
    """Write `index.html` and its pictures, drawn from what was sent and received, not from the node's own store."""
    page = folder / "index.html"
    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined)
    studies = [_study(folder, sent, number, study) for number, study in enumerate(shown, start=1)]
    text = environment.get_template("page.html").render(
        studies=studies, modality=MODALITY, pacs=PACS, checks=checks_made()
    )
    page.write_text(text, encoding="utf-8")
    return page


def _study(folder: Path, sent: Path, number: int, study: StudyShown) -> dict[str, Any]:
    segs = [each.dataset for each in study.received if each.modality == "SEG"]
    return {
        "uid": study.study_instance_uid,
        "problems": study.problems,
        "report": study.report,
        "pictures": _pictures(folder, sent, number, segs[0]) if segs else [],
        "state": study.state,
        "steps": study.steps,
        "spans": study.spans,
        "received": [_line(folder, each) for each in study.received],
    }


def _line(folder: Path, each: Received) -> dict[str, str]:
    return {
        "modality": each.modality,
        "description": str(each.dataset.get("SeriesDescription", "")),
        "file": str(each.path.relative_to(folder)),
    }


def _pictures(folder: Path, sent: Path, number: int, seg: Dataset) -> list[dict[str, str]]:
    wanted = set(referenced_images(seg))
    sources = [source for path in sorted(sent.rglob("*")) if path.is_file() and (source := _source(path, wanted))]
    volume = read_volume(sources)
    pictures = []
    for plane in PLANES:
        name = f"study-{number}-{plane}.png"
        (folder / name).write_bytes(draw(seg, volume, plane))
        pictures.append({"file": name, "plane": plane})
    return pictures


def _source(path: Path, wanted: set[str]) -> SourceInstance | None:
    header = dcmread(path, stop_before_pixels=True, force=True)
    uid = str(header.get("SOPInstanceUID", ""))
    if uid not in wanted:
        return None
    return SourceInstance(uid, str(header.SOPClassUID), "", partial(_open, path))


def _open(path: Path) -> BinaryIO:
    return path.open("rb")
