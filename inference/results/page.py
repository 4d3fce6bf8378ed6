"""The summary page as a picture, for receivers that show nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from inference.findings import Findings
from inference.results.drawing import wrapped
from inference.results.evidence import Evidence
from inference.results.pictures import Picture
from inference.results.report_content import PageContent, page_content
from inference.results.run import Run

_WIDTH, _HEIGHT = 1240, 1754  # A4 at 150 dots per inch
_MARGIN = 70
_BLACK, _GREY, _RED, _LINE = (20, 20, 20), (90, 90, 90), (170, 30, 20), (200, 200, 200)
#: Key images have at least so much of the page's height, and are enlarged so much at most.
_PICTURE_HEIGHT = 470
_MOST_ENLARGED = 1.5


def summary_page(findings: Findings, evidence: Evidence, run: Run, pictures: Sequence[Picture]) -> Picture:
    """Draw one page: standing, patient, summary, figures, key images, provenance."""
    image = Image.new("RGB", (_WIDTH, _HEIGHT), (255, 255, 255))
    writer = _Writer(ImageDraw.Draw(image))
    content = page_content(findings, evidence, run)
    _write_head(writer, content)
    bottom = _HEIGHT - _MARGIN - 28 * len(content.provenance) - 20
    top = bottom - _PICTURE_HEIGHT - 20 if pictures else bottom
    _write_body(writer, content, top)
    _paste(image, pictures[:2], top=writer.at + 20, bottom=bottom - 20)
    writer.at = bottom
    writer.rule()
    for name, value in content.provenance:
        writer.pair(name, value, size=18, height=28, colour=_GREY)
    return np.asarray(image)


def _paste(image: Image.Image, pictures: Sequence[Picture], *, top: int, bottom: int) -> None:
    """Set pictures below the text, side by side, as large as there is room for them."""
    width = (_WIDTH - 2 * _MARGIN - 40 * (len(pictures) - 1)) // max(len(pictures), 1)
    for number, picture in enumerate(pictures):
        scale = min(width / picture.shape[1], (bottom - top) / picture.shape[0], _MOST_ENLARGED)
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        placed = Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)
        image.paste(placed, (_MARGIN + number * (width + 40), top))


class _Writer:
    """Writes downwards."""

    def __init__(self, draw: ImageDraw.ImageDraw) -> None:
        self._draw = draw
        self.at = _MARGIN

    def line(
        self, text: str, *, size: int, height: int, colour: tuple[int, int, int] = _BLACK, x: int = _MARGIN
    ) -> None:
        self._draw.text((x, self.at), text, fill=colour, font=ImageFont.load_default(size))
        self.at += height

    def paragraph(self, text: str, *, size: int, height: int, columns: int) -> None:
        for line in wrapped(text, columns):
            self.line(line, size=size, height=height)

    def pair(
        self, name: str, value: str, *, size: int, height: int, colour: tuple[int, int, int] = _BLACK, columns: int = 88
    ) -> None:
        self._draw.text((_MARGIN, self.at), name, fill=_GREY, font=ImageFont.load_default(size))
        for line in wrapped(value, columns):
            self.line(line, size=size, height=height, colour=colour, x=_MARGIN + 230)

    def rule(self) -> None:
        self._draw.line((_MARGIN, self.at, _WIDTH - _MARGIN, self.at), fill=_LINE, width=2)
        self.at += 14


def _write_head(writer: _Writer, content: PageContent) -> None:
    writer.line(content.title, size=40, height=56)
    writer.line(content.warning, size=24, height=44, colour=_RED)
    for name, value in content.identity:
        writer.pair(name, value, size=22, height=32)
    writer.at += 8
    writer.rule()


def _write_body(writer: _Writer, content: PageContent, bottom: int) -> None:
    writer.paragraph(content.summary, size=22, height=31, columns=104)
    writer.at += 12
    written = 0
    rows = [*content.rows, *(("", text) for text in content.narrative)]
    before = ""
    for what, said in rows:
        lines = len(list(wrapped(said, 78)))
        if writer.at + 29 * (lines + 1) > bottom:
            left = len(rows) - written
            writer.line(f"{left} more line{'s' if left > 1 else ''} in the report.", size=20, height=29, colour=_GREY)
            return
        writer.pair("" if what == before else what, said, size=20, height=29, columns=78)
        before, written = what, written + 1
