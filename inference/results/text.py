"""Reports as plain text: ours, and any other maker's structured report."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from pydicom import Dataset

from inference.results.charset import quietly

#: Deepest level that is written; deeper trees are cut with a word.
DEEPEST = 30

#: Concepts that tell a reader nothing (DCM): tracking UID, frame of reference UID, device UID, source series,
#: referenced segment and its frame, language.
_FOR_MACHINES = frozenset({"112040", "112227", "121012", "121232", "121191", "121214", "121049"})
#: Parts of an algorithm identification (TID 4019), joined into one line: name, version, manufacturer, parameters.
_OF_ALGORITHM = ("111001", "111003", "122405", "111002", "111000")
_LIBRARY = "111028"
_TRACKING_IDENTIFIER = "112039"
#: Modifiers that are written in brackets behind what they modify.
_MODIFIER = "HAS CONCEPT MOD"

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_FLAGS = ("CompletionFlag", "VerificationFlag", "PreliminaryFlag")
_WORDS = {
    "COMPLETE": "complete",
    "PARTIAL": "partial",
    "VERIFIED": "verified by a person",
    "UNVERIFIED": "not verified by a person",
    "PRELIMINARY": "preliminary",
    "FINAL": "final",
}


#: Names an image as a reader finds it, by SOP Instance UID.
ImageSaid = Callable[[str], str]


@dataclass
class _Telling:
    """What is known while one report is written."""

    image_said: ImageSaid | None
    algorithms: set[str] = field(default_factory=set)
    """Named already."""

    def image(self, item: Dataset) -> str:
        """Name the image of an item by its numbers; empty where they are not known."""
        references = _items(item, "ReferencedSOPSequence") if _text(item, "ValueType") == "IMAGE" else ()
        if self.image_said is None or not references:
            return ""
        said = self.image_said(_text(references[0], "ReferencedSOPInstanceUID"))
        frame = _text(references[0], "ReferencedFrameNumber")
        return f"{said}, frame {frame}" if said and frame else said


def report_text(sr: Dataset, image_said: ImageSaid | None = None) -> str:
    """Write a structured report as indented text.

    `image_said`: names an image as a reader finds it (its numbers), by SOP Instance UID; empty where it is not known.

    What a reader must find comes first: the report's standing, then its measurements in the tree's own
    order. The image library shrinks to a count. Attributes that are missing or odd are passed over, never
    an error: reports come from everywhere. Nothing of the patient is written.
    """
    with quietly():
        lines = [_name(sr) or "Structured report"]
        described = _text(sr, "SeriesDescription")
        if described:
            lines.append(described)
        standing = [_WORDS[flag] for key in _FLAGS if (flag := _text(sr, key)) in _WORDS]
        if standing:
            lines.append(f"Status: {', '.join(standing)}")
        when = _moment(sr)
        if when:
            lines.append(f"Made: {when}")
        lines.append("")
        lines.extend(_children(sr, 0, _Telling(image_said)))
    return "\n".join(line.rstrip() for line in lines).rstrip() + "\n"


def _children(item: Dataset, level: int, telling: _Telling) -> Iterator[str]:
    """Write the items below an item; an algorithm that has been named is not named again."""
    indent = "  " * level
    if level >= DEEPEST:
        yield f"{indent}(deeper levels are not shown)"
        return
    children = _items(item, "ContentSequence")
    algorithm = _algorithm(children) if _text(item, "ValueType") == "CONTAINER" else ""
    if algorithm and algorithm not in telling.algorithms:
        telling.algorithms.add(algorithm)
        yield f"{indent}Algorithm: {algorithm}"
    shown = [child for child in children if _is_shown(child, item)]
    for kind, members in groupby(shown, key=_image_kind):
        same = list(members)
        if kind and len(same) > 1:
            yield f"{indent}{_name(same[0]) or 'Images'}: {len(same)} {kind}"
        else:
            for child in same:
                yield from _lines(child, level, telling)


def _algorithm(items: Sequence[Dataset]) -> str:
    """Name, version, manufacturer, parameters and family of the algorithm in one line."""
    parts: dict[str, list[str]] = {}
    for item in items:
        if _concept(item) in _OF_ALGORITHM:
            parts.setdefault(_concept(item), []).append(_value(item))
    name, version, *others = ("; ".join(parts.get(concept, ())) for concept in _OF_ALGORITHM)
    told = ", ".join(filter(None, others))
    return f"{name} {version}".strip() + (f" ({told})" if told else "") if name else ""


def _is_shown(child: Dataset, parent: Dataset) -> bool:
    concept = _concept(child)
    if concept in _FOR_MACHINES or concept in _OF_ALGORITHM:
        return False
    if concept == _TRACKING_IDENTIFIER and _text(parent, "ValueType") == "CONTAINER":
        return False  # stands in the heading
    return not _is_inline(child, parent)


def _is_inline(child: Dataset, parent: Dataset) -> bool:
    """Modifiers of values stand in the value's own line."""
    coded = _text(child, "ValueType") == "CODE" and _text(parent, "ValueType") in ("CODE", "NUM", "TEXT")
    return coded and _text(child, "RelationshipType") == _MODIFIER


def _image_kind(item: Dataset) -> str:
    """Word for images that are counted rather than listed; empty for everything else."""
    if _text(item, "ValueType") != "IMAGE" or _items(item, "ContentSequence"):
        return ""
    return "images"


def _lines(item: Dataset, level: int, telling: _Telling) -> Iterator[str]:
    indent = "  " * level
    name = _name(item)
    if _concept(item) == _LIBRARY:
        images = sum(_text(found, "ValueType") == "IMAGE" for found in _tree(item))
        yield f"{indent}{name}: {images} image{'' if images == 1 else 's'}"
        return
    children = _items(item, "ContentSequence")
    if _text(item, "ValueType") == "CONTAINER":
        tracked = [_value(child) for child in children if _concept(child) == _TRACKING_IDENTIFIER]
        yield f"{indent}{': '.join(filter(None, (name, *tracked)))}"
        yield from _children(item, level + 1, telling)
        return
    modifiers = [
        _value(child) for child in children if _is_inline(child, item) and _concept(child) not in _OF_ALGORITHM
    ]
    told = ", ".join(filter(None, modifiers))
    value = telling.image(item) or _value(item)
    value += f" ({told})" if told else ""
    first, *rest = value.split("\n") if value else [""]
    yield f"{indent}{name}: {first}" if name and first else f"{indent}{name or first}"
    yield from (f"{indent}  {line}" for line in rest)
    yield from _children(item, level + 1, telling)


def _value(item: Dataset) -> str:
    kind = _text(item, "ValueType")
    return _WRITERS[kind](item) if kind in _WRITERS else ""


def _number(item: Dataset) -> str:
    for measured in _items(item, "MeasuredValueSequence"):
        units = _items(measured, "MeasurementUnitsCodeSequence")
        unit = _text(units[0], "CodeValue") if units else ""
        shown = {"[hnsf'U]": "HU", "1": "", "{pixels}": "pixels", "{-1:1}": ""}.get(unit, unit)
        return f"{_text(measured, 'NumericValue')} {shown}".strip()
    qualifiers = _items(item, "NumericValueQualifierCodeSequence")
    return f"no value ({_text(qualifiers[0], 'CodeMeaning')})" if qualifiers else "no value"


def _code(item: Dataset) -> str:
    found = _items(item, "ConceptCodeSequence")
    return _text(found[0], "CodeMeaning") or _text(found[0], "CodeValue") if found else ""


def _reference(item: Dataset) -> str:
    found = _items(item, "ReferencedSOPSequence")
    return f"instance {_text(found[0], 'ReferencedSOPInstanceUID')}" if found else ""


def _graphic(item: Dataset) -> str:
    data = item.get("GraphicData")
    size = 3 if _text(item, "ValueType") == "SCOORD3D" else 2
    points = len(data) // size if data is not None and not isinstance(data, int | float) else 0
    return f"{_text(item, 'GraphicType').lower()} of {points} points".strip()


_WRITERS: dict[str, Callable[[Dataset], str]] = {
    "TEXT": lambda item: _text(item, "TextValue"),
    "CODE": _code,
    "NUM": _number,
    "PNAME": lambda item: _text(item, "PersonName"),
    "DATE": lambda item: _date(_text(item, "Date")),
    "TIME": lambda item: _time(_text(item, "Time")),
    "DATETIME": lambda item: _text(item, "DateTime"),
    "UIDREF": lambda item: _text(item, "UID"),
    "IMAGE": _reference,
    "COMPOSITE": _reference,
    "WAVEFORM": _reference,
    "SCOORD": _graphic,
    "SCOORD3D": _graphic,
    "TCOORD": lambda item: _text(item, "TemporalRangeType").lower(),
}


def _moment(sr: Dataset) -> str:
    offset = _text(sr, "TimezoneOffsetFromUTC")
    return " ".join(filter(None, (_date(_text(sr, "ContentDate")), _time(_text(sr, "ContentTime")), offset)))


def _date(text: str) -> str:
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}" if re.fullmatch(r"\d{8}", text) else text


def _time(text: str) -> str:
    return f"{text[:2]}:{text[2:4]}:{text[4:6]}" if re.match(r"\d{6}", text) else text


def _name(item: Dataset) -> str:
    found = _items(item, "ConceptNameCodeSequence")
    return _text(found[0], "CodeMeaning") if found else ""


def _concept(item: Dataset) -> str:
    found = _items(item, "ConceptNameCodeSequence")
    return _text(found[0], "CodeValue") if found else ""


def _items(item: Dataset, keyword: str) -> Sequence[Dataset]:
    """Items of a sequence; none where it is absent, empty or something else."""
    try:
        value = item.get(keyword)
    except (AttributeError, TypeError, ValueError, LookupError):
        return ()
    return [found for found in value if isinstance(found, Dataset)] if isinstance(value, Sequence) else ()


def _text(item: Dataset, keyword: str) -> str:
    """Give an attribute as text without control characters; empty where it is absent or unreadable."""
    try:
        value = item.get(keyword)
    except (AttributeError, TypeError, ValueError, LookupError):
        return ""
    if value is None:
        return ""
    text = str(value).replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("", text).strip()


def _tree(item: Dataset, level: int = 0) -> Iterator[Dataset]:
    for child in _items(item, "ContentSequence"):
        yield child
        if level < DEEPEST:
            yield from _tree(child, level + 1)
