"""Whose study it is: patient and study attributes, copied verbatim from the source.

Nothing is invented, corrected or tidied: a value that the source spells oddly is spelled so in the result,
because a PACS files the result by comparing it with its own copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydicom import DataElement, Dataset, Sequence, config
from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import PersonName

from inference.results.charset import (
    TEXT_VRS,
    as_ascii,
    choose,
    declared_sets,
    is_readable,
    quietly,
    strings_of,
    text_elements,
)
from inference.results.elements import items_of

#: Attributes that every result takes from its source. Referenced Study and Referenced Patient are left out: they
#: name management objects of the past, and are what senders and de-identifiers leave incomplete.
#: Source: PS3.3 C.7.1.1 (Patient), C.7.2.1 (General Study), C.7.2.2 (Patient Study), C.7.1.3 and C.7.2.3 (Clinical
#: Trial), C.12.1 (time zone); two retired ones still in use.
COPIED = (
    "TimezoneOffsetFromUTC",
    # Patient
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "TypeOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "SourcePatientGroupIdentificationSequence",
    "GroupOfPatientsIdentificationSequence",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientBirthDateInAlternativeCalendar",
    "PatientDeathDateInAlternativeCalendar",
    "PatientAlternativeCalendar",
    "PatientSex",
    "QualityControlSubject",
    "OtherPatientIDs",
    "OtherPatientNames",
    "OtherPatientIDsSequence",
    "EthnicGroup",
    "EthnicGroupCodeSequence",
    "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence",
    "PatientBreedDescription",
    "PatientBreedCodeSequence",
    "BreedRegistrationSequence",
    "StrainDescription",
    "StrainNomenclature",
    "StrainStockSequence",
    "StrainAdditionalInformation",
    "StrainCodeSequence",
    "GeneticModificationsSequence",
    "ResponsiblePerson",
    "ResponsiblePersonRole",
    "ResponsibleOrganization",
    "PatientComments",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    # General Study
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "StudyDescription",
    "ReferringPhysicianName",
    "ReferringPhysicianIdentificationSequence",
    "ConsultingPhysicianName",
    "ConsultingPhysicianIdentificationSequence",
    "ProcedureCodeSequence",
    "PhysiciansOfRecord",
    "PhysiciansOfRecordIdentificationSequence",
    "NameOfPhysiciansReadingStudy",
    "PhysiciansReadingStudyIdentificationSequence",
    "RequestingService",
    "RequestingServiceCodeSequence",
    "ReasonForPerformedProcedureCodeSequence",
    # Patient Study
    "AdmittingDiagnosesDescription",
    "AdmittingDiagnosesCodeSequence",
    "PatientAge",
    "PatientSize",
    "PatientSizeCodeSequence",
    "PatientBodyMassIndex",
    "MeasuredAPDimension",
    "MeasuredLateralDimension",
    "PatientWeight",
    "MedicalAlerts",
    "Allergies",
    "Occupation",
    "SmokingStatus",
    "AdditionalPatientHistory",
    "PregnancyStatus",
    "LastMenstrualDate",
    "PatientSexNeutered",
    "ReasonForVisit",
    "ReasonForVisitCodeSequence",
    "AdmissionID",
    "IssuerOfAdmissionIDSequence",
    "ServiceEpisodeID",
    "ServiceEpisodeDescription",
    "IssuerOfServiceEpisodeIDSequence",
    "PatientState",
    # Clinical Trial Subject, Clinical Trial Study
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "IssuerOfClinicalTrialProtocolID",
    "OtherClinicalTrialProtocolIDsSequence",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "IssuerOfClinicalTrialSiteID",
    "ClinicalTrialSubjectID",
    "IssuerOfClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "IssuerOfClinicalTrialSubjectReadingID",
    "ClinicalTrialProtocolEthicsCommitteeName",
    "ClinicalTrialProtocolEthicsCommitteeApprovalNumber",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
    "LongitudinalTemporalOffsetFromEvent",
    "LongitudinalTemporalEventType",
    "ClinicalTrialTimePointTypeCodeSequence",
    "IssuerOfClinicalTrialTimePointID",
    "ConsentForClinicalTrialUseSequence",
)

#: Type 2: present in every result, empty where the source has none.
NEVER_ABSENT = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)

#: Segmentations also say of what body part they are. Source: PS3.3 C.7.3.1.
COPIED_TO_IMAGES = ("BodyPartExamined", "RequestAttributesSequence")
#: and in which frame of reference, Source: PS3.3 C.7.4.1,
COPIED_WITH_PLACE = ("FrameOfReferenceUID", "PositionReferenceIndicator")
#: or, where there is none, which way the image shows the patient. Source: PS3.3 C.7.6.1, C.7.3.1.
COPIED_WITHOUT_PLACE = ("PatientOrientation", "Laterality", "ImageLaterality")

#: Items of Referenced Request Sequence, by type. Source: PS3.3 table C.17-2 (SR Document General).
_REQUEST_TYPE_2 = (
    "ReferencedStudySequence",
    "AccessionNumber",
    "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest",
    "RequestedProcedureID",
    "RequestedProcedureDescription",
    "RequestedProcedureCodeSequence",
)
_REQUEST_TYPE_3 = (
    "IssuerOfAccessionNumberSequence",
    "OrderPlacerIdentifierSequence",
    "OrderFillerIdentifierSequence",
    "ReasonForTheRequestedProcedure",
    "ReasonForRequestedProcedureCodeSequence",
)

#: Text whose stored bytes are the value, whatever they say.
_PLAIN_VRS = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"})


class SourceIdentity:
    """Patient and study attributes of one source, ready to be put into results.

    Parameters
    ----------
    source
        First used instance of the analysed series; it is read, never changed.
    """

    def __init__(self, source: Dataset) -> None:
        self._source = source
        self.declared = declared_sets(source)
        texts = list(self._texts())
        self._copied = frozenset(text for strings, _ in texts for text in strings)
        odd = [stored for strings, stored in texts if any(map(self._is_odd, strings))]
        self.keeps_bytes = bool(odd) and all(stored is not None for stored in odd)
        """The source's text is not in the character set that it declares: its bytes are copied as they are."""

    def put_into(self, target: Dataset, keywords: tuple[str, ...]) -> None:
        """Replace the target's attributes by the source's; what the source lacks, the target loses too."""
        for keyword in keywords:
            tag = _tag(keyword)
            element = copy_element(self._source, tag, keep_bytes=self.keeps_bytes)
            if element is not None:
                target[tag] = element
            elif keyword in NEVER_ABSENT:
                target[tag] = DataElement(tag, dictionary_VR(tag), None)
            elif tag in target:
                del target[tag]

    def requests(self) -> list[Dataset]:
        """Items of Referenced Request Sequence: the orders that the source's series fulfils."""
        return [self._request(item) for item in items_of(self._source, "RequestAttributesSequence")]

    def _request(self, source_item: Dataset) -> Dataset:
        item = Dataset()
        item.StudyInstanceUID = self._source.StudyInstanceUID
        for keyword in (*_REQUEST_TYPE_2, *_REQUEST_TYPE_3):
            tag = _tag(keyword)
            # The study's accession number stands in for one that the request does not repeat.
            takes_study = keyword in ("AccessionNumber", "IssuerOfAccessionNumberSequence") and tag not in source_item
            holder = self._source if takes_study else source_item
            element = copy_element(holder, tag, keep_bytes=self.keeps_bytes)
            if element is not None and keyword != "ReferencedStudySequence":
                item[tag] = element
            elif keyword in _REQUEST_TYPE_2:
                vr = dictionary_VR(tag)
                item[tag] = DataElement(tag, vr, [] if vr == "SQ" else None)
        return item

    def write_character_set(self, target: Dataset) -> None:
        """Set Specific Character Set so that every string of the target survives.

        Where the source's text is not in its declared set, label and bytes stay as they are and our own
        sentences are written in ASCII.
        """
        elements = list(text_elements(target, with_stored_bytes=False))
        if self.keeps_bytes:
            for element in elements:
                _make_ascii(element)
            chosen = self.declared
        else:
            strings = {text for element in elements for text in strings_of(element)}
            chosen = choose(self.declared, copied=strings & self._copied, generated=strings - self._copied)
        if chosen:
            target.SpecificCharacterSet = chosen[0] if len(chosen) == 1 else list(chosen)
        elif "SpecificCharacterSet" in target:
            del target.SpecificCharacterSet

    def _texts(self) -> Iterator[tuple[tuple[str, ...], bytes | None]]:
        for keyword in (*COPIED, *COPIED_TO_IMAGES, *COPIED_WITH_PLACE):
            yield from _texts_of(self._source, _tag(keyword))

    def _is_odd(self, text: str) -> bool:
        undeclared = not self.declared or not is_readable(self.declared)
        return "\ufffd" in text or (undeclared and not text.isascii())


def copy_element(dataset: Dataset, tag: BaseTag, *, keep_bytes: bool = False) -> DataElement | RawDataElement | None:
    """Copy one element, decoded; None: the data set lacks it.

    What is no text is copied as it was stored, valid or not. Private elements inside items are left out:
    they mean nothing without their source.

    Parameters
    ----------
    keep_bytes
        Text too is copied as it was stored, where its stored bytes are at hand.
    """
    found = dataset.get_item(tag) if tag in dataset else None
    if found is None:
        return None
    vr = found.VR if found.VR not in (None, "UN") else dictionary_VR(tag)
    if vr == "SQ":
        items = [_copy_item(item, keep_bytes=keep_bytes) for item in dataset[tag].value or ()]
        return DataElement(tag, "SQ", Sequence(items))
    stored = _stored_bytes(found)
    if stored is not None and (vr in _PLAIN_VRS or (keep_bytes and vr in TEXT_VRS)):
        pad = b"\0" if vr == "UI" else b" "
        even = stored + pad if len(stored) % 2 else stored
        return RawDataElement(tag, vr, len(even), even, 0, False, True)
    return DataElement(tag, vr, _unbound(decoded(dataset, tag).value), validation_mode=config.IGNORE)


def _copy_item(item: Dataset, *, keep_bytes: bool) -> Dataset:
    copied = Dataset()
    for tag in item.keys():  # noqa: SIM118 - iterating over a data set would decode its elements
        # The item's own character set goes: its text is decoded, and written in that of the result.
        if tag.is_private or (tag == 0x00080005 and not keep_bytes):
            continue
        element = copy_element(item, tag, keep_bytes=keep_bytes)
        if element is not None:
            copied[tag] = element
    return copied


def decoded(dataset: Dataset, tag: BaseTag) -> DataElement:
    """Decode one element without changing the data set, and without a word about what cannot be decoded."""
    found: Any = dataset.get_item(tag)  # not always a DataElement, whatever pydicom declares
    if isinstance(found, DataElement):
        return found
    with quietly():
        encodings = dataset.original_character_set or dataset._character_set or convert_encodings(None)
        return convert_raw_data_element(found, encoding=encodings, ds=dataset)


def _texts_of(dataset: Dataset, tag: BaseTag) -> Iterator[tuple[tuple[str, ...], bytes | None]]:
    found = dataset.get_item(tag) if tag in dataset else None
    if found is None:
        return
    vr = found.VR if found.VR not in (None, "UN") else dictionary_VR(tag)
    if vr == "SQ":
        for item in dataset[tag].value or ():
            for inner in item.keys():  # noqa: SIM118
                if not inner.is_private:
                    yield from _texts_of(item, inner)
    elif vr in TEXT_VRS:
        yield strings_of(decoded(dataset, tag)), _stored_bytes(found)


def _stored_bytes(element: DataElement | RawDataElement) -> bytes | None:
    """Bytes of the value as it was stored; None: they are no longer at hand."""
    if isinstance(element, RawDataElement):
        return element.value
    value = element.value
    if isinstance(value, PersonName) and isinstance(value.original_string, bytes):
        return value.original_string
    return None


def _unbound(value: Any) -> Any:
    """Free a decoded value of the character set that it was stored in."""
    if isinstance(value, PersonName):
        return PersonName(str(value))
    if isinstance(value, MultiValue) and any(isinstance(item, PersonName) for item in value):
        return [PersonName(str(item)) for item in value]
    return value


def _make_ascii(element: DataElement) -> None:
    strings = [as_ascii(text) for text in strings_of(element)]
    if strings:
        element.value = strings[0] if len(strings) == 1 else strings


def _tag(keyword: str) -> BaseTag:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return Tag(tag)
