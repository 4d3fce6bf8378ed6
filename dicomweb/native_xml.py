"""The DICOM JSON model written as the Native DICOM Model. Source: PS3.19 A.1, PS3.18 F.1 (the two are equivalent)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from pydicom.datadict import keyword_for_tag

_NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_COMPONENTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
#: Characters that XML 1.0 cannot hold, however they are written. Source: XML 1.0 2.2.
_UNSPEAKABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def native_xml(dataset: Mapping[str, Any]) -> bytes:
    """Give one data set in the DICOM JSON model as an XML document."""
    root = Element("NativeDicomModel", {"xmlns": _NAMESPACE, "xml:space": "preserve"})
    _fill(root, dataset)
    document: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _fill(parent: Element, dataset: Mapping[str, Any]) -> None:
    for name, attribute in sorted(dataset.items()):
        said = {"tag": name, "vr": str(attribute["vr"])}
        if keyword := keyword_for_tag(int(name, 16)):
            said["keyword"] = keyword
        element = SubElement(parent, "DicomAttribute", said)
        if "BulkDataURI" in attribute:
            SubElement(element, "BulkData", {"uri": _speakable(attribute["BulkDataURI"])})
        elif "InlineBinary" in attribute:
            SubElement(element, "InlineBinary").text = attribute["InlineBinary"]
        else:
            _values(element, attribute["vr"], attribute.get("Value", ()))


def _values(element: Element, vr: str, values: Iterable[Any]) -> None:
    for number, value in enumerate(values, 1):
        at = {"number": str(number)}
        if vr == "SQ":
            _fill(SubElement(element, "Item", at), value or {})
        elif vr == "PN":
            _person(SubElement(element, "PersonName", at), value or {})
        elif value is not None:
            SubElement(element, "Value", at).text = _speakable(str(value))


def _person(element: Element, person: Mapping[str, str]) -> None:
    for group in _GROUPS:
        if not person.get(group):
            continue
        inside = SubElement(element, group)
        for component, text in zip(_COMPONENTS, person[group].split("^"), strict=False):
            if text:
                SubElement(inside, component).text = _speakable(text)


def _speakable(text: str) -> str:
    return _UNSPEAKABLE.sub("\ufffd", text)
