"""Every code that a result object may carry, in one table.

Most stand in pydicom's copy of PS3.16; those that do not stand in `BEYOND_PYDICOM` with their source.
The gate refuses any code that is in neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from highdicom.sr import CodedConcept
from pydicom.sr._concepts_dict import concepts

from inference.findings import Code

#: Coding scheme of concepts that no public scheme names; each object that uses it identifies it (PS3.3 C.12.1).
OUR_SCHEME = "99DICOMNODE"
OUR_SCHEME_NAME = "dicom-node concepts"
OUR_SCHEME_ORGANIZATION = "dicom-node"

# Concept names of the report. Source: PS3.16 TID 1500, 1501, 1411, 300, 1004, 1204, 1600-1604, 4019.
COMMENT = Code("121106", "DCM", "Comment")
FINDING = Code("121071", "DCM", "Finding")
FINDING_CATEGORY = Code("276214006", "SCT", "Finding category")
FINDING_SITE = Code("363698007", "SCT", "Finding Site")
FRAME_OF_REFERENCE_UID = Code("112227", "DCM", "Frame of Reference UID")
IMAGE_LIBRARY = Code("111028", "DCM", "Image Library")
IMAGE_LIBRARY_GROUP = Code("126200", "DCM", "Image Library Group")
IMAGING_MEASUREMENTS = Code("126010", "DCM", "Imaging Measurements")
LANGUAGE = Code("121049", "DCM", "Language of Content Item and Descendants")
LATERALITY = Code("272741003", "SCT", "Laterality")
MEASUREMENT_GROUP = Code("125007", "DCM", "Measurement Group")
MODALITY = Code("121139", "DCM", "Modality")
PROCEDURE_REPORTED = Code("121058", "DCM", "Procedure reported")
REFERENCED_SEGMENT = Code("121191", "DCM", "Referenced Segment")
REFERENCED_SEGMENTATION_FRAME = Code("121214", "DCM", "Referenced Segmentation Frame")
REPORT = Code("126000", "DCM", "Imaging Measurement Report")
SOURCE = Code("260753009", "SCT", "Source")
TRACKING_IDENTIFIER = Code("112039", "DCM", "Tracking Identifier")
TRACKING_UID = Code("112040", "DCM", "Tracking Unique Identifier")

# Concept names of reports as text and of key objects. Source: PS3.16 TID 2000, TID 2010, CID 7000, CID 7010.
DIAGNOSTIC_IMAGING_REPORT = Code("18748-4", "LN", "Diagnostic Imaging Report")
FINDINGS = Code("121070", "DCM", "Findings")
IMPRESSION = Code("121073", "DCM", "Impression")
IMPRESSIONS = Code("121072", "DCM", "Impressions")
KEY_IMAGES = Code("121180", "DCM", "Key Images")
OF_INTEREST = Code("113000", "DCM", "Of Interest")
KEY_OBJECT_DESCRIPTION = Code("113012", "DCM", "Key Object Description")

# Algorithm identification. Source: PS3.16 TID 4019, CID 7162.
ALGORITHM_FAMILY = Code("111000", "DCM", "Algorithm Family")
ALGORITHM_NAME = Code("111001", "DCM", "Algorithm Name")
ALGORITHM_PARAMETERS = Code("111002", "DCM", "Algorithm Parameters")
ALGORITHM_VERSION = Code("111003", "DCM", "Algorithm Version")
ALGORITHM_MANUFACTURER = Code("122405", "DCM", "Algorithm Manufacturer")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
HISTOGRAM_ANALYSIS = Code("123105", "DCM", "Histogram Analysis")

# Values.
ENGLISH = Code("en-US", "RFC5646", "English (United States)")
CLINICAL_FINDING = Code("404684003", "SCT", "Finding")
NOT_EVALUATED = Code("373121007", "SCT", "Not Evaluated")
NOT_ATTEMPTED = Code("114007", "DCM", "Measurement not attempted")  # CID 42
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")  # CID 7005
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")  # CID 7202
SEGMENTATION_DERIVATION = Code("113076", "DCM", "Segmentation")  # CID 7203
IMAGING_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")  # CID 100
#: What was done, where the source does not say. Source: PS3.16 CID 100, CID 10005.
PROCEDURE_OF_MODALITY = {"CT": Code("77477000", "SCT", "Computed tomography")}

# Presence of what was looked for. Source: PS3.16 CID 240, CID 4220, CID 6048.
PRESENCE = Code("121052", "DCM", "Presence of property")
PRESENT = Code("52101004", "SCT", "Present")
ABSENT = Code("272519000", "SCT", "Absent")
INDETERMINATE = Code("82334004", "SCT", "Indeterminate")
CERTAINTY = Code("111012", "DCM", "Certainty of Finding")

# Anatomy, sides and properties that engines outline. Source: PS3.16 CID 7150, CID 4, CID 244.
ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")
LUNG = Code("39607008", "SCT", "Lung")
RIGHT = Code("24028007", "SCT", "Right")
LEFT = Code("7771000", "SCT", "Left")
BILATERAL = Code("51440002", "SCT", "Bilateral")

# Measurements. Source: PS3.16 CID 7469, CID 7464, CID 7474.
VOLUME = Code("118565006", "SCT", "Volume")
ATTENUATION = Code("112031", "DCM", "Attenuation Coefficient")
MEAN = Code("373098007", "SCT", "Mean")
VOXEL_SUM = Code("126030", "DCM", "Sum of segmented voxel method for volume")
LOW_ATTENUATION_AREA = Code("LAA950", OUR_SCHEME, "Lung voxels below -950 HU (LAA-950)")
PERCENTILE_15 = Code("PERC15", OUR_SCHEME, "15th percentile of lung density (Perc15)")

# Units.
MILLIMETRE = Code("mm", "UCUM", "mm")
CUBIC_MILLIMETRE = Code("mm3", "UCUM", "cubic millimeter")
CUBIC_CENTIMETRE = Code("cm3", "UCUM", "cubic centimeter")
LITRE = Code("L", "UCUM", "liter")
MILLILITRE = Code("mL", "UCUM", "milliliter")
HOUNSFIELD = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
PERCENT = Code("%", "UCUM", "Percent")
RATIO = Code("{ratio}", "UCUM", "ratio")
NO_UNITS = Code("1", "UCUM", "no units")
PIXELS = Code("{pixels}", "UCUM", "Pixels")
COSINE = Code("{-1:1}", "UCUM", "{-1:1}")

#: Codes that pydicom's dictionary lacks, with other meanings that are used for them, and where they come from.
BEYOND_PYDICOM: dict[Code, tuple[tuple[str, ...], str]] = {
    ENGLISH: (("English",), "RFC 5646; PS3.16 CID 5000"),
    LITRE: (("Liter", "litre", "Litre"), "UCUM 2.1 table 7"),
    MILLILITRE: (("Milliliter", "millilitre", "Millilitre"), "UCUM 2.1 table 7 with prefix m"),
    Code("l", "UCUM", "liter"): (("Liter", "litre", "Litre"), "UCUM 2.1 table 7"),
    Code("ml", "UCUM", "milliliter"): (("Milliliter", "millilitre"), "UCUM 2.1 table 7 with prefix m"),
    PIXELS: (("pixels",), "PS3.16 TID 1602, curly-brace annotation of UCUM"),
    COSINE: ((), "PS3.16 TID 1604, curly-brace annotation of UCUM"),
    SOURCE: ((), "PS3.16 TID 1501, TID 1601; pydicom has it under its SNOMED name only"),
    FINDING_CATEGORY: ((), "PS3.16 TID 1501 row 3b; pydicom has it under its SNOMED name only"),
    LOW_ATTENUATION_AREA: ((), "ours: Gevenois 1996, threshold -950 HU; no public code found"),
    PERCENTILE_15: ((), "ours: Parr 2008, 15th percentile point; no public code found"),
    Code("3341006", "SCT", "Right lung"): (("Right lung structure",), "SNOMED CT; PS3.16 CID 4"),
    Code("44029006", "SCT", "Left lung"): (("Left lung structure",), "SNOMED CT; PS3.16 CID 4"),
    Code("9846003", "SCT", "Right kidney"): (("Right kidney structure",), "SNOMED CT"),
    Code("18639004", "SCT", "Left kidney"): (("Left kidney structure",), "SNOMED CT"),
}

#: Units that measurements may have, beside those of pydicom's dictionary. Source: UCUM.
UNITS_BEYOND_PYDICOM = frozenset(code.value for code in BEYOND_PYDICOM if code.scheme == "UCUM")

#: What is shown of a number: decimal places by unit. The exact value stays beside it as Floating Point Value.
DECIMALS = {
    "L": 2,
    "l": 2,
    "mL": 0,
    "ml": 0,
    "cm3": 1,
    "mm3": 0,
    "[hnsf'U]": 0,
    "%": 1,
    "mm": 1,
    "mm2": 1,
    "cm": 2,
    "{ratio}": 2,
    "1": 2,
}


def _entries() -> Iterator[tuple[str, str, str, list[int]]]:
    """Scheme, value, meaning and context groups of every code that pydicom carries."""
    table: Mapping[str, Any] = concepts
    for scheme, by_keyword in table.items():
        for by_value in by_keyword.values():
            for value, (meaning, contexts) in by_value.items():
                yield scheme, value, meaning, contexts


@cache
def _dictionary() -> dict[tuple[str, str], frozenset[str]]:
    """Meanings, in lower case, by (scheme, value), of PS3.16 as pydicom carries it."""
    meanings: dict[tuple[str, str], set[str]] = {}
    for scheme, value, meaning, _ in _entries():
        meanings.setdefault((scheme, value), set()).add(meaning.casefold())
    return {key: frozenset(found) for key, found in meanings.items()}


@cache
def _ours() -> dict[tuple[str, str], frozenset[str]]:
    table: dict[tuple[str, str], frozenset[str]] = {}
    for code, (others, _) in BEYOND_PYDICOM.items():
        table[code.scheme, code.value] = frozenset(name.casefold() for name in (code.meaning, *others))
    return table


def in_dictionary(code: Code) -> bool:
    """Tell whether pydicom's dictionary has the code under this meaning."""
    return code.meaning.casefold() in _dictionary().get((code.scheme, code.value), frozenset())


def is_known(code: Code) -> bool:
    """Tell whether code and meaning belong together, by the dictionary or by our table."""
    return in_dictionary(code) or code.meaning.casefold() in _ours().get((code.scheme, code.value), frozenset())


def is_unit(code: Code) -> bool:
    """Tell whether this is a UCUM unit that we know."""
    return code.scheme == "UCUM" and (code.value in UNITS_BEYOND_PYDICOM or ("UCUM", code.value) in _dictionary())


@cache
def _modalities() -> dict[str, Code]:
    return {value: Code(value, scheme, meaning) for scheme, value, meaning, contexts in _entries() if 29 in contexts}


def modality_code(modality: str) -> Code | None:
    """Give the coded modality (CID 29) of a value of Modality (0008,0060), if there is one."""
    return _modalities().get(modality)


def concept(code: Code) -> CodedConcept:
    """Give the code as highdicom takes it."""
    return CodedConcept(code.value, code.scheme, code.meaning)


def decimals(unit: Code) -> int:
    """How many decimal places are shown of a number in this unit."""
    return DECIMALS.get(unit.value, 2)
