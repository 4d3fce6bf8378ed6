"""From findings to the objects of one set, checked and encoded: what is kept is what was checked."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from pydicom import DataElement, Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.uid import ExplicitVRLittleEndian

from inference.errors import UnusableAnswer
from inference.findings import Code, Findings
from inference.results import codes, gate
from inference.results.basic_text import make_basic_text
from inference.results.capture import make_capture, make_summary
from inference.results.charset import quietly
from inference.results.document import make_document
from inference.results.elements import items_of, text_of
from inference.results.evidence import Evidence
from inference.results.forms import CANONICAL, Form
from inference.results.identity import COPIED, COPIED_TO_IMAGES, COPIED_WITH_PLACE, COPIED_WITHOUT_PLACE, SourceIdentity
from inference.results.key_objects import Rejection, make_key_objects
from inference.results.pictures import Pictures
from inference.results.read_back import check_masks
from inference.results.result import Result
from inference.results.run import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    Kind,
    NodeIdentity,
    Run,
    algorithm_device_uid,
    date_of,
    object_time,
    time_of,
)
from inference.results.seg import make_seg
from inference.results.seg_frames import PER_FRAME_GROUPS
from inference.results.sr import make_sr


def build_results(
    findings: Findings,
    evidence: Sequence[Dataset],
    run: Run,
    node: NodeIdentity,
    form: Form = CANONICAL,
    pictures: Pictures | None = None,
) -> tuple[Result, ...]:
    """Make one result set of one run, in sending order: outlines first, then the report that names them.

    The same arguments give the same bytes, in any process and time zone.

    Parameters
    ----------
    evidence
        Headers of the used instances, in the order of the masks' slices; for a refusal, of the considered
        ones in any order. The first gives the identity of the patient.
    form
        Which objects the set is made of. Where nothing is outlined, it has no outlines whatever its form.
    pictures
        The used images as shown; needed by the forms that hold pictures.

    Raises
    ------
    UnusableAnswer
        The findings cannot be encoded as objects that pass the gate.
    """
    if not evidence:
        raise UnusableAnswer("there is no image that the results could refer to")
    used = Evidence.of(evidence)
    with quietly():  # of odd values in the source, which are not ours to correct
        try:
            results = _made(_Task(findings, used, run, node, form, pictures))
        except ValueError as error:  # what highdicom says of values that no object can hold
            raise UnusableAnswer("the findings hold a value that cannot be encoded") from error
        gate.check(results, used)
    return results


@dataclass(frozen=True)
class _Task:
    findings: Findings
    evidence: Evidence
    run: Run
    node: NodeIdentity
    form: Form
    pictures: Pictures | None


def _made(task: _Task) -> tuple[Result, ...]:
    finish = _Finisher(task.evidence[0], task.run, task.node, task.form)
    made: list[Result] = []
    seg: Dataset | None = None
    if task.form.outlines_kind == "seg":
        seg = make_seg(task.findings.segments, task.evidence, task.run, task.node, task.form)
        if seg is not None:
            made.append(finish(seg, "seg"))
            check_masks(task.findings, made[-1].dataset, task.evidence)
    if task.form.outlines_kind == "capture":
        if task.pictures is None:
            raise UnusableAnswer(f"the form {task.form} needs the pictures of the used images")
        capture = make_capture(task.findings, task.evidence, task.run, task.pictures, task.form)
        if capture is not None:
            made.append(finish(capture, "capture"))
    report = _report(task, seg)
    if report is not None and task.form.report_kind is not None:
        made.append(finish(report, task.form.report_kind))
    if not made:
        raise UnusableAnswer(f"nothing is outlined, so that a set of the form {task.form} would be empty")
    return tuple(made)


def _report(task: _Task, seg: Dataset | None) -> Dataset | None:
    kind = task.form.report_kind
    if kind == "sr":
        return make_sr(task.findings, task.evidence, task.run, task.node, seg, task.form)
    if kind == "text":
        return make_basic_text(task.findings, task.evidence, task.run, task.node, task.form)
    if kind == "summary":
        return make_summary(task.findings, task.evidence, task.run, task.pictures, task.form)
    if kind == "pdf":
        return make_document(task.findings, task.evidence, task.run, task.pictures, task.form)
    return None


def build_list(results: Sequence[Result], source: Dataset, run: Run, node: NodeIdentity) -> Result:
    """Make the list of what belongs to one run: every object of the given results.

    Parameters
    ----------
    source
        Header of the first used instance.
    """
    said = f"Results of {run.engine.name} {run.engine.version}, revision {run.revision}."
    return _selected([result.dataset for result in results], codes.OF_INTEREST, said, source, run, node, "list")


def build_rejection(
    objects: Sequence[Dataset], why: Rejection, said: str, source: Dataset, run: Run, node: NodeIdentity
) -> Result:
    """Make the note that takes results back; the objects themselves stay as they are.

    Parameters
    ----------
    objects
        The kept results; a note of others is another note.
    said
        Why, for a reader.
    run
        The run that made them, with the time of the rejection as `analysed_at`.

    Source: PS3.16 CID 7011, IHE RAD IOCM.
    """
    named = " ".join(sorted(str(each.SOPInstanceUID) for each in objects))
    role = f"rejection/{why.value.value}/{sha256(named.encode()).hexdigest()[:16]}"
    return _selected(objects, why.value, said, source, run, node, role)


def _selected(
    objects: Sequence[Dataset], title: Code, said: str, source: Dataset, run: Run, node: NodeIdentity, role: str
) -> Result:
    with quietly():
        made = make_key_objects(objects, title, said, run, node, role)
        selection = _Finisher(source, run, node, CANONICAL)(made, "key-objects")
    gate.check_selection(selection, objects, source)
    return selection


def encode(result: Result) -> bytes:
    """Give the Part 10 file of a result: Explicit VR Little Endian, the bytes that were checked."""
    return result.part10


class _Finisher:
    """Completes the objects of one run: whose they are, when and by what they were made, in which letters."""

    def __init__(self, source: Dataset, run: Run, node: NodeIdentity, form: Form) -> None:
        self._form = form
        self._identity = SourceIdentity(source)
        self._run = run
        self._node = node
        offset = text_of(source, "TimezoneOffsetFromUTC")
        self._moment = object_time(run.analysed_at, source_offset=offset, zone=run.timezone)

    def __call__(self, made: Dataset, kind: Kind) -> Result:
        """Complete, encode and read back one object."""
        dataset = Dataset(made)  # a plain data set: highdicom's classes guard their attributes
        self._put_times(dataset)
        self._put_equipment(dataset)
        self._identity.put_into(dataset, COPIED)
        if kind == "seg":
            self._put_source_of_outlines(dataset)
        requests = self._identity.requests()
        if kind in ("sr", "text", "key-objects") and requests:
            dataset.ReferencedRequestSequence = requests
        self._put_schemes(dataset)
        self._identity.write_character_set(dataset)
        part10 = write_part10(dataset)
        return Result(kind, str(self._form), dcmread(io.BytesIO(part10)), part10)

    def _put_source_of_outlines(self, dataset: Dataset) -> None:
        """Say of what body part an image is, and where it lies or which way it shows the patient."""
        placed = "FrameOfReferenceUID" in dataset
        self._identity.put_into(dataset, (*COPIED_TO_IMAGES, *(COPIED_WITH_PLACE if placed else COPIED_WITHOUT_PLACE)))
        if not placed and "PatientOrientation" not in dataset:
            dataset.PatientOrientation = None  # type 2C: present, and not known

    def _put_times(self, dataset: Dataset) -> None:
        """All times are the start of the analysis, so that the same run gives the same bytes."""
        for name in ("InstanceCreation", "Series", "Content"):
            setattr(dataset, f"{name}Date", date_of(self._moment))
            setattr(dataset, f"{name}Time", time_of(self._moment))

    def _put_equipment(self, dataset: Dataset) -> None:
        """This node as the equipment, the engine as contributing equipment (PS3.3 C.7.5.1, C.12.1)."""
        node, engine = self._node, self._run.engine
        dataset.Manufacturer = node.manufacturer
        dataset.ManufacturerModelName = node.model_name
        dataset.DeviceSerialNumber = node.serial_number
        dataset.SoftwareVersions = [f"{node.model_name} {node.version}", f"{engine.name} {engine.version}"]
        dataset.StationName = node.name[:16]
        if node.institution_name:
            dataset.InstitutionName = node.institution_name
        item = Dataset()
        item.PurposeOfReferenceCodeSequence = [codes.concept(codes.PROCESSING_EQUIPMENT)]
        item.Manufacturer = engine.manufacturer or node.manufacturer
        item.ManufacturerModelName = engine.name
        item.SoftwareVersions = engine.version
        item.DeviceUID = algorithm_device_uid(node, engine)
        item.ContributionDateTime = self._moment.strftime("%Y%m%d%H%M%S.%f%z")
        item.ContributionDescription = self._run.task
        dataset.ContributingEquipmentSequence = [item]

    def _put_schemes(self, dataset: Dataset) -> None:
        """Say whose codes ours are, where the object uses one."""
        if not any(element.value == codes.OUR_SCHEME for element in _schemes_used(dataset)):
            return
        item = Dataset()
        item.CodingSchemeDesignator = codes.OUR_SCHEME
        item.CodingSchemeName = codes.OUR_SCHEME_NAME
        item.CodingSchemeResponsibleOrganization = codes.OUR_SCHEME_ORGANIZATION
        dataset.CodingSchemeIdentificationSequence = [item]


def _schemes_used(dataset: Dataset) -> list[DataElement]:
    found: list[DataElement] = []
    for keyword in ("ContentSequence", "SegmentSequence"):
        for item in items_of(dataset, keyword):
            found.extend(element for element in item.iterall() if element.tag == 0x00080102)
    return found


def write_part10(dataset: Dataset) -> bytes:
    """Encode an object as a Part 10 file, Explicit VR Little Endian; it is changed in passing."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    dataset.file_meta = meta
    dataset.preamble = bytes(128)
    frames = dataset.pop(PER_FRAME_GROUPS, None)  # encoded already
    correct_ambiguous_vr(dataset, True)
    keep_stored(dataset)
    if frames is not None:
        dataset[PER_FRAME_GROUPS] = frames
    target = io.BytesIO()
    dcmwrite(target, dataset, enforce_file_format=True)
    return target.getvalue()


def keep_stored(dataset: Dataset) -> None:
    """Have undecoded elements written as they are: decoding would alter or refuse what is odd in them."""
    dataset.set_original_encoding(False, True, dataset._character_set)
    for element in dataset.values():
        if element.VR == "SQ":
            for item in dataset[element.tag].value:
                keep_stored(item)
