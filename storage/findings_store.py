"""What engines said: kept once for each run key, before anything is built from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from storage import tables
from storage.blobs import BlobStore
from storage.database import Database
from storage.errors import NotKept
from storage.records import FindingsRecord


class FindingsStore:
    """Findings by run key: content as a blob, everything else as a row."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    def once(
        self,
        run_key: str,
        *,
        study_instance_uid: str,
        engine: str,
        task: str,
        facts: Mapping[str, Any],
        at: datetime,
        make: Callable[[], bytes],
    ) -> FindingsRecord:
        """Give the findings of a run, made now if nobody has made them before.

        The content is durable before its row is. Where two make them at once, the first row counts and both
        get its content, revision and time.

        Parameters
        ----------
        facts
            What the run was, as JSON values.
        at
            Start of the analysis, kept only if these findings count.
        make
            Asks the engine and encodes its answer; called only if the run key has no findings.
        """
        if (known := self.of(run_key)) is not None:
            return known
        content = make()
        path = _path(run_key, content)
        self._blobs.put(path, content)
        with self._database.write() as connection:
            if _row(connection, run_key, lock_study=study_instance_uid) is None:
                connection.execute(
                    insert(tables.findings).values(
                        run_key=run_key,
                        study_instance_uid=study_instance_uid,
                        engine=engine,
                        task=task,
                        revision=_latest_revision(connection, study_instance_uid, engine, task) + 1,
                        analysed_at=at,
                        path=path,
                        facts=json.dumps(facts, sort_keys=True),
                    )
                )
            row = _row(connection, run_key)
        if row is None:
            raise NotKept("Findings that were just kept are missing.", run_key=run_key)
        if row.path != path:
            self._blobs.delete(path)
        return self._record(row)

    def of(self, run_key: str) -> FindingsRecord | None:
        """Give the findings of a run, None if it was never made."""
        with self._database.read() as connection:
            row = _row(connection, run_key)
        return None if row is None else self._record(row)

    def predecessor(self, record: FindingsRecord) -> FindingsRecord | None:
        """Give the findings of the revision before, None for the first."""
        return self._revision(record.study_instance_uid, record.engine, record.task, record.revision - 1)

    def latest(self, study_instance_uid: str, engine: str, task: str) -> FindingsRecord | None:
        """Give the findings of the last revision, None if there is none."""
        with self._database.read() as connection:
            revision = _latest_revision(connection, study_instance_uid, engine, task)
        return self._revision(study_instance_uid, engine, task, revision)

    def _revision(self, study_instance_uid: str, engine: str, task: str, revision: int) -> FindingsRecord | None:
        findings = tables.findings.c
        with self._database.read() as connection:
            row = connection.execute(
                select(tables.findings).where(
                    findings.study_instance_uid == study_instance_uid,
                    findings.engine == engine,
                    findings.task == task,
                    findings.revision == revision,
                )
            ).one_or_none()
        return None if row is None else self._record(row)

    def _record(self, row: Row[Any]) -> FindingsRecord:
        with self._blobs.open(row.path) as blob:
            content = blob.read()
        return FindingsRecord(
            run_key=row.run_key,
            study_instance_uid=row.study_instance_uid,
            engine=row.engine,
            task=row.task,
            revision=row.revision,
            analysed_at=row.analysed_at,
            content=content,
            facts=json.loads(row.facts),
        )


def _path(run_key: str, content: bytes) -> str:
    # The content's digest is in the name: two engines that disagree never write one file.
    return f"findings/{run_key[:2]}/{run_key}-{hashlib.sha256(content).hexdigest()[:16]}.bin"


def _row(connection: Connection, run_key: str, *, lock_study: str | None = None) -> Row[Any] | None:
    """Give the row of a run; `lock_study`: let nobody else add one to that study before this transaction ends."""
    if lock_study is not None:
        connection.execute(
            select(tables.studies.c.study_instance_uid)
            .where(tables.studies.c.study_instance_uid == lock_study)
            .with_for_update()
        ).one()
    return connection.execute(select(tables.findings).where(tables.findings.c.run_key == run_key)).one_or_none()


def _latest_revision(connection: Connection, study_instance_uid: str, engine: str, task: str) -> int:
    findings = tables.findings.c
    latest = connection.execute(
        select(func.max(findings.revision)).where(
            findings.study_instance_uid == study_instance_uid, findings.engine == engine, findings.task == task
        )
    ).scalar_one()
    return latest or 0
