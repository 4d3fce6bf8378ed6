"""What a work item must hold, what it may not say, and whom it asks.

Source: PS3.4 Table CC.2.5-3, PS3.18 11.4 (create), 11.6 (update).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from pydicom.uid import UID

from dicomweb.errors import BadRequest
from storage.errors import UnreadableInstance
from storage.model_writer import first_text, items_of, write_model
from storage.peer_records import WorkitemState
from storage.workitems import STATE

#: Unified Procedure Step - Push SOP Class. Source: PS3.4 CC.3.
UPS_PUSH = "1.2.840.10008.5.1.4.34.6.1"
TRANSACTION_UID = "00081195"
#: What our engines are named by as coded entries.
OUR_SCHEME = "99DICOMNODE"
_PRIORITIES = ("HIGH", "MEDIUM", "LOW")
_SOP_CLASS, _SOP_INSTANCE = "00080016", "00080018"
_PRIORITY, _LABEL, _WORKLIST_LABEL = "00741200", "00741204", "00741202"
_START, _MODIFIED, _READINESS = "00404005", "00404010", "00404041"
_WORKITEM_CODES, _STATION_NAMES, _INPUTS = "00404018", "00404025", "00404021"
_STUDY = "0020000D"
#: Nobody sets these: they are the node's, or go by operations of their own.
_FIXED = frozenset({STATE, TRANSACTION_UID, _SOP_CLASS, _SOP_INSTANCE})
NAMES_OF_ENGINES = {"workitem": "affectedsopinstanceuid", "transaction": "transactionuid"}


def check_uid(uid: str) -> None:
    """Raise `BadRequest` where it is no UID."""
    if not UID(uid).is_valid:
        raise BadRequest("A UID that the request names is none.")


def check_state(text: str) -> WorkitemState:
    """Read a state that can be asked for."""
    states = (WorkitemState.IN_PROGRESS, WorkitemState.COMPLETED, WorkitemState.CANCELED)
    if text not in states:
        raise BadRequest(f"A work item can be changed to {', '.join(states)}.")
    return WorkitemState(text)


def completed(dataset: Mapping[str, Any], uid: str, now: datetime) -> tuple[dict[str, Any], bool]:
    """Give the attributes of a new work item, and whether anything was filled in that the caller should know of.

    Raises
    ------
    BadRequest
        It is no data set, is not SCHEDULED, or is claimed already.
    """
    _check_form(dataset)
    if first_text(dataset, STATE) not in ("", WorkitemState.SCHEDULED):
        raise BadRequest("A new work item is SCHEDULED.")
    if first_text(dataset, TRANSACTION_UID):
        raise BadRequest("A new work item has no Transaction UID: it is claimed by a change of its state.")
    if first_text(dataset, _PRIORITY) not in ("", *_PRIORITIES):
        raise BadRequest(f"The priority is one of {', '.join(_PRIORITIES)}.")
    moment = f"{now:%Y%m%d%H%M%S}+0000"
    filled = {
        _PRIORITY: ("CS", "MEDIUM"),
        _LABEL: ("LO", "Analysis"),
        _WORKLIST_LABEL: ("LO", "dicom-node"),
        _START: ("DT", moment),
        _READINESS: ("CS", "READY"),
    }
    missing = {tag: {"vr": vr, "Value": [value]} for tag, (vr, value) in filled.items() if not first_text(dataset, tag)}
    ours = {
        _SOP_CLASS: {"vr": "UI", "Value": [UPS_PUSH]},
        _SOP_INSTANCE: {"vr": "UI", "Value": [uid]},
        _MODIFIED: {"vr": "DT", "Value": [moment]},
    }
    return {**_without_fixed(dataset), **missing, **ours}, bool(missing)


def check_changes(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Give what an update changes.

    Raises
    ------
    BadRequest
        It is no data set, or changes what has an operation of its own.
    """
    _check_form(dataset)
    if STATE in dataset:
        raise BadRequest("The state is changed by PUT …/state.")
    return _without_fixed(dataset)


def engine_of(dataset: Mapping[str, Any], engines: Collection[str]) -> str:
    """Give the engine of this node that a work item asks for; empty: it is for others.

    Scheduled Workitem Code or Scheduled Station Name Code of our scheme, or a station that has an engine's name.

    Raises
    ------
    BadRequest
        It names an engine that is not here.
    """
    for sequence in (_WORKITEM_CODES, _STATION_NAMES):
        for code in items_of(dataset, sequence):
            value, scheme = first_text(code, "00080100"), first_text(code, "00080102")
            if scheme == OUR_SCHEME and value not in engines:
                raise BadRequest(f"There is no engine of this name here; there are: {', '.join(engines) or 'none'}.")
            if scheme == OUR_SCHEME or (sequence == _STATION_NAMES and value in engines):
                return value
    return ""


def study_of(dataset: Mapping[str, Any]) -> str:
    """Give the one study that the inputs are of; empty where there is none or there are several."""
    studies = {first_text(each, _STUDY) for each in items_of(dataset, _INPUTS)} - {""}
    return studies.pop() if len(studies) == 1 else ""


def _without_fixed(dataset: Mapping[str, Any]) -> dict[str, Any]:
    return {tag: attribute for tag, attribute in dataset.items() if tag not in _FIXED}


def _check_form(dataset: Mapping[str, Any]) -> None:
    """Have every attribute be one that DICOM can write, and none that stands elsewhere."""
    try:
        for _ in write_model(dataset, lambda _: ()):
            pass
    except UnreadableInstance as error:
        raise BadRequest(f"The work item is no data set: {error}") from error
