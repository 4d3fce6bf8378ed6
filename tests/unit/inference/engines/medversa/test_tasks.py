from __future__ import annotations

import pytest
from pydicom import Dataset

from inference.engines.medversa.context import age_years, context_of
from inference.engines.medversa.tasks import Modality, Task, organ_in, question_for, wants_context
from inference.errors import UnsuitableStudy


@pytest.mark.parametrize(
    ("modality", "task", "images", "question"),
    [
        (Modality.CXR, Task.REPORT, 1, "How would you characterize the findings from <img0>?"),
        (Modality.CXR, Task.REPORT, 2, "How would you characterize the findings from <img0><img1>?"),
        (Modality.DERM, Task.CLASSIFICATION, 1, "What is the primary diagnosis?"),
        (Modality.DERM, Task.SEGMENTATION, 1, "Segment the lesion."),
        (Modality.CT, Task.SEGMENTATION, 1, "Segment the liver."),
    ],
)
def test_an_empty_prompt_means_the_trained_wording(modality: Modality, task: Task, images: int, question: str) -> None:
    assert question_for(modality, task, images=images, asked=" ") == question


@pytest.mark.parametrize(
    ("modality", "task"),
    [
        (Modality.CXR, Task.DETECTION),
        (Modality.CXR, Task.REGION),
        (Modality.CXR, Task.QUESTION),
        (Modality.CXR, Task.SEGMENTATION),
    ],
)
def test_a_task_without_a_wording_asks_for_one(modality: Modality, task: Task) -> None:
    with pytest.raises(UnsuitableStudy, match="needs a prompt"):
        question_for(modality, task, images=1)


def test_the_callers_words_are_asked_as_they_stand() -> None:
    said = "Is there a melanoma, or a nevus?"
    assert question_for(Modality.DERM, Task.CLASSIFICATION, images=1, asked=said) == said
    assert question_for(Modality.CXR, Task.SEGMENTATION, images=1, asked="Segment the heart.") == "Segment the heart."


def test_a_question_names_its_images() -> None:
    asked = "is there an effusion?"
    assert question_for(Modality.CXR, Task.QUESTION, images=2, asked=asked) == f"In <img0><img1>, {asked}"
    assert question_for(Modality.CXR, Task.QUESTION, images=1, asked=f"In <img0>, {asked}") == f"In <img0>, {asked}"


@pytest.mark.parametrize(
    ("asked", "question"),
    [
        ("please segment the Pancreatic head", "Segment the pancreas."),
        ("Segmentation of both kidneys... segment the kidney", "Segment the kidney."),
        ("Segment the lungs", "Segment the lungs"),
        ("Segment the liver and the spleen", "Segment the liver and the spleen"),
    ],
)
def test_an_organ_of_a_ct_is_asked_for_in_the_trained_sentence_and_no_other_is(asked: str, question: str) -> None:
    assert question_for(Modality.CT, Task.SEGMENTATION, images=1, asked=asked) == question


def test_one_organ_is_named_or_none() -> None:
    assert organ_in("the LIVER") == "liver"
    assert organ_in("liver, spleen") is None
    assert organ_in("delivery") is None


def test_two_images_are_compared() -> None:
    asked = "What changed from <img0> to <img1>?"
    assert question_for(Modality.CXR, Task.COMPARISON, images=2, asked=asked) == asked
    with pytest.raises(UnsuitableStudy, match="two images are compared, 1 were given"):
        question_for(Modality.CXR, Task.COMPARISON, images=1, asked=asked)


@pytest.mark.parametrize(
    ("modality", "question", "wanted"),
    [
        (Modality.CXR, "How would you characterize the Findings from <img0>?", True),
        (Modality.CXR, "What is the primary diagnosis?", False),
        (Modality.DERM, "What is the primary diagnosis?", True),
        (Modality.DERM, "Segment the lesion.", False),
    ],
)
def test_the_patient_is_spoken_of_where_training_did(modality: Modality, question: str, wanted: bool) -> None:
    assert wants_context(modality, question) is wanted


def header(**values: object) -> Dataset:
    found = Dataset()
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return found


def test_a_chest_film_has_age_in_decades_sex_and_indication() -> None:
    request = header(ReasonForTheRequestedProcedure="chest pain,\n rule out  pneumonia.")
    film = header(PatientAge="045Y", PatientSex="F", RequestAttributesSequence=[request])
    assert context_of(film, Modality.CXR) == (
        "Age:40-50.\nGender:F.\nIndication: chest pain, rule out pneumonia.\nComparison: None."
    )


def test_a_photograph_of_skin_has_age_sex_in_words_and_place() -> None:
    photograph = header(PatientAge="070Y", PatientSex="F", BodyPartExamined="BACK")
    assert context_of(photograph, Modality.DERM) == "Age:70.\nGender:female.\nLocation:back."


def test_what_the_header_does_not_say_is_left_out() -> None:
    assert context_of(header(PatientSex="O"), Modality.CXR) == "Comparison: None."
    assert context_of(header(), Modality.DERM) == ""
    assert context_of(header(PatientAge="045Y", PatientSex="F"), Modality.CT) == ""


@pytest.mark.parametrize(
    ("values", "age"),
    [
        ({"PatientAge": "045Y"}, 45),
        ({"PatientAge": "018M"}, 1),
        ({"PatientAge": "010W"}, 0),
        ({"PatientAge": "45"}, None),
        ({"PatientBirthDate": "19800615", "StudyDate": "20260614"}, 45),
        ({"PatientBirthDate": "19800615", "StudyDate": "20260615"}, 46),
        ({"PatientBirthDate": "20300101", "StudyDate": "20260615"}, None),
        ({"PatientBirthDate": "1980", "StudyDate": "20260615"}, None),
    ],
)
def test_age_is_the_headers_or_from_birth_to_the_study(values: dict[str, str], age: int | None) -> None:
    assert age_years(header(**values)) == age


def test_ages_of_100_and_more_share_the_last_decade() -> None:
    assert context_of(header(PatientAge="103Y"), Modality.CXR).startswith("Age:90-100.")
