"""Writes results, pictures of them and a page that shows both."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import Dataset

from inference.results.build import build_list, build_results
from inference.results.drawing import Outline, annotated
from inference.results.forms import CANONICAL, Form
from inference.results.orientation_letters import edge_letters
from inference.results.places import image_said
from inference.results.read import segments_of
from inference.results.result import Result
from inference.results.text import report_text
from tests.builders.findings import NODE, make_run
from tests.gallery.sources import SOURCES, Source

#: Each kind of object once.
FORMS = (
    *(CANONICAL, Form("labelmap", "none"), Form("none", "comprehensive"), Form("none", "enhanced")),
    *(Form("none", "basic-text"), Form("capture", "none"), Form("none", "summary"), Form("none", "pdf")),
)
_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:1200px;padding:0 1rem;color:#222}"
    "section{border-top:1px solid #ccc;padding:.5rem 0 1.5rem}"
    ".row{display:flex;flex-wrap:wrap;gap:1rem;align-items:flex-start}"
    "img{max-width:380px;max-height:520px;border:1px solid #999}"
    "pre{background:#f4f4f4;padding:1rem;overflow:auto;max-height:26rem;font-size:13px;white-space:pre-wrap}"
    "h3{margin:1rem 0 .3rem}a{color:#06c}"
)


@dataclass(frozen=True)
class Shown:
    """One object and what is shown of it."""

    result: Result
    name: str
    pictures: tuple[str, ...] = ()
    text: str = ""


def write_gallery(folder: Path, kinds: Iterable[str] = SOURCES) -> Path:
    """Write all objects, their pictures and `index.html`; give the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    sections = []
    for kind in kinds:
        source = SOURCES[kind]()
        shown = list(_shown(source, folder, kind))
        sections.append(_section(source.title, shown))
    page = folder / "index.html"
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Results</title><style>{_STYLE}</style>'
    said = "<h1>Results</h1><p>One of each kind, on generated images. Links lead to the DICOM objects.</p>"
    page.write_text(f"{head}{said}{''.join(sections)}</html>\n", encoding="utf-8")
    return page


def _shown(source: Source, folder: Path, kind: str) -> Iterator[Shown]:
    run = make_run(source.evidence, engine=source.engine)
    results: list[Result] = []
    for form in FORMS:
        results += build_results(source.findings, source.evidence, run, NODE, form, source.pictures)
    canonical = [result for result in results if result.form == str(CANONICAL)]
    results.append(build_list(canonical, source.evidence[0], run, NODE))
    for result in results:
        name = f"{kind}-{result.kind}-{result.form.replace('+', '-')}"
        (folder / f"{name}.dcm").write_bytes(result.part10)
        yield _with_pictures(result, name, source, folder)


def _with_pictures(result: Result, name: str, source: Source, folder: Path) -> Shown:
    if result.kind in ("sr", "text", "key-objects"):
        known = {str(header.SOPInstanceUID): image_said(header) for header in source.evidence.instances}
        return Shown(result, name, text=report_text(result.dataset, lambda uid: known.get(uid, "")))
    if result.kind == "pdf":
        return Shown(result, name, _pages(result.dataset, name, folder))
    frames = _outlined(result.dataset, source) if result.kind == "seg" else _frames(result.dataset)
    files = []
    for number, frame in enumerate(frames, 1):
        file = f"{name}-{number}.png"
        Image.fromarray(frame).save(folder / file)
        files.append(file)
    return Shown(result, name, tuple(files))


def _frames(capture: Dataset) -> list[np.ndarray]:  # type: ignore[type-arg]
    pixels = capture.pixel_array
    frames = list(pixels) if int(capture.get("NumberOfFrames", 1)) > 1 else [pixels]
    return frames[:: max(1, len(frames) // 3)][:3]


def _outlined(seg: Dataset, source: Source) -> list[np.ndarray]:  # type: ignore[type-arg]
    """Draw a segmentation as it is read back, on the image in the middle of what it outlines."""
    evidence = source.evidence
    uids = [str(header.SOPInstanceUID) for header in evidence]
    masks = {one: one.stacked(uids, evidence.frame_numbers) for one in segments_of(seg)}
    drawn = np.flatnonzero(np.any([mask.any(axis=(1, 2)) for mask in masks.values()], axis=0))
    index = int(drawn[drawn.size // 2])
    outlines = [Outline(one.label, mask[index], one.colour) for one, mask in masks.items()]
    picture = annotated(
        source.pictures.shown(index),
        outlines,
        (),
        corner=("as read back",),
        where=(f"image {index + 1} of {len(evidence)}",),
        edges=edge_letters(evidence[index]),
    )
    return [picture]


def _pages(document: Dataset, name: str, folder: Path) -> tuple[str, ...]:
    """Write the PDF, and its pages as pictures where there is a program for it."""
    pdf = folder / f"{name}.pdf"
    pdf.write_bytes(document.EncapsulatedDocument[: document.EncapsulatedDocumentLength])
    program = shutil.which("pdftoppm")
    if program is None:
        return ()
    subprocess.run([program, "-png", "-r", "70", pdf, folder / name], check=True, capture_output=True)
    return tuple(sorted(path.name for path in folder.glob(f"{name}-*.png")))


def _section(title: str, shown: Iterable[Shown]) -> str:
    parts = [f"<section><h2>{escape(title)}</h2>"]
    for one in shown:
        described = f"{one.result.dataset.SeriesDescription} ({one.result.dataset.SOPClassUID.name})"
        link = f'<a href="{one.name}.dcm">{one.name}.dcm</a>'
        if one.result.kind == "pdf":
            link += f', <a href="{one.name}.pdf">PDF</a>'
        parts.append(f"<h3>{escape(described)}</h3><p>{link}</p>")
        parts.append('<div class="row">' + "".join(f'<img src="{file}" alt="">' for file in one.pictures) + "</div>")
        parts += [f"<pre>{escape(one.text)}</pre>"] if one.text else []
    return "".join([*parts, "</section>"])
