"""The Native DICOM Model read as the DICOM JSON model. Source: PS3.19 A.1, PS3.18 F.1 (the two are equivalent)."""

from __future__ import annotations

import re
from typing import Any
from xml.etree.ElementTree import Element, ParseError, fromstring

from storage.errors import UnreadableInstance

_DEEPEST = 64
_NUMBERS = frozenset({"US", "SS", "UL", "SL", "SV", "UV"})
_COMPONENTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_TAG = re.compile(r"[0-9A-Fa-f]{8}")


def read_native_xml(document: bytes) -> dict[str, Any]:
    """Read one document as a data set in the DICOM JSON model.

    Raises
    ------
    UnreadableInstance
        It is no such document.
    """
    try:
        text = document.decode("utf-8-sig")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise UnreadableInstance("A document that declares entities is not read.")
        root = fromstring(text)  # noqa: S314 (see above)
    except (UnicodeDecodeError, ParseError) as error:
        raise UnreadableInstance("This is no XML document in UTF-8.") from error
    if _name(root) != "NativeDicomModel":
        raise UnreadableInstance("This is no document of the Native DICOM Model.")
    return _dataset(root, 0)


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _dataset(parent: Element, depth: int) -> dict[str, Any]:
    if depth > _DEEPEST:
        raise UnreadableInstance("Items lie deeper in each other than any sensible ones.")
    found: dict[str, Any] = {}
    for element in parent:
        tag, vr = element.get("tag", ""), element.get("vr", "")
        if _name(element) != "DicomAttribute" or not _TAG.fullmatch(tag):
            raise UnreadableInstance("An attribute of the document has no tag.")
        found[tag.upper()] = {"vr": vr, **_content(element, vr, depth)}
    return found


def _content(element: Element, vr: str, depth: int) -> dict[str, Any]:
    values: list[tuple[int, Any]] = []
    for child in element:
        match _name(child):
            case "BulkData":
                return {"BulkDataURI": child.get("uri") or child.get("uuid") or ""}
            case "InlineBinary":
                return {"InlineBinary": "".join((child.text or "").split())}
            case "Item":
                values.append((_number_of(child), _dataset(child, depth + 1)))
            case "PersonName":
                values.append((_number_of(child), _person(child)))
            case "Value":
                values.append((_number_of(child), _typed(vr, child.text or "")))
            case _:
                raise UnreadableInstance("An attribute of the document holds what it may not.")
    ordered = [value for _, value in sorted(values, key=lambda each: each[0])]
    return {"Value": ordered} if ordered else {}


def _number_of(element: Element) -> int:
    text = element.get("number", "1")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 1


def _typed(vr: str, text: str) -> Any:
    if vr not in _NUMBERS:
        return text
    try:
        return int(text)
    except ValueError as error:
        raise UnreadableInstance(f"A value of {vr} is no whole number.") from error


def _person(element: Element) -> dict[str, str]:
    said: dict[str, str] = {}
    for group in element:
        components = {_name(each): each.text or "" for each in group}
        said[_name(group)] = "^".join(components.get(name, "") for name in _COMPONENTS).rstrip("^")
    return said
