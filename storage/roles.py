"""What an instance is to the node: something to analyse, or a document beside it."""

from __future__ import annotations

from storage.header import Header
from storage.records import InstanceRole

#: SOP Classes, by the beginning of their UID, that are documents: kept and served, never analysed.
#: Source: PS3.4 B.5 and PS3.6 Table A-1.
_DOCUMENTS = (
    "1.2.840.10008.5.1.4.1.1.88.",  # SR family, Key Object Selection, dose reports
    "1.2.840.10008.5.1.4.1.1.11.",  # presentation states
    "1.2.840.10008.5.1.4.1.1.104.",  # encapsulated PDF, CDA, STL, OBJ, MTL
    "1.2.840.10008.5.1.4.1.1.66",  # raw data, registrations, fiducials, segmentations, surfaces
    "1.2.840.10008.5.1.4.1.1.67",  # real world value mapping
    "1.2.840.10008.5.1.4.1.1.481.",  # radiotherapy objects; RT Image is no diagnostic image
    "1.2.840.10008.5.1.4.1.1.30",  # parametric map
    "1.2.840.10008.5.1.4.1.1.9.",  # waveforms
    "1.2.840.10008.5.1.4.38.",  # hanging protocols
    "1.2.840.10008.5.1.4.39.",  # colour palettes
)
#: Purpose of a contributing device that marks what it made as derived by an algorithm (CID 7005).
_PROCESSING_EQUIPMENT = ("109102", "DCM")


def role_of(header: Header) -> InstanceRole:
    """Tell whether an instance that a peer sent is input or document.

    Documents are what describes images, what an algorithm made of them, and whatever has no pixels.
    """
    sop_class_uid = header.text("SOPClassUID").rstrip("\0 ")
    if sop_class_uid.startswith(_DOCUMENTS) or not header.has_pixels or _is_made_by_algorithm(header):
        return InstanceRole.DOCUMENT
    return InstanceRole.INPUT


def _is_made_by_algorithm(header: Header) -> bool:
    """Tell whether a derived image says that processing equipment or research made it.

    Source: PS3.3 C.8.13.2 (Content Qualification), C.12.1 (Contributing Equipment).
    """
    if "DERIVED" not in header.text("ImageType").split("\\"):
        return False
    equipment = header.dataset.get("ContributingEquipmentSequence") or []
    purposes = (code for item in equipment for code in item.get("PurposeOfReferenceCodeSequence") or [])
    codes = {(str(code.get("CodeValue", "")), str(code.get("CodingSchemeDesignator", ""))) for code in purposes}
    return _PROCESSING_EQUIPMENT in codes or header.text("ContentQualification") == "RESEARCH"
