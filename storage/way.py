"""The way of one study through the ledger: its own changes of state, its jobs' and its deliveries', in time."""

from __future__ import annotations

from sqlalchemy import or_, select

from storage import tables
from storage.database import Database
from storage.records import Transition


def way_of(database: Database, study_instance_uid: str) -> list[Transition]:
    """Give every change of state of a study, its jobs and its deliveries, the first one first."""
    table = tables.transitions
    jobs = select(tables.jobs.c.job_id).where(tables.jobs.c.study_instance_uid == study_instance_uid)
    deliveries = select(tables.deliveries.c.delivery_id).where(
        tables.deliveries.c.study_instance_uid == study_instance_uid
    )
    of_study = or_(
        (table.c.subject == "study") & (table.c.subject_id == study_instance_uid),
        (table.c.subject == "job") & table.c.subject_id.in_(jobs),
        (table.c.subject == "delivery") & table.c.subject_id.in_(deliveries),
    )
    with database.read() as connection:
        rows = connection.execute(select(table).where(of_study).order_by(table.c.number)).all()
    return [Transition(row.subject, row.subject_id, row.from_state, row.to_state, row.reason, row.at) for row in rows]
