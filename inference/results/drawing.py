"""Pictures that are burned in: images with outlines and marks, and a page of text. Nothing here knows DICOM objects."""

from __future__ import annotations

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
    pixel_mm: tuple[float, float] = (1.0, 1.0),
) -> Picture:
    """Draw outlines, marks and words into one image; rows and columns keep their true proportions.

    Parameters
    ----------
    corner, where
        Lines at the upper left (standing and maker) and at the upper right (which image).
    edges
        Letters at the left, right, upper and lower edge; None: unknown.
    pixel_mm
        Distance of rows, of columns.

    Returns
    -------
    array
        (rows, columns, 3), uint8.
    """
    size = _size(picture.shape[:2], pixel_mm)
    image = _resized(picture, size)
    drawn = np.asarray(image).copy()
    for outline in outlines:
        _draw_edge(drawn, outline, size)
    image = Image.fromarray(drawn)
    draw = ImageDraw.Draw(image)
    scale = size[0] / picture.shape[1], size[1] / picture.shape[0]
    for mark in marks:
        _draw_mark(draw, mark, scale)
    _write_words(draw, image.size, corner, where, edges)
    _write_legend(draw, image.size, [(outline.label, outline.colour) for outline in outlines])
    return np.asarray(image)


def drawable(text: str) -> bool:
    """Tell whether the burned-in letters can show a text: Latin letters, digits and common signs."""
    return all(ord(letter) < 0x250 or letter in _SIGNS for letter in text)


_SIGNS = frozenset("\u2013\u2014\u2018\u2019\u201c\u201d\u2026\u2264\u2265\u2122\u2022")


def _size(shape: tuple[int, ...], pixel_mm: tuple[float, float]) -> tuple[int, int]:
    rows, columns = shape[0] * pixel_mm[0] / min(pixel_mm), shape[1] * pixel_mm[1] / min(pixel_mm)
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
    edge = inside & ~ndimage.binary_erosion(inside, border_value=0)
    picture[edge] = outline.colour


def _draw_mark(draw: ImageDraw.ImageDraw, mark: Mark, scale: tuple[float, float]) -> None:
    points = [(column * scale[0], row * scale[1]) for column, row in mark.points]
    if len(points) == 1:
        ((x, y),) = points
        draw.ellipse((x - 6, y - 6, x + 6, y + 6), outline=_AMBER, width=2)
    else:
        draw.line([*points, points[0]] if mark.closed else points, fill=_AMBER, width=2)
    draw.text((points[0][0] + 8, points[0][1] - 8), mark.label, fill=_AMBER, font=ImageFont.load_default(14))


def _write_words(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    corner: Sequence[str],
    where: Sequence[str],
    edges: tuple[str, str, str, str] | None,
) -> None:
    width, height = size
    large, small = ImageFont.load_default(20), ImageFont.load_default(15)
    for number, line in enumerate(corner):
        _write(
            draw, (_MARGIN, _MARGIN + 20 * number), line, _AMBER if number == 0 else _GREY, small if number else large
        )
    for number, line in enumerate(where):
        _write(draw, (width - _MARGIN, _MARGIN + 20 * number), line, _GREY, small, "ra")
    if edges is None:
        return
    left, right, upper, lower = edges
    _write(draw, (_MARGIN, height / 2), left, _WHITE, large, "lm")
    _write(draw, (width - _MARGIN, height / 2), right, _WHITE, large, "rm")
    _write(draw, (width / 2, _MARGIN), upper, _WHITE, large, "mt")
    _write(draw, (width / 2, height - _MARGIN), lower, _WHITE, large, "mb")


def _write_legend(draw: ImageDraw.ImageDraw, size: tuple[int, int], legend: Sequence[tuple[str, Colour]]) -> None:
    font = ImageFont.load_default(15)
    for number, (label, colour) in enumerate(reversed(legend)):
        _write(draw, (_MARGIN, size[1] - _MARGIN - 19 * number), label, colour, font, "lb")


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    fill: Colour,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    anchor: str = "la",
) -> None:
    """Write with a dark rim, so that letters are read on bright images too."""
    draw.text(place, text, fill=fill, font=font, anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))


def wrapped(text: str, width: int) -> list[str]:
    """Break a text into lines of at most so many characters, at spaces where there are any."""
    return [line for paragraph in text.split("\n") for line in textwrap.wrap(paragraph, width) or [""]]
