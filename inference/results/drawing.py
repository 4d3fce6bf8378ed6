"""Pictures that are burned in: images with outlines and marks, and a page of text. Nothing here knows DICOM objects."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from inference.findings import Mask
from inference.results.pictures import Picture

Colour = tuple[int, int, int]

#: A picture is enlarged by whole pixels until its shorter side has this many: smaller text is not read.
_SHORTEST_SIDE = 512
_LONGEST_SIDE = 2048
#: Side of an image on which letters and lines have their plain size.
_USUAL_SIDE = 640
_WHITE, _GREY, _AMBER = (255, 255, 255), (210, 210, 210), (255, 200, 60)
_MARGIN = 8


@dataclass(frozen=True, eq=False)
class Outline:
    """One structure on one image."""

    label: str
    mask: Mask
    """(rows, columns)."""
    colour: Colour


@dataclass(frozen=True)
class Mark:
    """One mark on one image: points joined by lines, or a single point."""

    points: tuple[tuple[float, float], ...]
    """(column, row), pixels of the image."""
    label: str
    closed: bool


def annotated(
    picture: Picture,
    outlines: Sequence[Outline],
    marks: Sequence[Mark],
    *,
    corner: Sequence[str],
    where: Sequence[str],
    edges: tuple[str, str, str, str] | None,
    proportions: tuple[float, float] = (1.0, 1.0),
) -> Picture:
    """Draw outlines, marks and words into one image; rows and columns keep their true proportions.

    Parameters
    ----------
    corner, where
        Lines at the upper left (standing and maker) and at the upper right (which image).
    edges
        Letters at the left, right, upper and lower edge; None: unknown.
    proportions
        Distance of rows, of columns, in one unit.

    Returns
    -------
    array
        (rows, columns, 3), uint8.
    """
    size = _size(picture.shape[:2], proportions)
    image = _resized(picture, size)
    drawn = np.asarray(image).copy()
    for outline in outlines:
        _draw_edge(drawn, outline, size)
    image = Image.fromarray(drawn)
    writer = _Words(image)
    scale = size[0] / picture.shape[1], size[1] / picture.shape[0]
    for mark in marks:
        writer.mark(mark, scale)
    writer.corners(corner, where)
    if edges is not None:
        writer.edges(edges)
    writer.legend([(outline.label, outline.colour) for outline in outlines])
    return np.asarray(image)


def drawable(text: str) -> bool:
    """Tell whether the burned-in letters can show a text: Latin letters, digits and common signs."""
    return all(ord(letter) < 0x250 or letter in _SIGNS for letter in text)


_SIGNS = frozenset("\u2013\u2014\u2018\u2019\u201c\u201d\u2026\u2264\u2265\u2122\u2022")


def _size(shape: tuple[int, ...], proportions: tuple[float, float]) -> tuple[int, int]:
    rows, columns = (shape[side] * proportions[side] / min(proportions) for side in (0, 1))
    factor = max(1.0, float(np.ceil(_SHORTEST_SIDE / min(rows, columns))))
    factor = min(factor, max(_LONGEST_SIDE / max(rows, columns), 1.0))
    if max(rows, columns) > _LONGEST_SIDE:
        factor = _LONGEST_SIDE / max(rows, columns)
    return max(round(columns * factor), 64), max(round(rows * factor), 64)


def _resized(picture: Picture, size: tuple[int, int]) -> Image.Image:
    image = Image.fromarray(picture).convert("RGB")
    return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)


def _draw_edge(picture: npt.NDArray[np.uint8], outline: Outline, size: tuple[int, int]) -> None:
    """Draw the edge alone: what lies inside is to be seen."""
    scaled = Image.fromarray(outline.mask.astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)
    inside = np.asarray(scaled) > 127
    edge = inside & ~ndimage.binary_erosion(inside, iterations=_enlargement(size), border_value=0)
    picture[edge] = outline.colour


def _enlargement(size: tuple[int, int]) -> int:
    """How many times larger letters and lines are than on an image of usual size: all are seen fitted to a screen."""
    return max(1, math.ceil(min(size) / _USUAL_SIDE))


class _Words:
    """Writes into an image, all of it in the size that suits the image."""

    def __init__(self, image: Image.Image) -> None:
        self.draw = ImageDraw.Draw(image)
        self._width, self._height = image.size
        self._times = _enlargement(image.size)
        self._margin = _MARGIN * self._times

    def mark(self, mark: Mark, scale: tuple[float, float]) -> None:
        """Draw one mark with its name."""
        points = [(column * scale[0], row * scale[1]) for column, row in mark.points]
        line, around = 2 * self._times, 6 * self._times
        if len(points) == 1:
            ((x, y),) = points
            self.draw.ellipse((x - around, y - around, x + around, y + around), outline=_AMBER, width=line)
        else:
            self.draw.line([*points, points[0]] if mark.closed else points, fill=_AMBER, width=line)
        right = max(x for x, _ in points)
        beside = 8 * self._times
        font = self._font(14)
        fits = right + beside + font.getlength(mark.label) < self._width
        x = right + beside if fits else min(x for x, _ in points) - beside
        middle = sum(y for _, y in points) / len(points)
        self._write((x, middle), mark.label, _AMBER, 14, "lm" if fits else "rm")

    def corners(self, corner: Sequence[str], where: Sequence[str]) -> None:
        """Standing and maker at the upper left, which image at the upper right."""
        for number, line in enumerate(corner):
            down = (26 + 20 * (number - 1)) * self._times if number else 0
            self._write((self._margin, self._margin + down), line, _GREY if number else _AMBER, 15 if number else 20)
        for number, line in enumerate(where):
            place = (self._width - self._margin, self._margin + 20 * self._times * number)
            self._write(place, line, _GREY, 15, "ra")

    def edges(self, edges: tuple[str, str, str, str]) -> None:
        """Sides of the patient."""
        left, right, upper, lower = edges
        self._write((self._margin, self._height / 2), left, _WHITE, 20, "lm")
        self._write((self._width - self._margin, self._height / 2), right, _WHITE, 20, "rm")
        self._write((self._width / 2, self._margin), upper, _WHITE, 20, "mt")
        self._write((self._width / 2, self._height - self._margin), lower, _WHITE, 20, "mb")

    def legend(self, legend: Sequence[tuple[str, Colour]]) -> None:
        """Names in their colours at the lower left."""
        for number, (label, colour) in enumerate(reversed(legend)):
            place = (self._margin, self._height - self._margin - 19 * self._times * number)
            self._write(place, label, colour, 15, "lb")

    def _write(self, place: tuple[float, float], text: str, fill: Colour, size: int, anchor: str = "la") -> None:
        """Write with a dark rim, so that letters are read on bright images too."""
        rim = 2 * self._times
        self.draw.text(
            place, text, fill=fill, font=self._font(size), anchor=anchor, stroke_width=rim, stroke_fill=(0, 0, 0)
        )

    def _font(self, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        return ImageFont.load_default(size * self._times)


def wrapped(text: str, width: int) -> list[str]:
    """Break a text into lines of at most so many characters, at spaces where there are any."""
    return [line for paragraph in text.split("\n") for line in textwrap.wrap(paragraph, width) or [""]]
