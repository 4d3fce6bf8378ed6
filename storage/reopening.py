"""A study without a job is decided on anew: the rules may have changed since."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select

from storage import tables
from storage.corrections import gather_again
from storage.database import Database
from storage.errors import ForbiddenTransition, NotKept
from storage.records import StudyState

#: What is told to who asks for it.
TRIED_ANEW = "No rule had matched: the rules are tried anew, and the study says what came of it."


def decide_anew(database: Database, study_instance_uid: str, why: str, at: datetime) -> None:
    """Have the rules be tried on a study that none matched, once it was quiet again for its time.

    Raises
    ------
    ForbiddenTransition
        It is in work, answered, quarantined, or holds no image.
    NotKept
        There is no such study.
    """
    studies = tables.studies.c
    this = select(studies.state).where(studies.study_instance_uid == study_instance_uid)
    with database.write() as connection:
        state = connection.execute(this.with_for_update()).scalar_one_or_none()
        if state is None:
            raise NotKept("No such study is kept here.", study_instance_uid=study_instance_uid)
        if state != StudyState.UNMATCHED:
            raise ForbiddenTransition(f"The study is {state}.", study_instance_uid=study_instance_uid)
        gather_again(connection, study_instance_uid, why, at)
