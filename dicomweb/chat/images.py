"""What a language model is shown: pictures that a request brings, and instances that the node keeps.

Nothing is fetched from anywhere: an image stands in the request (`data:`) or is kept here and visible to the caller
(`dicom:///studies/…`). All of them are decoded in the limited child process, and reach the model as plain PNG without
names: an instance is called by its place among what is shown, and only the caller is told which one that was.

Source: RFC 2397 (data URLs); PS3.18 10.1 (paths of studies, series, instances and frames).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from configs.chat import ChatSettings
from dicomweb.accesses import Accesses
from dicomweb.caller import Caller
from dicomweb.errors import BadRequest, NotAllowed, TooLarge
from dicomweb.ports import WebParts
from inference.errors import NoSuchFrame, UnreadablePixels
from storage.errors import NotKept
from storage.records import InstanceRecord, InstanceRole, InstanceState

#: More than a model's own eye takes in (MedGemma's: 896).
LONGEST_SIDE = 1792
MOST_PIXELS = 64_000_000
#: Images that stand for a study or series.
KEY_IMAGES = 4
#: Media type → form as settings and Pillow name it.
_FORMS = {
    "image/jpeg": ("jpg", "JPEG"),
    "image/jpg": ("jpg", "JPEG"),
    "image/png": ("png", "PNG"),
    "image/gif": ("gif", "GIF"),
    "image/bmp": ("bmp", "BMP"),
    "image/x-ms-bmp": ("bmp", "BMP"),
    "image/webp": ("webp", "WEBP"),
    "application/dicom": ("dcm", ""),
}
#: Windows that key images of CT are shown in: name → center and width, HU.
CT_WINDOWS: dict[str, tuple[float, float]] = {"soft tissue": (40, 400), "lung": (-600, 1500)}
_DATA = re.compile(r"data:([a-z]+/[a-z0-9.+-]+)(?:;[a-z0-9-]+=[^;,]*)*;base64,", re.IGNORECASE)
_UID = r"[0-9.]{1,64}"
_KEPT = re.compile(
    rf"dicom:///studies/({_UID})(?:/series/({_UID})(?:/instances/({_UID})(?:/frames/([1-9][0-9]{{0,8}}))?)?)?/?"
)
_MODALITY = re.compile(r"[A-Z]{2,8}")


@dataclass(frozen=True)
class ShownImage:
    """One kept image that a model was shown."""

    label: str
    """What it was called by, such as `image 1`."""
    record: InstanceRecord
    frame_number: int
    window: str
    """Name of the window; empty: as the instance says."""

    def as_json(self) -> dict[str, Any]:
        """Say which it was."""
        return {
            "label": self.label,
            "study_instance_uid": self.record.study_instance_uid,
            "series_instance_uid": self.record.series_instance_uid,
            "sop_instance_uid": self.record.sop_instance_uid,
            "frame_number": self.frame_number,
            "window": self.window or "as stored",
        }


@dataclass(frozen=True)
class _View:
    record: InstanceRecord
    frame_number: int
    window: str
    words: str
    """Of what it is, in words that name nobody."""


@dataclass
class _Gathered:
    """What is shown so far."""

    most: int
    count: int = 0
    shown: list[ShownImage] = field(default_factory=list)

    def refuse_beyond(self, more: int, param: str) -> None:
        if self.count + more > self.most:
            raise BadRequest(f"A request may show {self.most} images (chat.max_images).", param=param)


class Images:
    """Brings images into requests."""

    def __init__(self, parts: WebParts, accesses: Accesses) -> None:
        self._settings: ChatSettings = parts.settings.chat
        self._index = parts.index
        self._blobs = parts.blobs
        self._pixels = parts.pixels
        self._accesses = accesses

    def bring(self, messages: Sequence[dict[str, Any]], caller: Caller) -> list[ShownImage]:
        """Put pictures in the place of references, in the messages themselves; give the kept images among them.

        Raises
        ------
        BadRequest, TooLarge, NotAllowed, NotKept, UnreadablePixels
            An image cannot be shown; the message says which and why.
        """
        gathered = _Gathered(self._settings.max_images)
        for message, place in _with_parts(messages):
            parts: list[dict[str, Any]] = []
            for number, part in enumerate(message["content"]):
                if part["type"] == "image_url":
                    parts += self._made(part["image_url"], caller, f"{place}[{number}].image_url.url", gathered)
                else:
                    parts.append(part)
            message["content"] = parts
        return gathered.shown

    def _made(self, asked: dict[str, Any], caller: Caller, param: str, gathered: _Gathered) -> list[dict[str, Any]]:
        """Give the parts that stand for one reference."""
        url = asked["url"]
        if url[:6].lower() == "dicom:":
            views = self._views(url, caller, param)
            gathered.refuse_beyond(len(views), param)
            return [part for view in views for part in self._shown(view, gathered)]
        gathered.refuse_beyond(1, param)
        if url[:5].lower() != "data:":
            raise BadRequest(
                "Images come as data: URIs or as dicom:///studies/… of kept instances; nothing is fetched.", param=param
            )
        gathered.count += 1
        return [_image(self._brought(url, param), asked.get("detail"))]

    def _brought(self, url: str, param: str) -> bytes:
        """Read an image that stands in the request."""
        head = _DATA.match(url[:200])
        kind, form = _FORMS.get(head.group(1).lower(), ("", "")) if head else ("", "")
        if head is None or kind not in self._settings.allowed_formats:
            said = ", ".join(self._settings.allowed_formats)
            raise BadRequest(f"A data: URI must be base64 of one of {said} (chat.allowed_formats).", param=param)
        if (len(url) - head.end()) * 3 // 4 > self._settings.max_image_bytes + 2:
            most = self._settings.max_image_bytes
            raise TooLarge(f"An image may have {most} bytes (chat.max_image_bytes).", param=param)
        try:
            content = BytesIO(base64.b64decode(url[head.end() :], validate=True))
        except (binascii.Error, ValueError) as error:
            raise BadRequest("The data: URI is no base64.", param=param) from error
        try:
            if kind == "dcm":
                return self._pixels.picture(content, 0, form="PNG", longest_side=LONGEST_SIDE)
            return self._pixels.photograph(content, [form], longest_side=LONGEST_SIDE, most_pixels=MOST_PIXELS)
        except (UnreadablePixels, NoSuchFrame) as error:
            raise BadRequest(f"The image cannot be shown: {error}", param=param) from error

    def _views(self, url: str, caller: Caller, param: str) -> list[_View]:
        """Choose what is shown of a study, series, instance or frame."""
        named = _KEPT.fullmatch(url)
        if named is None:
            raise BadRequest(
                "The form is dicom:///studies/UID[/series/UID[/instances/UID[/frames/NUMBER]]].", param=param
            )
        if "read" not in caller.permissions:
            raise NotAllowed("To show kept images this needs the permission read.", param=param)
        study, series, instance, frame = named.groups()
        images = self._images_of(study, series, instance, caller)
        if not images:
            raise NotKept("There is no such image here.", param=param)
        self._accesses.note(caller, study, "shown to the language model")
        modality = self._modality(images[0])
        if instance is None:
            return _key_views(images, modality)
        number = int(frame) if frame else (max(1, images[0].number_of_frames) + 1) // 2
        if number > max(1, images[0].number_of_frames):
            raise NoSuchFrame(f"The instance has {images[0].number_of_frames} frames.", param=param)
        return [_View(images[0], number, "", modality)]

    def _images_of(self, study: str, series: str | None, instance: str | None, caller: Caller) -> list[InstanceRecord]:
        records = self._index.instances_of(study, series, visible=caller.visible)
        images = [each for each in records if each.role is InstanceRole.INPUT]
        images = [each for each in images if each.state is InstanceState.FOLLOWS_STUDY]
        if instance is not None:
            return [each for each in images if each.sop_instance_uid == instance]
        if series is None and images:  # the series with the most to see
            frames = Counter[str]()
            for each in images:
                frames[each.series_instance_uid] += max(1, each.number_of_frames)
            images = [each for each in images if each.series_instance_uid == frames.most_common(1)[0][0]]
        return images

    def _modality(self, record: InstanceRecord) -> str:
        for series in self._index.series_of(record.study_instance_uid):
            if series.series_instance_uid == record.series_instance_uid and _MODALITY.fullmatch(series.modality):
                return series.modality
        return ""

    def _shown(self, view: _View, gathered: _Gathered) -> list[dict[str, Any]]:
        gathered.count += 1
        label = f"image {gathered.count}"
        window = CT_WINDOWS.get(view.window)
        with self._blobs.open(view.record.path) as file:
            png = self._pixels.picture(
                file, view.frame_number - 1, form="PNG", window=window, longest_side=LONGEST_SIDE
            )
        gathered.shown.append(ShownImage(label, view.record, view.frame_number, view.window))
        words = ", ".join(filter(None, (view.words, f"{view.window} window" if view.window else "")))
        return [{"type": "text", "text": f"[{label}]{f' {words}' if words else ''}:"}, _image(png, None)]


def _with_parts(messages: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], str]]:
    for index, message in enumerate(messages):
        if isinstance(message.get("content"), list):
            yield message, f"messages[{index}].content"


def _image(png: bytes, detail: str | None) -> dict[str, Any]:
    url = {"url": f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"}
    return {"type": "image_url", "image_url": url | ({"detail": detail} if detail else {})}


def _key_views(images: Sequence[InstanceRecord], modality: str) -> list[_View]:
    """Choose evenly spaced frames; those of CT are shown in each of the stated windows."""
    frames = [(record, number) for record in images for number in range(1, max(1, record.number_of_frames) + 1)]
    count = min(KEY_IMAGES, len(frames))
    chosen = [int((index + 0.5) * len(frames) / count) for index in range(count)]
    windows: Sequence[str] = tuple(CT_WINDOWS) if modality == "CT" else ("",)
    return [
        _View(
            frames[place][0],
            frames[place][1],
            window,
            ", ".join(filter(None, (modality, f"{place + 1} of {len(frames)} in its series"))),
        )
        for place in chosen
        for window in windows
    ]
