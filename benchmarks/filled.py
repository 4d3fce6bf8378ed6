"""A node's index that holds many instances before the first one comes; rows only, no files."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from storage.migrate import migrate

_AT = "2026-01-02T10:15:00.000000Z"
_PER_SERIES, _SERIES = 100, 3
_BATCH = 20_000


def fill(data_dir: Path, *, instances: int) -> None:
    """Make the index of a node and put rows into it, as receiving that many CT slices would."""
    data_dir.mkdir(parents=True, exist_ok=True)
    migrate(f"sqlite:///{data_dir.absolute() / 'node.db'}")
    with sqlite3.connect(data_dir / "node.db") as connection:
        connection.execute("PRAGMA synchronous = OFF")
        per_study = _PER_SERIES * _SERIES
        for begin in range(0, instances, _BATCH):
            _insert(connection, range(begin, min(begin + _BATCH, instances)), per_study)
            connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _insert(connection: sqlite3.Connection, numbers: range, per_study: int) -> None:
    studies = sorted({number // per_study for number in numbers})
    series = sorted({number // _PER_SERIES for number in numbers})
    _write(connection, "studies", [_study(each, per_study) for each in studies])
    _write(connection, "series", [_series(each, per_study) for each in series])
    _write(connection, "instances", [_instance(each, per_study) for each in numbers])


def _write(connection: sqlite3.Connection, table: str, rows: list[dict[str, object]]) -> None:
    names = list(rows[0])
    marks = ", ".join(f":{name}" for name in names)
    connection.executemany(
        f"INSERT OR IGNORE INTO {table} ({', '.join(names)}) VALUES ({marks})",  # noqa: S608 (names of ours)
        rows,
    )


def _uid(study: int, *rest: int) -> str:
    # Scattered as the UIDs of many devices are, so that rows do not arrive in the order of the keys.
    return ".".join(["2.25", str((study * 2_654_435_761) % 2**32), *map(str, rest)])


def _study(number: int, per_study: int) -> dict[str, object]:
    text = {"patient_name": f"Filler^{number}", "patient_name_folded": f"filler^{number}", "patient_id": f"F{number}"}
    empty = dict.fromkeys(("issuer_of_patient_id", "patient_birth_date", "patient_sex", "study_id"), "")
    return {
        **text,
        **empty,
        "study_instance_uid": _uid(number),
        "study_date": f"20{number % 25:02d}0102",
        "study_time": "101500",
        "accession_number": f"ACC{number}",
        "study_description": "Test chest",
        "referring_physician_name": "",
        "modalities": "CT",
        "attributes": json.dumps({"0020000D": {"vr": "UI", "Value": [_uid(number)]}} | _filler(10)),
        "number_of_series": _SERIES,
        "number_of_instances": per_study,
        "number_of_inputs": per_study,
        "state": "unmatched",
        "reason": "no route",
        "input_version": per_study,
        "decision_number": 1,
        **dict.fromkeys(("state_since", "first_received_at", "gathering_since", "last_instance_at"), _AT),
    }


def _series(number: int, per_study: int) -> dict[str, object]:
    study = number * _PER_SERIES // per_study
    return {
        "study_instance_uid": _uid(study),
        "series_instance_uid": _uid(study, number),
        "modality": "CT",
        "series_number": number,
        "series_description": "Test series",
        "attributes": json.dumps(_filler(10)),
        "number_of_instances": _PER_SERIES,
        "number_of_inputs": _PER_SERIES,
        "first_received_at": _AT,
    }


def _instance(number: int, per_study: int) -> dict[str, object]:
    study, series = number // per_study, number // _PER_SERIES
    return {
        "sop_instance_uid": _uid(study, series, number),
        "study_instance_uid": _uid(study),
        "series_instance_uid": _uid(study, series),
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "instance_number": number % _PER_SERIES,
        "number_of_frames": 1,
        "attributes": json.dumps(_filler(8)),
        "patient": json.dumps([f"F{study}", "", f"filler^{study}", "", ""]),
        "role": "input",
        "state": "follows study",
        "reason": "",
        "path": f"instances/{number % 256:02x}/{number:040x}.dcm",
        "size": 530_000,
        "sha256": f"{number:064x}",
        "received_at": _AT,
        "origin_kind": "dimse",
        "peer": "ct1",
        "calling_ae_title": "CT1",
        "called_ae_title": "DICOMNODE",
        "host": "10.1.2.3",
        "association_id": f"node-11112-{study}",
    }


def _filler(count: int) -> dict[str, object]:
    return {f"{0x00180000 + each:08X}": {"vr": "LO", "Value": [f"filler value {each}"]} for each in range(count)}
