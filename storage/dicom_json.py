"""Data sets in the DICOM JSON model. Source: PS3.18 Annex F."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from pydicom import DataElement, Dataset

log = logging.getLogger(__name__)

#: Values longer than this are given by reference, bytes.
INLINE_AT_MOST = 1 << 20
_BULK_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})


def to_json(dataset: Dataset, bulk_uri: Callable[[str], str]) -> dict[str, Any]:
    """Give a data set as DICOM JSON.

    Parameters
    ----------
    bulk_uri
        Gives the BulkDataURI of a top-level attribute, named by its eight hex digits.

    A value that the model cannot hold is left out and logged by its tag: the instance stays readable.
    """
    written: dict[str, Any] = {}
    for tag in sorted(dataset.keys()):
        name = f"{int(tag):08X}"
        if int(tag) & 0xFFFF == 0 or int(tag) >> 16 == 2:
            continue  # group lengths and File Meta are no part of it
        try:
            element = dataset[tag]
            written[name] = _element(element, name, bulk_uri)
        except Exception:  # noqa: BLE001 (any value that a sender made up)
            log.warning("attribute left out of DICOM JSON", extra={"action": "json_left_out", "tag": name})
    return written


def _element(element: DataElement, name: str, bulk_uri: Callable[[str], str]) -> dict[str, Any]:
    if element.VR in _BULK_VRS and isinstance(element.value, bytes) and len(element.value) > INLINE_AT_MOST:
        return {"vr": element.VR, "BulkDataURI": bulk_uri(name)}
    return dict(element.to_json_dict(lambda _: bulk_uri(name), INLINE_AT_MOST))
