from __future__ import annotations

import io
from typing import Any, BinaryIO

import numpy as np
import pytest
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from dicom_node.worker.variants import class_variant, classify
from inference.errors import PixelWorkStopped
from storage.errors import Inapplicable
from storage.records import InstanceRole, VariantRecord, VariantState
from tests.builders.paper_parts import CT_IMAGE, make_input
from tests.builders.stage import Stage
from tests.builders.studies import at, make_header, make_peer


def make_image(seed: int = 1, **attributes: Any) -> Dataset:
    image = make_header(
        SOPClassUID=CT_IMAGE,
        SOPInstanceUID="1.1.1",
        StudyInstanceUID="1",
        SeriesInstanceUID="1.1",
        Rows=8,
        Columns=8,
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        BitsAllocated=16,
        BitsStored=16,
        HighBit=15,
        PixelRepresentation=1,
        RescaleSlope="1",
        RescaleIntercept="-1024",
        **attributes,
    )
    image.PixelData = np.random.default_rng(seed).integers(0, 999, (8, 8), dtype=np.int16).tobytes()
    return image


def encode(image: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if syntax == RLELossless:
        image.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    image.file_meta.TransferSyntaxUID = syntax
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    target = io.BytesIO()
    dcmwrite(target, image, enforce_file_format=True)
    return target.getvalue()


def tell(
    stage: Stage,
    kept: bytes,
    other: bytes,
    *,
    syntaxes: tuple[str, str] = (ExplicitVRLittleEndian, ExplicitVRLittleEndian),
    role: InstanceRole = InstanceRole.INPUT,
) -> tuple[VariantState, str]:
    stage.keep(make_input(1, path="kept", transfer_syntax_uid=syntaxes[0], role=role))
    stage.blobs.update({"kept": kept, "other": other})
    variant = VariantRecord(
        "1.1.1", "other", syntaxes[1], "other", 1, VariantState.UNCLASSED, "", at(0), "ct1", "CT1", "10.1.2.3"
    )
    stage.variants.records = [variant]
    assert class_variant(variant, stage.courier)
    return stage.variants.said[-1]


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless])
def test_the_same_image_encoded_in_another_way_is_noted(stage: Stage, syntax: str) -> None:
    said = tell(stage, encode(make_image()), encode(make_image(), syntax), syntaxes=(ExplicitVRLittleEndian, syntax))
    assert said == (VariantState.NOTED, "The same image, encoded in another way; the first stays.")


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless])
def test_other_pixels_are_a_conflict(stage: Stage, syntax: str) -> None:
    state, reason = tell(
        stage, encode(make_image(), syntax), encode(make_image(seed=2), syntax), syntaxes=(syntax, syntax)
    )
    assert state is VariantState.CONFLICT
    assert "its pixels differ" in reason


def test_harmless_coercion_is_noted_by_the_names_of_what_changed(stage: Stage) -> None:
    other = make_image(
        InstitutionName="Test Hospital", PatientSex="O", PatientName="TEST^QUIET^^", SliceThickness="1.25"
    )
    state, reason = tell(stage, encode(make_image(InstitutionName="Elsewhere")), encode(other))
    assert state is VariantState.NOTED
    assert reason == "The same image with other attributes (InstitutionName, PatientName, PatientSex); the first stays."


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({"PatientID": "TEST-2"}, "Patient ID"),
        ({"PatientID": ""}, "Patient ID"),
        ({"PatientName": "Test^Loud"}, "Patient's Name"),
        ({"PatientBirthDate": "19800101"}, "Patient's Birth Date"),
        ({"SliceThickness": "2"}, "Slice Thickness"),
        ({"ImagePositionPatient": ["0", "0", "1"]}, "Image Position (Patient)"),
    ],
)
def test_the_same_pixels_of_another_identity_or_place_wait_for_a_person(
    stage: Stage, attributes: dict[str, Any], name: str
) -> None:
    kept = make_image(PatientBirthDate="19700101", ImagePositionPatient=["0", "0", "0"])
    other = make_image(**{"PatientBirthDate": "19700101", "ImagePositionPatient": ["0", "0", "0"], **attributes})
    state, reason = tell(stage, encode(kept), encode(other))
    assert state is VariantState.HELD
    assert (
        reason == f"The same pixels with another {name}: a correction. It waits for a decision: "
        "dicom-node correct UID --apply. The first stays."
    )


def test_a_peer_whose_corrections_are_accepted_makes_them(stage: Stage) -> None:
    stage.peers = {"ct1": make_peer(corrections="accept")}
    state, reason = tell(stage, encode(make_image()), encode(make_image(PatientID="TEST-2")))
    assert state is VariantState.HELD
    assert "TEST-" not in reason
    assert [by for _, by in stage.corrections.applied] == ["ct1"]


def test_a_correction_that_cannot_be_made_goes_on_waiting(stage: Stage) -> None:
    stage.peers = {"ct1": make_peer(corrections="accept")}
    stage.corrections.fails = Inapplicable()
    state, _ = tell(stage, encode(make_image()), encode(make_image(PatientID="TEST-2")))
    assert state is VariantState.HELD
    assert stage.corrections.applied == []


def test_nobody_elses_correction_is_made(stage: Stage) -> None:
    tell(stage, encode(make_image()), encode(make_image(PatientID="TEST-2")))
    assert stage.corrections.applied == []


def test_a_result_of_ours_that_comes_back_is_noted_and_ours_stays(stage: Stage) -> None:
    said = tell(stage, encode(make_image()), encode(make_image(seed=2)), role=InstanceRole.RESULT)
    assert said == (VariantState.NOTED, "A result of this node came back with other bytes; ours stays.")


def test_bytes_that_cannot_be_read_or_decoded_are_a_conflict(stage: Stage) -> None:
    state, reason = tell(stage, encode(make_image()), b"no DICOM")
    assert state is VariantState.CONFLICT
    assert "cannot be read" in reason
    image = make_image()
    image.PixelData = (
        b"\xfe\xff\x00\xe0\x00\x00\x00\x00\xfe\xff\x00\xe0\x04\x00\x00\x00junk\xfe\xff\xdd\xe0\x00\x00\x00\x00"
    )
    image["PixelData"].is_undefined_length = True
    state, reason = tell(
        stage,
        encode(make_image()),
        encode(image, JPEGBaseline8Bit),
        syntaxes=(ExplicitVRLittleEndian, JPEGBaseline8Bit),
    )
    assert state is VariantState.CONFLICT
    assert "cannot be compared" in reason


def test_pixels_that_a_child_process_dies_of_are_a_conflict_and_harm_nobody(stage: Stage) -> None:
    def stopped(_: BinaryIO) -> str:
        raise PixelWorkStopped("The decoder died.")

    stage.digest_pixels = stopped
    state, reason = tell(
        stage,
        encode(make_image()),
        encode(make_image(), RLELossless),
        syntaxes=(ExplicitVRLittleEndian, RLELossless),
    )
    assert state is VariantState.CONFLICT
    assert "cannot be compared (PixelWorkStopped)" in reason


def test_a_document_that_says_otherwise_is_a_conflict() -> None:
    item = Dataset()
    item.TextValue = "other"
    mine, theirs = make_header(ContentSequence=[Dataset()]), make_header(ContentSequence=[item])
    assert classify(mine, theirs, other_pixels="", role=InstanceRole.DOCUMENT).state is VariantState.CONFLICT
    assert classify(mine, mine, other_pixels="", role=InstanceRole.DOCUMENT).state is VariantState.NOTED
