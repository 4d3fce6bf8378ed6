"""Earlier studies that rules ask for: which are to be fetched, and which the node fetched itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import Connection, Row, Select, select, update
from sqlalchemy.dialects import postgresql, sqlite

from storage.database import Database
from storage.records import WantedPriors
from storage.tables import contributions, prior_fetches, prior_studies

_FIRST_RETRY_S = 30.0
_RETRY_AT_MOST_S = 3600.0
#: Attempts before a fetch is given up.
MOST_ATTEMPTS = 12


class PriorState(StrEnum):
    """Where a request for priors is."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class PriorFetch:
    """One request of one rule for the priors of one study."""

    study_instance_uid: str
    route: str
    wanted: str
    """JSON of the rule's `priors`."""
    state: PriorState
    reason: str
    attempts: int
    next_attempt_at: datetime
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True)
class PriorStudy:
    """A study that the node fetched."""

    study_instance_uid: str
    for_study: str
    peer: str
    requested_at: datetime


def ask_for_priors(connection: Connection, study_instance_uid: str, asked: WantedPriors, at: datetime) -> None:
    """Ask for the priors of a study, inside the caller's transaction; once for each rule, whatever is decided later."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    connection.execute(
        dialect.insert(prior_fetches)
        .values(
            study_instance_uid=study_instance_uid,
            route=asked.route[:255],
            wanted=asked.wanted,
            state=PriorState.WAITING.value,
            reason="",
            attempts=0,
            next_attempt_at=at,
            created_at=at,
        )
        .on_conflict_do_nothing(index_elements=[prior_fetches.c.study_instance_uid, prior_fetches.c.route])
    )


class PriorBook:
    """The rows of all requests for priors, and of what was fetched."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self, now: datetime, *, limit: int) -> list[PriorFetch]:
        """Give requests whose time has come, the one that waits longest first."""
        fetches = prior_fetches.c
        with self._database.read() as connection:
            rows = connection.execute(
                select(prior_fetches)
                .where(fetches.state == PriorState.WAITING.value, fetches.next_attempt_at <= now)
                .order_by(fetches.next_attempt_at)
                .limit(limit)
            ).all()
        return [_fetch(row) for row in rows]

    def of_study(self, study_instance_uid: str) -> list[PriorFetch]:
        """Give what rules asked for on a study."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(prior_fetches)
                .where(prior_fetches.c.study_instance_uid == study_instance_uid)
                .order_by(prior_fetches.c.route)
            ).all()
        return [_fetch(row) for row in rows]

    def end(self, fetch: PriorFetch, state: PriorState, reason: str, at: datetime) -> None:
        """Say what a request came to."""
        self._change(fetch, state=state.value, reason=reason, attempts=fetch.attempts + 1, ended_at=at)

    def again(self, fetch: PriorFetch, reason: str, at: datetime) -> None:
        """Try again later, longer each time, or give up after `MOST_ATTEMPTS`."""
        attempts = fetch.attempts + 1
        if attempts >= MOST_ATTEMPTS:
            self.end(fetch, PriorState.FAILED, f"Given up after {attempts} attempts. {reason}", at)
            return
        wait_s = min(_RETRY_AT_MOST_S, _FIRST_RETRY_S * 2 ** (attempts - 1))
        self._change(fetch, reason=reason, attempts=attempts, next_attempt_at=at + timedelta(seconds=wait_s))

    def expect(self, study_instance_uid: str, for_study: str, peer: str, at: datetime) -> None:
        """Note, before it is asked for, that a study comes because the node fetches it.

        One that somebody sent by himself before is no fetched one: it is analysed like any other.
        """
        dialect = postgresql if self._database.engine.dialect.name == "postgresql" else sqlite
        with self._database.write() as connection:
            if connection.execute(_sent(study_instance_uid)).first() is not None:
                return
            connection.execute(
                dialect.insert(prior_studies)
                .values(study_instance_uid=study_instance_uid, for_study=for_study, peer=peer, requested_at=at)
                .on_conflict_do_nothing(index_elements=[prior_studies.c.study_instance_uid])
            )

    def fetched(self, study_instance_uid: str) -> PriorStudy | None:
        """Tell whether a study came because the node fetched it, and from nobody else since."""
        with self._database.read() as connection:
            row = connection.execute(
                select(prior_studies).where(prior_studies.c.study_instance_uid == study_instance_uid)
            ).one_or_none()
            if row is None:
                return None
            senders = set(connection.execute(_sent(study_instance_uid)).scalars())
        return PriorStudy(**row._mapping) if senders <= {row.peer} else None

    def _change(self, fetch: PriorFetch, **values: object) -> None:
        with self._database.write() as connection:
            connection.execute(
                update(prior_fetches)
                .where(
                    prior_fetches.c.study_instance_uid == fetch.study_instance_uid,
                    prior_fetches.c.route == fetch.route,
                )
                .values(values)
            )


def _sent(study_instance_uid: str) -> Select[tuple[str]]:
    return select(contributions.c.peer).where(contributions.c.study_instance_uid == study_instance_uid).distinct()


def _fetch(row: Row[tuple[object, ...]]) -> PriorFetch:
    values = dict(row._mapping)
    return PriorFetch(**{**values, "state": PriorState(row.state)})
