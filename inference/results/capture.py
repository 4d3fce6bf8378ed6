"""Results as Secondary Capture: for receivers that take no segmentation, and one page for those that show no report.

Source: PS3.3 A.8.5 (Multi-frame True Color Secondary Capture), C.8.6.1, C.8.6.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom import Dataset

from inference.findings import Findings, ImageLocation
from inference.results import codes, words
from inference.results.drawing import Mark, Outline, annotated
from inference.results.elements import pixel_proportions, text_of
from inference.results.evidence import Evidence
from inference.results.forms import MULTI_FRAME_TRUE_COLOR_CAPTURE, SECONDARY_CAPTURE, Form
from inference.results.key_images import KeyImage, is_on, key_images
from inference.results.orientation_letters import edge_letters
from inference.results.page import summary_page
from inference.results.pictures import Picture, Pictures
from inference.results.references import instance_reference
from inference.results.run import Kind, Run, result_uid, series_number, series_uid

#: Images that one capture holds at most; the series is sampled evenly where more are outlined.
MOST_FRAMES = 24
_PAGE_NUMBER_VECTOR = 0x00182001


@dataclass(frozen=True, eq=False)
class Drawn:
    """One key image as drawn."""

    image: KeyImage
    header: Dataset
    frame_number: int | None
    picture: Picture


def make_capture(findings: Findings, evidence: Evidence, run: Run, pictures: Pictures, form: Form) -> Dataset | None:
    """Make pictures of what is outlined or marked; None where nothing is.

    Parameters
    ----------
    evidence
        Headers of the used instances, in the order of the masks' slices.
    """
    drawn = drawn_key_images(findings, evidence, run, pictures, MOST_FRAMES)
    if not any(each.image.shows for each in drawn) and not any(group.location for group in findings.groups):
        return None
    outlined = sum(any(segment.mask[index].any() for segment in findings.segments) for index in range(len(evidence)))
    said = f"{len(drawn)} of {max(outlined, len(drawn))} images with outlines, evenly sampled, at most {MOST_FRAMES}."
    capture = _capture([each.picture for each in drawn], "capture", run, form)
    capture.DerivationDescription = f"Outlines of {run.engine.name} {run.engine.version} drawn on the images. {said}"
    capture.SourceImageSequence = [source_item(each.header, each.frame_number) for each in drawn]
    _put_recognizable(capture, evidence[0])
    letters = {edge_letters(each.header) for each in drawn}
    sides = letters.pop()
    if sides is not None and not letters:
        capture.PatientOrientation = [sides[1], sides[3]]
    return capture


def make_summary(findings: Findings, evidence: Evidence, run: Run, pictures: Pictures | None, form: Form) -> Dataset:
    """Make one page that says and shows what was found."""
    drawn = drawn_key_images(findings, evidence, run, pictures, 2) if pictures is not None else ()
    page = summary_page(findings, evidence, run, [each.picture for each in drawn])
    capture = _capture([page], "summary", run, form)
    capture.DerivationDescription = f"Summary of {run.engine.name} {run.engine.version}."
    capture.SourceImageSequence = [source_item(each.header, each.frame_number) for each in drawn] or [
        source_item(evidence[0])
    ]
    _put_recognizable(capture, evidence[0])
    if findings.refusal is not None:
        capture.SeriesDescription = words.REFUSED
    return capture


def _put_recognizable(capture: Dataset, source: Dataset) -> None:
    """Say whether the patient may be recognized: as the source says; a photograph that says nothing may show a face.

    Source: PS3.3 C.7.6.1 (Recognizable Visual Features, type 3).
    """
    said = text_of(source, "RecognizableVisualFeatures")
    is_photograph = source.get("SamplesPerPixel", 1) != 1
    if said in ("YES", "NO") or not is_photograph:
        capture.RecognizableVisualFeatures = said if said in ("YES", "NO") else "NO"


def drawn_key_images(
    findings: Findings, evidence: Evidence, run: Run, pictures: Pictures, most: int
) -> tuple[Drawn, ...]:
    """Draw the key images with their outlines and marks."""
    return tuple(
        Drawn(
            image,
            evidence[image.index],
            evidence.frame_numbers[image.index],
            _picture(image, findings, evidence, run, pictures),
        )
        for image in key_images(findings, evidence, most)
    )


def _picture(image: KeyImage, findings: Findings, evidence: Evidence, run: Run, pictures: Pictures) -> Picture:
    header = evidence[image.index]
    outlines = [
        Outline(segment.label, segment.mask[image.index], segment.colour)
        for segment in findings.segments
        if segment.label in image.shows
    ]
    maker = "classical, not AI" if run.engine.kind == "classical" else "AI"
    return annotated(
        pictures.shown(image.index),
        outlines,
        list(_marks(findings, str(header.SOPInstanceUID), evidence.frame_numbers[image.index])),
        corner=(words.MARK, f"{run.engine.name} ({maker})", "not for diagnosis"),
        where=(f"image {image.index + 1} of {len(evidence)}", pictures.window),
        edges=edge_letters(header),
        proportions=pixel_proportions(header),
    )


def _marks(findings: Findings, sop_instance_uid: str, frame_number: int | None) -> Iterator[Mark]:
    for group in findings.groups:
        place = group.location
        if isinstance(place, ImageLocation) and is_on(place, sop_instance_uid, frame_number):
            yield Mark(_line_of(place), group.finding.meaning, closed=place.graphic in ("CIRCLE", "ELLIPSE"))


def _line_of(place: ImageLocation) -> tuple[tuple[float, float], ...]:
    """Points to join: circles and ellipses as polygons. Source: PS3.3 C.18.6.1.2 (graphic types)."""
    if place.graphic == "CIRCLE":
        (x, y), edge = place.points
        radius = float(np.hypot(edge[0] - x, edge[1] - y))
        first, second = (radius, 0.0), (0.0, radius)
    elif place.graphic == "ELLIPSE":
        ends = np.array(place.points)
        x, y = (float(each) for each in ends.mean(axis=0))
        major, minor = (ends[1] - ends[0]) / 2, (ends[3] - ends[2]) / 2
        first, second = (float(major[0]), float(major[1])), (float(minor[0]), float(minor[1]))
    else:
        return place.points
    turns = np.linspace(0.0, 2.0 * np.pi, 48, endpoint=False)
    return tuple(
        (
            x + float(np.cos(turn)) * first[0] + float(np.sin(turn)) * second[0],
            y + float(np.cos(turn)) * first[1] + float(np.sin(turn)) * second[1],
        )
        for turn in turns
    )


def _capture(frames: Sequence[Picture], kind: Kind, run: Run, form: Form) -> Dataset:
    """Put pictures of one size into one object, without the source's identity, times and character set."""
    frames = _of_one_size(frames)
    made = Dataset()
    made.SOPClassUID = MULTI_FRAME_TRUE_COLOR_CAPTURE if kind == "capture" else SECONDARY_CAPTURE
    made.SOPInstanceUID = result_uid(run.run_key, str(form), kind)
    made.SeriesInstanceUID = series_uid(run.study_instance_uid, run.engine.name, kind, str(form))
    made.SeriesNumber = series_number(run, kind)
    made.SeriesDescription = words.description(run.engine, kind)
    made.Modality = "OT"
    made.InstanceNumber = run.revision
    made.ImageType = ["DERIVED", "SECONDARY"]
    made.PatientOrientation = made.Laterality = ""
    made.ConversionType = "WSD"
    made.BurnedInAnnotation = "YES"
    made.LossyImageCompression = "00"
    made.DerivationCodeSequence = [codes.concept(codes.SEGMENTATION_DERIVATION)]
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "RGB", 0
    made.Rows, made.Columns = frames[0].shape[:2]
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation = 7, 0
    if kind == "capture":
        made.NumberOfFrames = len(frames)
    if len(frames) > 1:
        made.FrameIncrementPointer = _PAGE_NUMBER_VECTOR
        made.PageNumberVector = list(range(1, len(frames) + 1))
    pixels = b"".join(np.ascontiguousarray(frame).tobytes() for frame in frames)
    made.PixelData = pixels + bytes(len(pixels) % 2)
    return made


def _of_one_size(frames: Sequence[Picture]) -> Sequence[Picture]:
    """Set pictures in the middle of black ones as large as the largest: frames of one object have one size."""
    rows, columns = (max(frame.shape[side] for frame in frames) for side in (0, 1))
    if all(frame.shape[:2] == (rows, columns) for frame in frames):
        return frames
    made = []
    for frame in frames:
        whole = np.zeros((rows, columns, 3), dtype=np.uint8)
        top, left = (rows - frame.shape[0]) // 2, (columns - frame.shape[1]) // 2
        whole[top : top + frame.shape[0], left : left + frame.shape[1]] = frame
        made.append(whole)
    return made


def source_item(header: Dataset, frame_number: int | None = None) -> Dataset:
    """Item that names a source image with what it was used for."""
    item = instance_reference(header)
    if frame_number is not None:
        item.ReferencedFrameNumber = frame_number
    item.PurposeOfReferenceCodeSequence = [codes.concept(codes.SOURCE_IMAGE)]
    return item
