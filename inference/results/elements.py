"""Values of data sets that may be odd: read without an error, absent where they cannot be read."""

from __future__ import annotations

import math
from typing import Any

from pydicom import Dataset, Sequence

from inference.findings import Code


def items_of(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Give the items of a sequence; none where it is absent, empty or no sequence."""
    value = dataset.get(keyword)
    return list(value) if isinstance(value, Sequence) else []


def first_of(dataset: Dataset, keyword: str) -> Dataset:
    """Give the first item of a sequence; an empty data set where there is none."""
    found = items_of(dataset, keyword)
    return found[0] if found else Dataset()


def numbers(header: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Give the values of a numeric attribute; None unless there are `count` finite ones."""
    try:
        value: Any = header.get(keyword)
        values = (value,) if isinstance(value, int | float) else tuple(value or ())
        found = tuple(float(item) for item in values)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def pixel_proportions(header: Dataset) -> tuple[float, float]:
    """Distance of neighbouring rows and of columns, in one unit; square where the image does not say.

    Source: PS3.3 10.7.1.3 (spacing), C.7.6.3.1.7 (Pixel Aspect Ratio: vertical, horizontal).
    """
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"):
        found = numbers(header, keyword, 2)
        if found is not None and min(found) > 0:
            return found[0], found[1]
    return 1.0, 1.0


def text_of(header: Dataset, keyword: str) -> str:
    """Give an attribute as stripped text; empty where it is absent or unreadable."""
    try:
        value = header.get(keyword)
    except (TypeError, ValueError):
        return ""
    return "" if value is None else str(value).strip()


def code_of(item: Dataset) -> Code | None:
    """Read a code item; None where it is incomplete."""
    value = next(filter(None, (text_of(item, name) for name in ("CodeValue", "LongCodeValue", "URNCodeValue"))), "")
    scheme, meaning = text_of(item, "CodingSchemeDesignator"), text_of(item, "CodeMeaning")
    complete = value and scheme and 0 < len(meaning) <= 64 and "\\" not in meaning
    return Code(value, scheme, meaning) if complete else None
