"""A node's index that holds many instances before the first one comes; rows only, no files."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import NamedTuple

from storage.migrate import migrate

_AT = "2026-01-02T10:15:00.000000Z"
_PER_SERIES, _SERIES = 100, 3
_BATCH = 20_000
_SIZE = 530_000


def fill(data_dir: Path, *, instances: int, per_series: int = _PER_SERIES, series: int = _SERIES) -> None:
    """Make the index of a node and put rows into it, as receiving that many CT slices would.

    `per_series`, `series`: slices of each series, and series of each study.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    migrate(f"sqlite:///{data_dir.absolute() / 'node.db'}")
    with sqlite3.connect(data_dir / "node.db") as connection:
        connection.execute("PRAGMA synchronous = OFF")
        shape = _Shape(per_series, series)
        for begin in range(0, instances, _BATCH):
            _insert(connection, range(begin, min(begin + _BATCH, instances)), shape)
            connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


class _Shape(NamedTuple):
    per_series: int
    series: int

    @property
    def per_study(self) -> int:
        return self.per_series * self.series


def _insert(connection: sqlite3.Connection, numbers: range, shape: _Shape) -> None:
    studies = sorted({number // shape.per_study for number in numbers})
    series = sorted({number // shape.per_series for number in numbers})
    _write(connection, "studies", [_study(each, shape) for each in studies])
    _write(connection, "series", [_series(each, shape) for each in series])
    _write(connection, "instances", [_instance(each, shape) for each in numbers])


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


def study_uid(number: int) -> str:
    """Give the Study Instance UID of one."""
    return _uid(number)


def _study(number: int, shape: _Shape) -> dict[str, object]:
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
        "number_of_series": shape.series,
        "number_of_instances": shape.per_study,
        "number_of_inputs": shape.per_study,
        "size_bytes": shape.per_study * _SIZE,
        "state": "unmatched",
        "reason": "no route",
        "input_version": shape.per_study,
        "decision_number": 1,
        **dict.fromkeys(("state_since", "first_received_at", "gathering_since", "last_instance_at"), _AT),
    }


def _series(number: int, shape: _Shape) -> dict[str, object]:
    study = number // shape.series
    return {
        "study_instance_uid": _uid(study),
        "series_instance_uid": _uid(study, number),
        "modality": "CT",
        "series_number": number,
        "series_description": "Test series",
        "attributes": json.dumps(_filler(10)),
        "number_of_instances": shape.per_series,
        "number_of_inputs": shape.per_series,
        "first_received_at": _AT,
    }


def _instance(number: int, shape: _Shape) -> dict[str, object]:
    study, series = number // shape.per_study, number // shape.per_series
    return {
        "sop_instance_uid": _uid(study, series, number),
        "study_instance_uid": _uid(study),
        "series_instance_uid": _uid(study, series),
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "instance_number": number % shape.per_series,
        "number_of_frames": 1,
        "attributes": json.dumps(_filler(8)),
        "patient": json.dumps([f"F{study}", "", f"filler^{study}", "", ""]),
        "role": "input",
        "state": "follows study",
        "reason": "",
        "path": f"instances/{number % 256:02x}/{number:040x}.dcm",
        "size": _SIZE,
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
