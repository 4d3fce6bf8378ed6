"""What a run was, and the names and times that follow from it.

Nothing in a result object is drawn by chance or read from a clock: names are hashes of what went in,
times are those of the record that is stored with the findings.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Literal
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from pydicom.uid import UID

from inference.engines.protocol import EngineDescription

Kind = Literal["sr", "seg", "text", "capture", "summary", "pdf", "key-objects"]
"""Of a result set: report (TID 1500), outlines, report as text, outlines as pictures, one page, document, list."""

#: Changes whenever the objects made from the same findings change: a new run key, hence a new revision.
CONVERTER_VERSION = "2"
#: Name space of every UID that this node derives. Source: PS3.5 B.2, RFC 9562 (version 5).
_NAMESPACE = UUID("6f0c2a1e-7d3b-5c52-9c0e-4b8a51d20e77")

#: Ten numbers for each engine.
_SERIES_BLOCKS = {"classical-lung": 0, "classical-tissue": 1, "classical-skin": 2, "medversa": 3}
#: Series number of each kind for the first engine.
_SERIES_NUMBER: dict[Kind, int] = {
    "sr": 9001,
    "text": 9002,
    "seg": 9003,
    "capture": 9004,
    "pdf": 9005,
    "key-objects": 9006,
    "summary": 9009,
}

_OFFSET = re.compile(r"([+-])(\d{2})(\d{2})")


@dataclass(frozen=True)
class NodeIdentity:
    """Who this node says it is, as equipment and as device observer."""

    name: str
    """Station name."""
    serial_number: str
    institution_name: str = ""
    version: str = "0"
    manufacturer: str = "dicom-node"
    model_name: str = "dicom-node"


@dataclass(frozen=True)
class Predecessor:
    """The SR that this run's SR replaces."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    analysed_at: datetime
    """Aware."""


@dataclass(frozen=True)
class Run:
    """One analysis: what result objects say about how they came to be."""

    run_key: str
    study_instance_uid: str
    engine: EngineDescription
    task: str
    revision: int
    """Order of distinct run keys of (study, engine, task), from 1: the Instance Number."""
    analysed_at: datetime
    """Start of the analysis, aware: the time that objects carry."""
    timezone: str
    """Zone of times in objects whose sources name no offset."""
    predecessor: Predecessor | None = None
    revision_reason: str = ""
    """Why there is a new revision, as a sentence: `12 images arrived later.`"""
    used_series_numbers: Collection[int] = ()
    """Series numbers of the study's input series, to be avoided."""


def run_key(
    *,
    study_instance_uid: str,
    inputs: Iterable[tuple[str, str]],
    engine: EngineDescription,
    task: str,
    parameters: Mapping[str, str] | None = None,
) -> str:
    """Name a run by all that its answer depends on.

    Parameters
    ----------
    inputs
        (SOP Instance UID, SHA-256 of its data set) of each used instance, in any order.
    parameters
        Prompt, hyperparameters, seed, beside those of the engine's description.

    Returns
    -------
    str
        Hex SHA-256.
    """
    said = {
        "study": study_instance_uid,
        "inputs": sorted(inputs),
        "engine": [engine.name, engine.version, engine.digest, sorted(engine.parameters)],
        "task": task,
        "parameters": sorted((parameters or {}).items()),
        "converter": CONVERTER_VERSION,
    }
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def derived_uid(*parts: str) -> UID:
    """Derive a UID from a name.

    The same parts always give the same UID, at most 44 characters long.

    Source: PS3.5 B.2 (UUID derived UID).
    """
    return UID(f"2.25.{uuid5(_NAMESPACE, json.dumps(parts)).int}")


#: Implementation Class UID of this program, in the File Meta Information of what it encodes.
IMPLEMENTATION_CLASS_UID = derived_uid("implementation")
IMPLEMENTATION_VERSION_NAME = "DICOM_NODE"


def result_uid(run_key: str, form: str, role: str) -> UID:
    """SOP Instance UID of one result of one run, or of a part of it (`seg/dimensions`)."""
    return derived_uid("result", run_key, form, role)


def series_uid(study_instance_uid: str, engine: str, kind: str, form: str) -> UID:
    """Series Instance UID of one kind of result of one engine: the same for all revisions."""
    return derived_uid("series", study_instance_uid, engine, kind, form)


def tracking_uid(study_instance_uid: str, engine: str, tracking_id: str) -> UID:
    """Tracking UID of one structure: the same in SEG and SR and in every revision."""
    return derived_uid("tracking", study_instance_uid, engine, tracking_id)


def observer_uid(node: NodeIdentity) -> UID:
    """Device UID of this installation."""
    return derived_uid("device", node.serial_number)


def algorithm_device_uid(node: NodeIdentity, engine: EngineDescription) -> UID:
    """Device UID of one engine at this installation."""
    return derived_uid("algorithm", node.serial_number, engine.name, engine.version)


def series_number(run: Run, kind: Kind) -> int:
    """Choose the Series Number, always the same for the same engine, outside those that the study has.

    9001 and 9003 for the first engine, 9011 and 9013 for the second; engines that the table does not
    know by a hash of their name.
    """
    name = run.engine.name
    block = _SERIES_BLOCKS.get(name, 10 + zlib.crc32(name.encode()) % 89)
    number = _SERIES_NUMBER[kind] + 10 * block
    while number in run.used_series_numbers:
        number += 1000
    return number


def offset_of(text: str) -> timezone | None:
    """Read Timezone Offset From UTC (0008,0201); None: absent or no offset.

    Source: PS3.3 C.12.1.1.8 (-1200 to +1400).
    """
    match = _OFFSET.fullmatch(text.strip())
    if match is None:
        return None
    minutes = int(match[2]) * 60 + int(match[3])
    signed = -minutes if match[1] == "-" else minutes
    return timezone(timedelta(minutes=signed)) if -720 <= signed <= 840 and int(match[3]) < 60 else None


def object_time(moment: datetime, *, source_offset: str, zone: str) -> datetime:
    """Give a moment in the time zone of the object: the source's offset, else the node's zone."""
    if moment.tzinfo is None:
        raise ValueError("times of a run are aware")
    return moment.astimezone(offset_of(source_offset) or ZoneInfo(zone))


def date_of(moment: datetime) -> str:
    """DICOM DA."""
    return moment.strftime("%Y%m%d")


def time_of(moment: datetime) -> str:
    """DICOM TM, to the microsecond."""
    return moment.strftime("%H%M%S.%f")
