"""Forget what nobody asks for any more: turns of the queue, associations that ended, callers that were refused.

The rows of jobs and deliveries stay, and so does who sent what.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Table, delete, select, tuple_

from storage import peer_tables, tables
from storage.database import Database
from storage.deliveries import OPEN
from storage.job_book import FINAL

if TYPE_CHECKING:
    from storage.jobs import EndedTurn, Queue

#: Deleted in one transaction: about 12 ms under the write lock.
BATCH = 200
_PAUSE_S = 0.005
#: Refused callers that are remembered at most: whoever calls under ever new names must not fill the disk.
MOST_REFUSED = 10_000


def prune(
    database: Database,
    queue: Queue,
    before: datetime,
    *,
    batch: int = BATCH,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Remove turns that ended before a time, where their job or delivery has ended too; give how many.

    A turn whose row has not ended stays: its id is what keeps the work from being started twice.
    """
    removed = kept = 0
    while turns := queue.ended(before, limit=batch, offset=kept):
        over = _over(database, turns)
        if over:
            queue.forget(over)
            pause(_PAUSE_S)
        removed += len(over)
        kept += len(turns) - len(over)
    return removed


def forget_contacts(
    database: Database,
    before: datetime,
    *,
    most_refused: int = MOST_REFUSED,
    batch: int = BATCH,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Remove associations that ended and callers last refused before a time, and refusals beyond the latest.

    Gives how many rows that were.
    """
    associations, refused = peer_tables.associations, peer_tables.refused_callers
    oldest = select(refused.c.last_at).order_by(refused.c.last_at.desc()).offset(most_refused).limit(1)
    with database.read() as connection:
        beyond = connection.execute(oldest).scalar_one_or_none()
    removed = _delete(database, associations, associations.c.closed_at < before, batch, pause)
    removed += _delete(database, refused, refused.c.last_at < before, batch, pause)
    if beyond is not None:
        removed += _delete(database, refused, refused.c.last_at <= beyond, batch, pause)
    return removed


def _delete(
    database: Database, table: Table, wanted: ColumnElement[bool], batch: int, pause: Callable[[float], None]
) -> int:
    """Delete rows in short transactions: a long one would hold up whoever keeps instances."""
    key = tuple_(*table.primary_key.columns)
    removed = 0
    while True:
        with database.write() as connection:
            some = select(*table.primary_key.columns).where(wanted).limit(batch)
            count = connection.execute(delete(table).where(key.in_(some))).rowcount
        removed += count
        if count < batch:
            return removed
        pause(_PAUSE_S)


def _over(database: Database, turns: Sequence[EndedTurn]) -> list[str]:
    """Choose the turns whose row has ended or is gone."""
    jobs, deliveries = tables.jobs.c, tables.deliveries.c
    job_ids = {turn.subject_id for turn in turns if not turn.is_delivery}
    delivery_ids = {turn.subject_id for turn in turns if turn.is_delivery}
    with database.read() as connection:
        open_jobs = connection.execute(
            select(jobs.job_id).where(jobs.job_id.in_(job_ids), jobs.state.not_in(FINAL))
        ).scalars()
        open_ids = set(open_jobs.all())
        open_deliveries = connection.execute(
            select(deliveries.delivery_id).where(deliveries.delivery_id.in_(delivery_ids), deliveries.state.in_(OPEN))
        ).scalars()
        open_ids |= set(open_deliveries.all())
    return [turn.turn_id for turn in turns if turn.subject_id not in open_ids]
