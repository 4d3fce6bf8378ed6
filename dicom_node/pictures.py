"""Pictures and readings of kept results, for HTTP and the demo: `dicomweb.ports` filled."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag

from dicom_node.routing.facts import UNREADABLE
from dicom_node.worker.sources import sources_of
from dicomweb.ports import Plane
from inference.errors import UnusableAnswer
from inference.findings_codec import decode_findings
from inference.overlay import overlay_png
from inference.results.foreign import read_report, read_segmentation
from inference.results.places import image_said
from inference.results.plain import findings_json
from inference.results.read import segments_of
from inference.results.text import report_text
from inference.syntaxes import NATIVE
from inference.volume import Volume, read_volume
from storage.blobs import BlobStore
from storage.errors import NotKept
from storage.findings_store import FindingsStore
from storage.index import Index

PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
#: Pictures kept ready: three planes of a few studies.
_READY = 24


def referenced_images(seg: Dataset) -> list[str]:
    """SOP Instance UIDs of the images that a segmentation says it was drawn on."""
    return [
        str(item.ReferencedSOPInstanceUID)
        for series in seg.get("ReferencedSeriesSequence") or []
        for item in series.get("ReferencedInstanceSequence") or []
    ]


def draw(seg: Dataset, volume: Volume, plane: Plane) -> bytes:
    """Draw a segmentation on the volume that it was made from, matched by SOP Instance UID."""
    uids = [source.sop_instance_uid for source in volume.sources]
    segments = [(each.label, each.stacked(uids, volume.frame_numbers), each.colour) for each in segments_of(seg)]
    engine = str(seg.SegmentSequence[0].get("SegmentAlgorithmName", ""))
    return overlay_png(volume, segments, plane, engine=engine)


class KeptPictures:
    """Draws kept segmentations; a picture once drawn is kept ready."""

    def __init__(self, index: Index, blobs: BlobStore) -> None:
        self._index = index
        self._blobs = blobs
        self._ready: OrderedDict[tuple[str, Plane], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def overlay(self, seg_sop_instance_uid: str, plane: Plane) -> bytes:
        """Give a PNG of a segmentation on its source."""
        # One at a time: a volume takes a few hundred MB.
        with self._lock:
            if (seg_sop_instance_uid, plane) not in self._ready:
                self._draw_all(seg_sop_instance_uid)
            return self._ready[seg_sop_instance_uid, plane]

    def _draw_all(self, seg_sop_instance_uid: str) -> None:
        record = self._index.instance(seg_sop_instance_uid)
        with self._blobs.open(record.path) as file:
            seg = dcmread(file)
        wanted = set(referenced_images(seg))
        inputs = self._index.inputs_of(record.study_instance_uid)
        kept = [each for each in inputs if each.sop_instance_uid in wanted]
        if not kept:
            raise NotKept("The images of this segmentation are not kept here.")
        volume = read_volume(sources_of(self._blobs, kept))
        for plane in PLANES:
            self._ready[seg_sop_instance_uid, plane] = draw(seg, volume, plane)
        while len(self._ready) > _READY:
            self._ready.popitem(last=False)


def _stated(dataset: Dataset) -> dict[str, Any]:
    if "SegmentSequence" not in dataset:
        return findings_json(read_report(dataset))
    # Codecs meet pixels of others in child processes alone.
    if dataset.file_meta.TransferSyntaxUID not in NATIVE:
        raise UnusableAnswer("compressed segmentations are not read here")
    frames, rows, columns = (int(dataset.get(name) or 1) for name in ("NumberOfFrames", "Rows", "Columns"))
    if frames * rows * columns > _MOST_STATED_VOXELS:
        raise UnusableAnswer("the segmentation is too large to be read here")
    return findings_json(read_segmentation(dataset))


#: Bytes, and voxels of all frames, of another maker's object that is read while somebody waits.
_MOST_STATED_BYTES, _MOST_STATED_VOXELS = 32 << 20, 1 << 27
_NUMBERS = [Tag(keyword) for keyword in ("SeriesNumber", "InstanceNumber", "SOPInstanceUID")]


class KeptReadings:
    """Reads kept reports and findings."""

    def __init__(self, index: Index, blobs: BlobStore, findings: FindingsStore) -> None:
        self._index = index
        self._blobs = blobs
        self._findings = findings

    def text(self, sr_sop_instance_uid: str) -> str:
        """Give a kept SR as plain text."""
        with self._blobs.open(self._index.instance(sr_sop_instance_uid).path) as file:
            return report_text(dcmread(file), self._image_said)

    def stated(self, sop_instance_uid: str) -> dict[str, Any]:
        """Give what a kept report or segmentation of another maker states.

        Raises
        ------
        UnusableAnswer
            It cannot be read as findings, or is larger than what is read while somebody waits.
        """
        record = self._index.instance(sop_instance_uid)
        if record.size > _MOST_STATED_BYTES:
            raise UnusableAnswer("the object is too large to be read here")
        try:
            with self._blobs.open(record.path) as file:
                dataset = dcmread(file)
            return _stated(dataset)
        except (*UNREADABLE, InvalidDicomError, EOFError, RecursionError) as error:
            raise UnusableAnswer("the object cannot be read: it is no sound DICOM instance") from error

    def _image_said(self, sop_instance_uid: str) -> str:
        try:
            with self._blobs.open(self._index.instance(sop_instance_uid).path) as file:
                return image_said(dcmread(file, stop_before_pixels=True, specific_tags=_NUMBERS))
        except NotKept:
            return ""

    def findings(self, run_key: str) -> dict[str, Any]:
        """Give the findings of a run as plain JSON values, with what they were made with."""
        record = self._findings.of(run_key)
        if record is None:
            raise NotKept("There are no findings under this run key.")
        findings, used = decode_findings(record.content)
        return {
            "run_key": run_key,
            "engine": record.engine,
            "task": record.task,
            "revision": record.revision,
            "analysed_at": record.analysed_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "used_instances": len(used),
            "provenance": record.facts,
        } | findings_json(findings)
