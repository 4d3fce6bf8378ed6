"""Pictures and texts of instances for browsers.

Source: PS3.18 8.3.5 (rendering parameters), 8.7.4 (rendered media types), 10.4.1.1.3 and 10.4.1.1.4.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

from PIL import Image, ImageDraw
from pydicom import dcmread
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.conditional import Validators
from dicomweb.errors import BadRequest
from dicomweb.media_types import accepted_by, choose
from dicomweb.ports import PixelWork, Readings
from inference.errors import NoSuchFrame
from storage.blobs import BlobStore
from storage.records import InstanceRecord, InstanceRole

_JPEG, _PNG, _GIF = "image/jpeg", "image/png", "image/gif"
_THUMBNAIL = 200
MOST_VIEWPORT = 8192
#: Frames of an animation at most; of more, every n-th is taken.
_MOST_ANIMATED = 120
_FRAME_MS = 80
_FUNCTIONS = ("linear", "linear-exact", "sigmoid")
_ANNOTATIONS = ("patient", "technique")
_REPORTS = ("1.2.840.10008.5.1.4.1.1.88.",)


@dataclass(frozen=True)
class Wishes:
    """How a picture is wanted."""

    window: tuple[float, float] | None = None
    viewport: tuple[int, int] | None = None
    cut: tuple[float, float, float, float] | None = None
    """Left, top, width, height of the source, in pixels; negative width or height: mirrored."""
    quality: int = 90
    annotations: tuple[str, ...] = ()


class Rendering:
    """Answers requests for pictures."""

    def __init__(self, blobs: BlobStore, pixels: PixelWork, readings: Readings) -> None:
        self._blobs = blobs
        self._pixels = pixels
        self._readings = readings

    def rendered(self, request: Request, records: Sequence[InstanceRecord], numbers: Sequence[int] = ()) -> Response:
        """Give a picture of an instance or its frames; of a series or study, of the image in its middle."""
        record = _middle(records)
        if len(records) == 1 and record.sop_class_uid.startswith(_REPORTS):
            return self._text(request, record)
        frames = list(numbers) or list(range(1, max(1, record.number_of_frames) + 1))
        kinds = (_JPEG, _PNG, _GIF)
        kind = choose(accepted_by(request), kinds)
        wishes = _wishes(request)
        validators = Validators([record], f"rendered {kind} {frames} {request.url.query}")
        if (known := validators.not_modified(request)) is not None:
            return known
        if kind == _GIF and len(frames) > 1:
            content = self._animation(record, frames, wishes)
        else:
            content = self.picture(record, frames[0], wishes, kind)
        return Response(content, media_type=kind, headers=validators.headers)

    def thumbnail(self, request: Request, records: Sequence[InstanceRecord], number: int | None = None) -> Response:
        """Give a small picture, of the frame in the middle unless it is said."""
        record = _middle(records)
        kind = choose(accepted_by(request), (_JPEG, _PNG))
        validators = Validators([record], f"thumbnail {kind} {number} {request.url.query}")
        if (known := validators.not_modified(request)) is not None:
            return known
        wishes = _wishes(request)
        if wishes.viewport is None:
            wishes = Wishes(wishes.window, (_THUMBNAIL, _THUMBNAIL), wishes.cut, wishes.quality, wishes.annotations)
        content = self.picture(record, number or max(1, record.number_of_frames) // 2 + 1, wishes, kind)
        return Response(content, media_type=kind, headers=validators.headers)

    def picture(self, record: InstanceRecord, number: int, wishes: Wishes, kind: str) -> bytes:
        """Give one frame, numbered from 1, as a picture of a media type."""
        form: Literal["PNG", "JPEG"] = "JPEG" if kind == _JPEG else "PNG"
        plain = wishes.viewport is None and wishes.cut is None and not wishes.annotations and kind != _GIF
        if plain:
            with self._blobs.open(record.path) as file:
                return self._pixels.picture(file, number - 1, form=form, window=wishes.window, quality=wishes.quality)
        return _encoded(self._image(record, number, wishes), kind, wishes.quality)

    def _image(self, record: InstanceRecord, number: int, wishes: Wishes) -> Image.Image:
        if not 0 < number <= max(1, record.number_of_frames):
            raise NoSuchFrame(f"The instance has {record.number_of_frames} frames.")
        with self._blobs.open(record.path) as file:
            png = self._pixels.picture(file, number - 1, form="PNG", window=wishes.window)
        # It was made by us in the child: what is decoded here is no sender's.
        image: Image.Image = Image.open(BytesIO(png))
        image = _fitted(image, wishes)
        return self._annotated(image, record, wishes.annotations)

    def _animation(self, record: InstanceRecord, frames: Sequence[int], wishes: Wishes) -> bytes:
        chosen = frames[:: -(-len(frames) // _MOST_ANIMATED)]
        images = [self._image(record, number, wishes).convert("P") for number in chosen]
        buffer = BytesIO()
        images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=_FRAME_MS, loop=0)
        return buffer.getvalue()

    def _annotated(self, image: Image.Image, record: InstanceRecord, asked: Sequence[str]) -> Image.Image:
        if not asked:
            return image
        with self._blobs.open(record.path) as file:
            header = dcmread(file, stop_before_pixels=True)
        lines = []
        if "patient" in asked:
            who = ("PatientName", "PatientID", "PatientBirthDate", "StudyDate")
            lines += [str(header.get(word, "")) for word in who]
        if "technique" in asked:
            how = ("Modality", "SeriesDescription", "KVP", "SliceThickness", "InstanceNumber")
            lines += [f"{word} {header.get(word)}" for word in how if header.get(word) is not None]
        image = image.convert("RGB")
        drawing = ImageDraw.Draw(image)
        for place, line in enumerate(filter(None, lines)):
            drawing.text((4, 4 + 12 * place), line[:80], fill=(255, 220, 90))
        return image

    def _text(self, request: Request, record: InstanceRecord) -> Response:
        kind = choose(accepted_by(request), ("text/html", "text/plain"))
        text = self._readings.text(record.sop_instance_uid)
        if kind == "text/html":
            text = f"<!DOCTYPE html><meta charset=utf-8><title>Report</title><pre>{html.escape(text)}</pre>"
        headers = Validators([record], kind).headers | {"Content-Security-Policy": "default-src 'none'"}
        return Response(text, media_type=kind, headers=headers)


def _middle(records: Sequence[InstanceRecord]) -> InstanceRecord:
    """Give what stands for a study or series: an image in the middle of it, where it has images."""
    images = [record for record in records if record.role is InstanceRole.INPUT] or list(records)
    return images[len(images) // 2]


def _wishes(request: Request) -> Wishes:
    asked = request.query_params
    viewport, cut = _viewport(asked.get("viewport", ""))
    quality = asked.get("quality", "90")
    if not (quality.isascii() and quality.isdigit() and 1 <= int(quality) <= 100):
        raise BadRequest("quality is a whole number from 1 to 100.")
    annotations = tuple(filter(None, asked.get("annotation", "").split(",")))
    if not set(annotations) <= set(_ANNOTATIONS):
        raise BadRequest(f"annotation is one or both of {', '.join(_ANNOTATIONS)}.")
    return Wishes(_window(asked.get("window", "")), viewport, cut, int(quality), annotations)


def _window(text: str) -> tuple[float, float] | None:
    """Read `window=center,width,function`. Source: PS3.18 8.3.5.1.4."""
    if not text:
        return None
    center, width, *function = text.split(",") if text.count(",") in (1, 2) else ("", "")
    values = numbers_of([center, width])
    if values is None or values[1] < 1 or (function and function[0].lower() not in _FUNCTIONS):
        raise BadRequest("A window is written center,width,function; the width is 1 at least.")
    return values[0], values[1]


def _viewport(text: str) -> tuple[tuple[int, int] | None, tuple[float, float, float, float] | None]:
    """Read `viewport=vw,vh,sx,sy,sw,sh`. Source: PS3.18 8.3.5.1.3."""
    if not text:
        return None, None
    parts = text.split(",")
    values = numbers_of([part or "0" for part in parts])
    if values is None or len(values) not in (2, 6) or not all(1 <= side <= MOST_VIEWPORT for side in values[:2]):
        raise BadRequest(f"A viewport is written vw,vh or vw,vh,sx,sy,sw,sh; its sides have 1 to {MOST_VIEWPORT}.")
    size = (int(values[0]), int(values[1]))
    return size, ((values[2], values[3], values[4], values[5]) if len(values) == 6 else None)


def numbers_of(texts: Sequence[str]) -> list[float] | None:
    """Read finite numbers of bearable size; None where one is none."""
    try:
        values = [float(text) for text in texts]
    except ValueError:
        return None
    return values if all(math.isfinite(value) and abs(value) < 1e9 for value in values) else None


def _fitted(image: Image.Image, wishes: Wishes) -> Image.Image:
    """Cut out the region and scale it into the viewport, its proportions kept."""
    if wishes.cut is not None:
        left, top, width, height = wishes.cut
        wide, high = abs(width) or image.width - left, abs(height) or image.height - top
        box = (
            max(0, int(left)),
            max(0, int(top)),
            int(min(image.width, left + wide)),
            int(min(image.height, top + high)),
        )
        if box[0] >= box[2] or box[1] >= box[3]:
            raise BadRequest("The region of the viewport lies outside of the picture.")
        image = image.crop(box)
        if width < 0:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if height < 0:
            image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    if wishes.viewport is not None:
        scale = min(wishes.viewport[0] / image.width, wishes.viewport[1] / image.height)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BILINEAR if scale > 1 else Image.Resampling.BOX)
    return image


def _encoded(image: Image.Image, kind: str, quality: int) -> bytes:
    buffer = BytesIO()
    image.save(buffer, {_JPEG: "JPEG", _PNG: "PNG", _GIF: "GIF"}[kind], quality=quality)
    return buffer.getvalue()
