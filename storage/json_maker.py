"""Makes the DICOM JSON of instances: in the background for all that came, at once for what is asked for earlier."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import groupby

from storage.blobs import BlobStore
from storage.dicom_json import JsonEncoder
from storage.errors import NotKept, UnreadableInstance
from storage.json_store import SEGMENT, JsonStore, Made, Source, digest_of
from storage.records import EVERYTHING, StudyFilter

log = logging.getLogger(__name__)

#: Bytes of JSON after which a segment is closed.
_SEGMENT_BYTES = 8 << 20


class JsonMaker:
    """Works off what is pending. What it did not come to stays pending, also when it is killed."""

    def __init__(self, store: JsonStore, blobs: BlobStore) -> None:
        self._store = store
        self._blobs = blobs
        self._encoder = JsonEncoder()

    def turn(self) -> int:
        """Make the JSON of some pending instances; give how many were looked at.

        Raises
        ------
        IndexUnavailable
            The database does not answer; try again.
        """
        pending = self._store.pending(limit=SEGMENT)
        for (study, series), group in groupby(pending, key=_series_of):
            for portion in self._portions(list(group)):
                self._store.keep(study, series, portion)
        return len(pending)

    def _portions(self, sources: Sequence[Source]) -> Iterator[list[Made]]:
        """Give what is made of instances of one series, in parts of bearable size."""
        portion: list[Made] = []
        failed: list[str] = []
        size = 0
        for source in sources:
            content = self._made(source)
            if content is None:
                failed.append(source.sop_instance_uid)
                continue
            portion.append(Made(source.sop_instance_uid, digest_of(source.sha256), content))
            size += len(content)
            if size >= _SEGMENT_BYTES:
                yield portion
                portion, size = [], 0
        if portion:
            yield portion
        if failed:
            self._store.give_up(failed)

    def _made(self, source: Source) -> bytes | None:
        try:
            return json_of(source, self._blobs, self._encoder)
        except (NotKept, UnreadableInstance, OSError, MemoryError, RecursionError) as error:
            log.warning(
                "no DICOM JSON of an instance",
                extra={
                    "action": "json_failed",
                    "sop_instance_uid": source.sop_instance_uid,
                    "why": type(error).__name__,
                },
            )
            return None


class Metadata:
    """Gives metadata: joined from what was made, made at once where it is missing."""

    def __init__(self, store: JsonStore, blobs: BlobStore) -> None:
        self._store = store
        self._blobs = blobs

    def of(
        self,
        study_instance_uid: str,
        series_instance_uid: str | None = None,
        sop_instance_uid: str | None = None,
        *,
        visible: StudyFilter = EVERYTHING,
    ) -> bytes:
        """Give a JSON array of instances, to be `resolved`.

        Raises
        ------
        NotKept
            There is no such thing, the asker may not see it, or a file is missing.
        """
        known = self._store.of(study_instance_uid, series_instance_uid, sop_instance_uid, visible=visible)
        encoder = JsonEncoder()
        parts = [json_of(source, self._blobs, encoder) if made is None else made for source, made in known]
        return b"[" + b",".join(parts) + b"]"


def json_of(source: Source, blobs: BlobStore, encoder: JsonEncoder) -> bytes:
    """Write the JSON of one instance."""
    with blobs.open(source.path) as file:
        return encoder.encode_instance(
            file, study_instance_uid=source.study_instance_uid, series_instance_uid=source.series_instance_uid
        )


def _series_of(source: Source) -> tuple[str, str]:
    return source.study_instance_uid, source.series_instance_uid
