"""What rules look at: one representative header per series, and who sent the study."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import DataElement, Dataset
from pydicom.errors import BytesLengthException

from configs.routes import SENDER_TERMS
from storage.records import Sender

#: Value representations whose values are numbers. Source: PS3.5 table 6.2-1.
NUMERIC_VRS = frozenset({"DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"})
#: Value representations that no rule compares: they can only be there or not.
OPAQUE_VRS = frozenset({"SQ", "OB", "OD", "OF", "OL", "OV", "OW", "UN"})

#: What pydicom raises when it converts a value that a sender wrote wrongly.
UNREADABLE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    NotImplementedError,
    OverflowError,
    struct.error,
    BytesLengthException,
)


@dataclass(frozen=True)
class Attribute:
    """Values of one attribute as text; none: it is absent or empty."""

    values: tuple[str, ...]
    numeric: bool = False
    comparable: bool = True
    """False: a sequence, binary or unreadable; it can only be there or not."""

    @property
    def present(self) -> bool:
        """Whether it is there with a value."""
        return bool(self.values) or not self.comparable


ABSENT = Attribute(())


@dataclass(frozen=True, eq=False)
class SeriesFacts:
    """One series, spoken for by the header of its first input."""

    series_instance_uid: str
    header: Dataset | None
    """Without pixel data; None: it cannot be read."""


@dataclass(frozen=True, eq=False)
class StudyFacts:
    """One study as rules see it. Attributes of study and patient come from the series' headers too."""

    study_instance_uid: str
    senders: Sequence[Sender]
    series: Sequence[SeriesFacts]

    def attribute(self, series: SeriesFacts, name: str) -> Attribute:
        """Look up what a term names: a DICOM keyword, or a fact about the senders."""
        if name in SENDER_TERMS:
            field = "peer" if name == "sender" else name
            return Attribute(tuple(sorted({value for sender in self.senders if (value := getattr(sender, field))})))
        return ABSENT if series.header is None else attribute_of(series.header, name)


def attribute_of(header: Dataset, keyword: str) -> Attribute:
    """Read one attribute of a header as text; never fails, whatever a sender wrote."""
    try:
        if keyword not in header:
            return ABSENT
        element = header[keyword]
        if element.VR in OPAQUE_VRS:
            return Attribute((), comparable=not element.value)
        return Attribute(_texts(element), numeric=element.VR in NUMERIC_VRS)
    except UNREADABLE:
        return Attribute((), comparable=False)


def number_of(text: str) -> float | None:
    """Read a finite decimal number; None: it is none."""
    if "_" in text:  # Python reads 1_000, DICOM does not
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _texts(element: DataElement) -> tuple[str, ...]:
    if element.value is None:
        return ()
    values = element.value if element.VM > 1 else [element.value]
    return tuple(text for value in values if (text := str(value).strip("\0 ")))
