"""Any result object, ours or another maker's, held against the kept study that it speaks of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom import Dataset

from dicom_node.worker.sources import headers_of
from inference.results import gate
from inference.results.elements import items_of
from inference.results.forms import CLASSES, MEASUREMENT_REPORTS, SEGMENTATIONS, Form, Outlines, Report
from inference.results.result import Result
from inference.results.run import Kind
from storage.blobs import BlobStore
from storage.errors import NotKept
from storage.index import Index


def verify(objects: Sequence[Dataset], index: Index, blobs: BlobStore) -> list[str]:
    """Name every broken rule of the given objects, taken as one set.

    Parameters
    ----------
    objects
        Whole objects of one study. A report is checked together with the segmentation that it names where
        both are given.

    Returns
    -------
    list of str
        Empty: they pass the gate that our own results pass.

    Raises
    ------
    NotKept
        The study or an image that they refer to is not kept here.
    """
    evidence = headers_of(blobs, [index.instance(uid) for uid in _referred(objects)])
    if not evidence:
        raise NotKept("The objects refer to no image that is kept here.")
    form = str(_form_of(objects))
    results = [Result(_kind_of(each), form, each, b"") for each in objects]
    return list(gate.problems(results, evidence))


def _kind_of(dataset: Dataset) -> Kind:
    sop_class = str(dataset.get("SOPClassUID", ""))
    for kind, (classes, _) in CLASSES.items():
        if sop_class in classes:
            return kind
    raise NotKept(f"{dataset.get('SOPInstanceUID')} is of no class that results have ({sop_class}).")


def _form_of(objects: Sequence[Dataset]) -> Form:
    classes = {str(each.get("SOPClassUID", "")) for each in objects}
    outlines: Outlines = next((name for name, uid in SEGMENTATIONS.items() if uid in classes), "none")
    report: Report = next((name for name, uid in MEASUREMENT_REPORTS.items() if uid in classes), "none")
    kinds = {_kind_of(each) for each in objects}
    if "text" in kinds:
        report = "basic-text"
    elif "pdf" in kinds or "summary" in kinds:
        report = "pdf" if "pdf" in kinds else "summary"
    if "capture" in kinds:
        outlines = "capture"
    return Form(outlines, report)


def _referred(objects: Sequence[Dataset]) -> list[str]:
    """SOP Instance UIDs of all images that the objects refer to, in the order of the first that says it."""
    own = {str(each.get("SOPInstanceUID")) for each in objects}
    found: dict[str, None] = {}
    for each in objects:
        found.update(dict.fromkeys(uid for uid in _references(each) if uid not in own))
    return list(found)


def _references(dataset: Dataset) -> Iterator[str]:
    for series in items_of(dataset, "ReferencedSeriesSequence"):
        yield from (str(i.ReferencedSOPInstanceUID) for i in items_of(series, "ReferencedInstanceSequence"))
    for study in items_of(dataset, "CurrentRequestedProcedureEvidenceSequence"):
        for series in items_of(study, "ReferencedSeriesSequence"):
            yield from (str(i.ReferencedSOPInstanceUID) for i in items_of(series, "ReferencedSOPSequence"))
    for keyword in ("SourceImageSequence", "SourceInstanceSequence"):
        yield from (str(i.ReferencedSOPInstanceUID) for i in items_of(dataset, keyword))
