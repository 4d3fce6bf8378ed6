"""The last look at a result set before it is kept: what does not pass never leaves.

Rules of three kinds: the standard's (module tables, values, references), ours (identity, honesty, codes),
and what viewers need to load an object at all, which no validator knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map, get_sop_class_iod_map
from pydicom import DataElement, Dataset
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from inference.errors import UnusableAnswer
from inference.findings import Code
from inference.results import codes, words
from inference.results.charset import TEXT_VRS, quietly, strings_of, text_elements
from inference.results.elements import code_of, items_of
from inference.results.forms import CLASSES, Form
from inference.results.gate_picture import capture_problems, document_problems, selection_problems
from inference.results.gate_report import report_problems
from inference.results.gate_segmentation import segmentation_problems
from inference.results.gate_text import text_problems
from inference.results.identity import COPIED, NEVER_ABSENT, decoded
from inference.results.result import Result
from inference.results.run import Kind
from inference.results.sr import codes_of_procedure

#: Characters that a value may have at most. Source: PS3.5 6.2.
_LONGEST = {"LO": 64, "SH": 16, "ST": 1024, "LT": 10240, "UT": 65536, "PN": 64 * 3 + 2}
#: Characters that no text may hold; line breaks and tabs are only for the long forms.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CONTROL_LONG = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def check(results: Sequence[Result], evidence: Sequence[Dataset]) -> None:
    """Let a result set pass, or say all that is wrong with it.

    Parameters
    ----------
    results
        One set, closed under references, as read back from what was encoded.
    evidence
        Headers of the used (or considered) instances; the first gave the identity.

    Raises
    ------
    UnusableAnswer
        At least one rule is broken; the message names each, without patient data.
    """
    with quietly():
        found = list(problems(results, evidence))
    if found:
        told = "; ".join(found[:8]) + (f"; and {len(found) - 8} more" if len(found) > 8 else "")
        raise UnusableAnswer(f"the results do not pass the gate: {told}", problems=tuple(found))


def load_tables() -> None:
    """Read the standard's tables from their files now, not when the first set is looked at."""
    get_sop_class_iod_map()
    get_iod_module_map()
    get_module_attribute_map()


def problems(results: Sequence[Result], evidence: Sequence[Dataset]) -> Iterator[str]:
    """Name every broken rule of a set, each with the object that breaks it."""
    segmentations = [result.dataset for result in results if result.kind == "seg"]
    yield from _set_problems(results)
    if len({str(result.dataset.get("SOPInstanceUID")) for result in results}) != len(results):
        yield "set: two objects share a SOP Instance UID"
    for result in results:
        for rule in _OBJECT_RULES:
            yield from (f"{result.kind}: {problem}" for problem in rule(result, evidence))
        yield from (f"{result.kind}: {problem}" for problem in _identity_problems(result.dataset, evidence[0]))
        yield from (f"{result.kind}: {problem}" for problem in _code_problems(result.dataset, evidence[0]))
    for dataset in segmentations:
        yield from (f"seg: {problem}" for problem in segmentation_problems(dataset, evidence))
    seg = segmentations[0] if segmentations else None
    for result in results:
        if result.kind == "sr":
            yield from (f"sr: {problem}" for problem in report_problems(result.dataset, evidence, seg))
        elif result.kind in _RULES:
            yield from (f"{result.kind}: {problem}" for problem in _RULES[result.kind](result.dataset, evidence))


_RULES: dict[Kind, Callable[[Dataset, Sequence[Dataset]], Iterator[str]]] = {
    "text": text_problems,
    "capture": capture_problems,
    "summary": capture_problems,
    "pdf": document_problems,
}


def check_selection(selection: Result, objects: Sequence[Dataset], source: Dataset) -> None:
    """Let a key object selection pass, or say all that is wrong with it.

    Parameters
    ----------
    objects
        What was to be selected.
    source
        Header that gave the identity.

    Raises
    ------
    UnusableAnswer
        At least one rule is broken.
    """
    with quietly():
        found = [problem for rule in _OBJECT_RULES for problem in rule(selection, [source])]
        found += [*_identity_problems(selection.dataset, source), *_code_problems(selection.dataset, source)]
        found += selection_problems(selection.dataset, objects)
    if found:
        raise UnusableAnswer(f"the selection does not pass the gate: {'; '.join(found[:8])}", problems=tuple(found))


def _set_problems(results: Sequence[Result]) -> Iterator[str]:
    """A set has the objects of its form, each once: one report, and outlines where something is outlined."""
    forms = {result.form for result in results}
    if len(forms) != 1:
        yield f"set: its objects are of {len(forms)} forms"
        return
    form = Form.of(forms.pop())
    kinds = [result.kind for result in results]
    asked = [kind for kind in (form.outlines_kind, form.report_kind) if kind is not None]
    yield from (f"set: {kind} is no part of {form}" for kind in sorted(set(kinds) - set(asked)))
    for kind in asked:
        if kinds.count(kind) > 1 or (kind == form.report_kind and kind not in kinds):
            yield f"set: {kinds.count(kind)} objects are {kind}"


def _module_problems(result: Result, _: Sequence[Dataset]) -> Iterator[str]:
    """Attributes of type 1 have a value, those of type 2 are there, in every mandatory module.

    The content tree is one module whose table depends on the type of each item: it has rules of its own.

    Source: PS3.3 A.35.13, A.51 (module tables), as highdicom carries PS3.3.
    """
    iod = get_sop_class_iod_map().get(str(result.dataset.get("SOPClassUID")))
    if iod is None:
        yield "its SOP Class is none that we know"
        return
    attributes = get_module_attribute_map()
    for module in get_iod_module_map()[iod]:
        if module["usage"] != "M" or module["key"] == "sr-document-content":
            continue
        for attribute in attributes[module["key"]]:
            if attribute["type"] not in ("1", "2") or (module["key"], attribute["keyword"]) in _ELSEWHERE:
                continue
            for holder in _holders(result.dataset, attribute["path"]):
                yield from _requirement(holder, attribute["keyword"], attribute["type"], attribute["path"])


#: Requirements that another module of the same IOD sets otherwise: captures of one frame point at no vector.
#: Source: PS3.3 C.8.6.3 (SC Multi-frame Image, Frame Increment Pointer type 1C).
_ELSEWHERE = frozenset({("multi-frame", "FrameIncrementPointer")})


def _requirement(holder: Dataset, keyword: str, requirement: str, path: Sequence[str]) -> Iterator[str]:
    name = ".".join((*path, keyword))
    if keyword not in holder:
        yield f"{name} is missing (type {requirement})"
    elif requirement == "1" and _is_empty(holder[keyword]):
        yield f"{name} is empty (type 1)"


def _holders(dataset: Dataset, path: Sequence[str]) -> Sequence[Dataset]:
    """Data sets at the end of a path, one sequence deep."""
    if not path:
        return (dataset,)
    if path[0] in _WALKED_ELSEWHERE or path[0] in COPIED or len(path) > 1:
        return ()
    return tuple(items_of(dataset, path[0]))


#: Long sequences whose items the rules of the kind go through.
_WALKED_ELSEWHERE = frozenset(
    {
        "PerFrameFunctionalGroupsSequence",
        "ReferencedRequestSequence",
        "RequestAttributesSequence",
        "SharedFunctionalGroupsSequence",
    }
)


def _is_empty(element: DataElement) -> bool:
    value = element.value
    return value is None or (hasattr(value, "__len__") and len(value) == 0)


def _name_problems(result: Result, evidence: Sequence[Dataset]) -> Iterator[str]:
    dataset = result.dataset
    sop_classes, modality = CLASSES[result.kind]
    if dataset.get("SOPClassUID") not in sop_classes:
        yield "SOP Class is not that of its kind"
    if dataset.get("Modality") != modality:
        yield f"Modality is not {modality}"
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):  # that of the study is the source's own, however odd
        if not UID(str(dataset.get(keyword, ""))).is_valid:
            yield f"{keyword} is no UID"
    if any(dataset.get("StudyInstanceUID") != header.StudyInstanceUID for header in evidence):
        yield "Study Instance UID is not that of every source"
    taken = {str(header.SeriesInstanceUID) for header in evidence}
    if str(dataset.get("SeriesInstanceUID")) in taken:
        yield "Series Instance UID is that of a source"
    if str(dataset.get("SOPInstanceUID")) in {str(header.SOPInstanceUID) for header in evidence}:
        yield "SOP Instance UID is that of a source"


def _number_problems(result: Result, _: Sequence[Dataset]) -> Iterator[str]:
    """What viewers sort on is there."""
    dataset = result.dataset
    for keyword in ("SeriesNumber", "InstanceNumber"):
        if not isinstance(dataset.get(keyword), int) or dataset[keyword].value < 1:
            yield f"{keyword} is not at least 1"
    for name in ("InstanceCreation", "Series", "Content"):
        if not dataset.get(f"{name}Date") or not dataset.get(f"{name}Time"):
            yield f"{name} Date or Time is missing"


def _mark_problems(result: Result, _: Sequence[Dataset]) -> Iterator[str]:
    """Nothing poses as more than it is: research, unverified, and AI only where a model was at work.

    Objects that name no algorithm family say by their description alone what made them; it says one thing.
    """
    dataset = result.dataset
    described = str(dataset.get("SeriesDescription", ""))
    if not described.startswith(words.MARK):
        yield f"Series Description does not begin with {words.MARK}"
    if result.kind == "seg" and dataset.get("ContentQualification") != words.MARK:
        yield f"Content Qualification is not {words.MARK}"
    is_model = words.claims_ai(described)
    if result.kind in ("sr", "seg"):
        families = _algorithm_families(dataset)
        if len(families) != 1:
            yield f"{len(families)} algorithm families are named"
            return
        is_model = families == {codes.ARTIFICIAL_INTELLIGENCE.value}
    refused = result.kind != "seg" and described == words.REFUSED
    told = [described, str(dataset.get("ContentDescription", described))]
    if not refused:
        if is_model and not all(words.claims_ai(text) and not words.denies_ai(text) for text in told):
            yield "a model's result is not described as AI"
        if not is_model and not all(words.denies_ai(text) for text in told):
            yield "a classical result does not say that it is not AI"
    if not is_model and any(words.claims_ai(text) for text in told):
        yield "a classical result claims AI"
    equipment = items_of(dataset, "ContributingEquipmentSequence")
    if not any(item.get("ManufacturerModelName") and item.get("SoftwareVersions") for item in equipment):
        yield "no contributing equipment names the algorithm and its version"


def _algorithm_families(dataset: Dataset) -> set[str]:
    """Code values of the algorithm families that an object names."""
    found: set[str] = set()
    for segment in items_of(dataset, "SegmentSequence"):
        for algorithm in items_of(segment, "SegmentationAlgorithmIdentificationSequence"):
            found.update(str(item.get("CodeValue")) for item in items_of(algorithm, "AlgorithmFamilyCodeSequence"))
    for element in _walk(dataset, "ContentSequence"):
        names = items_of(element, "ConceptNameCodeSequence")
        if element.get("ValueType") == "CODE" and any(
            n.get("CodeValue") == codes.ALGORITHM_FAMILY.value for n in names
        ):
            found.update(str(item.get("CodeValue")) for item in items_of(element, "ConceptCodeSequence"))
    return found


def _walk(dataset: Dataset, keyword: str) -> Iterator[Dataset]:
    for item in items_of(dataset, keyword):
        yield item
        yield from _walk(item, keyword)


def _text_problems(result: Result, _: Sequence[Dataset]) -> Iterator[str]:
    """Every string fits its value representation and was written without loss (PS3.5 6.2)."""
    copied = {tag_for_keyword(keyword) for keyword in COPIED}
    for tag in list(result.dataset.keys()):
        if tag in copied or tag in _WITHOUT_TEXT:
            continue
        holder = Dataset()
        holder[tag] = result.dataset[tag]
        for element in text_elements(holder):
            control = _CONTROL_LONG if element.VR in ("LT", "ST", "UT") else _CONTROL
            for text in strings_of(element):
                name = keyword_for_tag(element.tag) or str(element.tag)
                if len(text) > _LONGEST.get(element.VR, 1 << 32):
                    yield f"{name} is longer than {_LONGEST[element.VR]} characters"
                if control.search(text) or "\ufffd" in text:
                    yield f"{name} holds a character that it must not"


#: Long sequences that hold names and numbers alone: frames (looked at with the segmentation), evidence, sources.
_WITHOUT_TEXT = frozenset(map(Tag, (0x52009230, 0x0040A375, 0x00081115)))
#: What every object of ours must keep to.
_OBJECT_RULES = (_module_problems, _name_problems, _number_problems, _mark_problems, _text_problems)


def _identity_problems(dataset: Dataset, source: Dataset) -> Iterator[str]:
    for keyword in COPIED:
        ours, theirs = _value(dataset, keyword), _value(source, keyword)
        if ours != theirs:
            yield f"{keyword} is not that of the source"
    for keyword in NEVER_ABSENT:
        if keyword not in dataset:
            yield f"{keyword} is missing (type 2)"


def _value(dataset: Dataset, keyword: str) -> object:
    """Give the value of an attribute in a form that is equal for equal meanings."""
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in dataset:
        return ()
    return _canonical(dataset, Tag(tag))


def _canonical(dataset: Dataset, tag: BaseTag) -> object:
    element = dataset.get_item(tag)
    vr = element.VR
    if vr == "SQ":
        return tuple(
            tuple((int(inner), _canonical(item, inner)) for inner in sorted(item.keys()) if _is_compared(inner))
            for item in dataset[tag].value or ()
        )
    if vr in TEXT_VRS:
        return tuple(text.strip(" ").rstrip("^=") for text in strings_of(decoded(dataset, tag)) if text.strip(" ^="))
    value = element.value
    if isinstance(value, bytes):
        text = value.decode("latin-1").strip(" \0")
        return tuple(part.strip(" ") for part in text.split("\\")) if text else ()
    if value is None or value == "":
        return ()
    parts = value if isinstance(value, list | tuple) or hasattr(value, "_list") else (value,)
    return tuple(str(part).strip(" ") for part in parts)


def _is_compared(tag: BaseTag) -> bool:
    return not tag.is_private and tag != 0x00080005


def _code_problems(dataset: Dataset, source: Dataset) -> Iterator[str]:
    """Every code is in our table or the dictionary, under its own meaning."""
    allowed = {(item.value, item.scheme_designator, item.meaning) for item in codes_of_procedure(source)}
    seen: set[Code] = set()
    skipped = {tag_for_keyword(keyword) for keyword in (*COPIED, *_CODES_ELSEWHERE)}
    for item in _code_items(dataset, skipped):
        code = code_of(item)
        if code is None:
            yield "a code item is incomplete"
        elif code not in seen:
            seen.add(code)
            if not codes.is_known(code) and (code.value, code.scheme, code.meaning) not in allowed:
                yield f"code ({code.value}, {code.scheme}, {code.meaning!r}) is not known"


#: Codes of the source's own orders, and those of frames, which the rules of segmentations look at.
_CODES_ELSEWHERE = (
    *("ReferencedRequestSequence", "RequestAttributesSequence", "PerFrameFunctionalGroupsSequence"),
    *("CurrentRequestedProcedureEvidenceSequence", "ReferencedSeriesSequence"),
)


def _code_items(dataset: Dataset, skipped: set[int | None]) -> Iterator[Dataset]:
    for tag in list(dataset.keys()):
        if tag in skipped or dataset.get_item(tag).VR != "SQ":
            continue
        is_code = str(keyword_for_tag(tag)).endswith("CodeSequence")
        for item in dataset[tag].value:
            if is_code:
                yield item
            yield from _code_items(item, set())
