"""What may be asked of the model, in the wordings it was trained with.

The caller's own question is asked as it stands, with one exception: what is to be segmented in a CT is named in the
trained sentence, since the model knows four organs and one way to ask for them.
"""

from __future__ import annotations

import re
from enum import StrEnum

from inference.errors import UnsuitableStudy


class Modality(StrEnum):
    """What kind of images are asked about."""

    CXR = "cxr"
    DERM = "derm"
    CT = "ct"


class Task(StrEnum):
    """What is asked."""

    REPORT = "report generation"
    CLASSIFICATION = "classification"
    SEGMENTATION = "segmentation"
    DETECTION = "detection"
    REGION = "region description"
    QUESTION = "visual question answering"
    COMPARISON = "comparison"


#: Organs of CT segmentation, with the letters by which they are found in a question.
ORGANS = {"liver": "liver", "spleen": "spleen", "kidney": "kidney", "pancreas": "pancrea"}

#: Questions for which the model was trained to be told about the patient.
_TOLD_OF_PATIENT = ("report", "finding", "impression")
_TOLD_OF_SKIN_PATIENT = ("diagnosis", "issue", "problem")

#: Tasks that no wording stands for: the question is the caller's to ask.
_NEEDS_QUESTION = {
    Task.REGION: "which region to describe",
    Task.QUESTION: "a question",
    Task.COMPARISON: "what to compare",
    Task.DETECTION: "what to detect, such as 'Detect any signs of pleural effusion in <img0>.'",
}


def question_for(modality: Modality, task: Task, *, images: int, asked: str = "") -> str:
    """Give the question to ask.

    Parameters
    ----------
    asked
        The caller's own words; empty: the trained wording of the task.

    Raises
    ------
    UnsuitableStudy
        The task needs words of the caller's, or another number of images.
    """
    if task is Task.COMPARISON and images != 2:
        raise UnsuitableStudy(f"two images are compared, {images} were given.")
    question = asked.strip()
    if not question:
        return _trained_wording(modality, task, images)
    if task is Task.QUESTION and "<img" not in question:
        return f"In {tags(images)}, {question}"
    if modality is Modality.CT and "segment" in question.lower():
        organ = organ_in(question)
        return f"Segment the {organ}." if organ else question
    return question


def wants_context(modality: Modality, question: str) -> bool:
    """Tell whether the model was trained to be told about the patient with such a question."""
    words = _TOLD_OF_PATIENT + (_TOLD_OF_SKIN_PATIENT if modality is Modality.DERM else ())
    return any(word in question.lower() for word in words)


def organ_in(question: str) -> str | None:
    """The one organ that a question names; None: none or several."""
    named = [organ for organ, letters in ORGANS.items() if re.search(rf"\b{letters}", question.lower())]
    return named[0] if len(named) == 1 else None


def tags(images: int) -> str:
    """How a question names the images."""
    return "".join(f"<img{index}>" for index in range(images))


def _trained_wording(modality: Modality, task: Task, images: int) -> str:
    if task in _NEEDS_QUESTION:
        raise UnsuitableStudy(f"{task.value} needs a prompt: {_NEEDS_QUESTION[task]}.")
    if task is Task.REPORT:
        return f"How would you characterize the findings from {tags(images)}?"
    if task is Task.CLASSIFICATION:
        return "What is the primary diagnosis?"
    if modality is Modality.CXR:
        raise UnsuitableStudy("segmentation of a chest X-ray needs a prompt: what to segment.")
    return "Segment the liver." if modality is Modality.CT else "Segment the lesion."
