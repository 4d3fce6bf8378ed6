"""What HTTP needs of the other rooms; `dicom_node.roles.web` fills it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Literal, Protocol

from configs.peers import Peer
from configs.routes import Route
from configs.settings import Settings
from inference.pixel_process import Transcoded
from storage.associations import Associations
from storage.audit import Audit
from storage.blobs import BlobStore
from storage.database import Database
from storage.deliveries import Deliveries
from storage.index import Index
from storage.intake import Intake
from storage.job_book import JobBook
from storage.jobs import Queue
from storage.keys import Keys
from storage.records import StudyFilter
from storage.results import ResultBook

Plane = Literal["axial", "coronal", "sagittal"]


class Pictures(Protocol):
    """Pictures of results."""

    def overlay(self, seg_sop_instance_uid: str, plane: Plane) -> bytes:
        """Give a PNG of a segmentation on its source.

        Raises
        ------
        NotKept
            There is no such segmentation, or its source is gone.
        """
        ...


class PixelWork(Protocol):
    """Pixels of untrusted instances decoded where nothing else can be harmed: `inference.pixel_process`.

    Each raises `UnreadablePixels` where an instance cannot be decoded, `NoSuchFrame`, `CannotTranscode`,
    and `PixelWorkStopped` where it takes more time or memory than it may.
    """

    def transcode(self, part10: BinaryIO, stored: str, accepted: Collection[str]) -> Transcoded:
        """Give an instance in the best transfer syntax that somebody accepts."""
        ...

    def frame(self, part10: BinaryIO, frame_index: int, target: str) -> bytes:
        """Give one frame in a transfer syntax."""
        ...

    def picture(
        self,
        part10: BinaryIO,
        frame_index: int,
        *,
        form: Literal["PNG", "JPEG"],
        window: tuple[float, float] | None = None,
        longest_side: int | None = None,
        quality: int = 90,
    ) -> bytes:
        """Give one frame as a picture; `window`: center and width."""
        ...

    def photograph(self, content: BinaryIO, forms: Collection[str], *, longest_side: int, most_pixels: int) -> bytes:
        """Give a picture that is no DICOM as a plain PNG."""
        ...

    def drawn_on(self, seg: BinaryIO) -> tuple[str, int]:
        """Give the image and frame (from 1) on which a segmentation has most."""
        ...

    def overlay(
        self, seg: BinaryIO, image: BinaryIO, frame_index: int, *, form: Literal["PNG", "JPEG"], quality: int = 90
    ) -> bytes:
        """Draw a segmentation of any maker on a frame of an image."""
        ...


class Readings(Protocol):
    """Results as people and programs read them."""

    def text(self, sr_sop_instance_uid: str) -> str:
        """Give a kept SR as plain text."""
        ...

    def findings(self, run_key: str) -> dict[str, Any]:
        """Give the findings of a run as plain JSON values; what they were made with, too."""
        ...

    def stated(self, sop_instance_uid: str) -> dict[str, Any]:
        """Give what a kept report or segmentation of another maker states, as plain JSON values.

        Raises
        ------
        NodeError
            It cannot be read as findings; the message says why.
        """
        ...


class Rules(Protocol):
    """The rules as they stand now."""

    def listed(self) -> Sequence[Route]:
        """Give them in the order in which they are tried."""
        ...

    @property
    def refusal(self) -> str:
        """Why `routes.yaml` as it stands is not taken; empty: it is."""
        ...

    def tried(self, study_instance_uid: str, visible: StudyFilter) -> dict[str, Any]:
        """Try them on a kept study, without any effect.

        Raises
        ------
        NotKept
            There is no such study, or the asker may not see it.
        """
        ...


class ChatModel(Protocol):
    """The language models that are there to answer: `inference.chat`. They speak the OpenAI API.

    Each raises `ModelNotAvailable` where there is none, `UnknownModel` where none has the name that is asked for,
    `ModelBusy`, `ModelFailed` (`ModelTimedOut`), and `ModelRefused` where a request cannot be answered.
    """

    async def models(self) -> tuple[str, ...]:
        """Name what is served now; nothing where there is no model."""
        ...

    async def available(self, model: str | None = None) -> str:
        """Name the model that a caller would get, who names this one or none."""
        ...

    async def answer(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Give a whole answer; `path`: such as `/v1/chat/completions`."""
        ...

    def stream(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """Give an answer as it comes, chunk by chunk; closing it ends the generation."""
        ...

    async def close(self) -> None:
        """Let go of all connections."""
        ...


@dataclass(frozen=True)
class EngineInfo:
    """One engine of this installation, as answers show it."""

    name: str
    version: str
    kind: Literal["classical", "model"]
    modalities: tuple[str, ...]
    enabled: bool


@dataclass(frozen=True)
class WebParts:
    """What the application is made of."""

    settings: Settings
    version: str
    database: Database
    index: Index
    blobs: BlobStore
    intake: Intake
    keys: Keys
    audit: Audit
    job_book: JobBook
    queue: Queue
    results: ResultBook
    deliveries: Deliveries
    associations: Associations
    peers: Mapping[str, Peer]
    admin_key: str | None
    pixels: PixelWork
    pictures: Pictures
    readings: Readings
    rules: Rules
    engines: tuple[EngineInfo, ...]
    chat: ChatModel
    now: Callable[[], datetime]
