from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from dicom_node.rejections import LOCAL_LIMIT_EXCEEDED, TEMPORARY_CONGESTION
from dicom_node.scp.admission import Caller, Refused
from dicom_node.scp.register import OpenAssociation, Register
from storage.errors import IndexUnavailable
from tests.builders.dimse import RememberingRows, a_peer

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CALLER = Caller("CT1", "DICOMNODE", "10.1.2.3")


class Thread:
    """Stands for pynetdicom's association."""

    alive = True

    def is_alive(self) -> bool:
        return self.alive


@dataclass
class Connection:
    received: int = 0


def make(rows: RememberingRows) -> Register:
    return Register(cast(Any, rows), receiver="node-11112", clock=lambda: NOON)


def enter(
    register: Register, thread: Thread, *, connection: Connection | None = None, services: tuple[str, ...] = ("store",)
) -> OpenAssociation | Refused:
    return register.enter(
        cast(Any, thread),
        cast(Any, connection or Connection()),
        CALLER,
        peer_name="ct1",
        peer=a_peer(caps={"associations": 2}),
        services=services,
        maximum=3,
    )


def opened(register: Register, thread: Thread, **settings: Any) -> OpenAssociation:
    entry = enter(register, thread, **settings)
    assert isinstance(entry, OpenAssociation)
    return entry


def test_an_association_has_a_name_of_its_own_and_a_row_from_begin_to_end() -> None:
    rows = RememberingRows()
    register, first, second = make(rows), Thread(), Thread()
    names = {opened(register, thread).association_id for thread in (first, second)}
    assert names == set(rows.open_rows)
    assert all(len(name) <= 64 and name.startswith("node-11112-") for name in names)
    register.leave(cast(Any, first), "released")
    assert list(rows.ends.values()) == ["released"]


def test_an_association_that_cannot_bring_instances_leaves_no_row() -> None:
    rows = RememberingRows()
    register, thread = make(rows), Thread()
    opened(register, thread, services=("echo",))
    register.leave(cast(Any, thread), "released")
    assert (rows.open_rows, rows.ends) == ({}, {})


def test_an_end_is_noted_once() -> None:
    rows = RememberingRows()
    register, thread = make(rows), Thread()
    opened(register, thread)
    assert register.leave(cast(Any, thread), "released") is not None
    assert register.leave(cast(Any, thread), "aborted") is None
    assert list(rows.ends.values()) == ["released"]


def test_a_peer_at_its_cap_gets_no_further_association() -> None:
    register = make(RememberingRows())
    for _ in range(2):
        opened(register, Thread())
    refused = enter(register, Thread())
    assert isinstance(refused, Refused)
    assert refused.rejection == LOCAL_LIMIT_EXCEEDED


def test_without_an_index_an_association_is_refused_for_now_and_not_counted() -> None:
    rows = RememberingRows(failure=IndexUnavailable())
    register = make(rows)
    refused = enter(register, Thread())
    assert isinstance(refused, Refused)
    assert refused.rejection == TEMPORARY_CONGESTION
    assert register.all() == []


def test_only_associations_with_traffic_since_the_last_refresh_are_told() -> None:
    rows = RememberingRows()
    register, busy = make(rows), Connection(received=10)
    active = opened(register, Thread(), connection=busy)
    opened(register, Thread())
    register.refresh()
    register.refresh()
    assert rows.traffic_of == [active.association_id]
    busy.received += 1
    register.refresh()
    assert rows.traffic_of == [active.association_id] * 2


def test_an_association_whose_thread_ended_without_a_word_is_lost() -> None:
    rows = RememberingRows()
    register, thread = make(rows), Thread()
    entry = opened(register, thread)
    thread.alive = False
    register.refresh()
    assert rows.ends == {entry.association_id: "lost"}
    assert register.all() == []


def test_an_end_that_could_not_be_recorded_is_recorded_later() -> None:
    rows = RememberingRows()
    register, thread = make(rows), Thread()
    entry = opened(register, thread)
    rows.failure = IndexUnavailable()
    register.leave(cast(Any, thread), "aborted")
    register.refresh()
    rows.failure = None
    register.refresh()
    assert rows.ends == {entry.association_id: "aborted"}


def test_refused_callers_are_told_together_and_a_flood_of_them_is_bounded() -> None:
    rows = RememberingRows()
    register = make(rows)
    for number in range(500):
        register.refuse(Caller(f"X{number}", "DICOMNODE", "10.1.2.3"), "why")
        register.refuse(CALLER, "why")
    assert rows.refusals == []
    register.refresh()
    assert len(rows.refusals) == 100
    assert ("CT1", "DICOMNODE", "10.1.2.3", "why") in rows.refusals


def test_titles_are_kept_without_what_dicom_forbids() -> None:
    rows = RememberingRows()
    register = make(rows)
    register.refuse(Caller("CT\x00\n1", "DICOM\x1bNODE", "10.1.2.3"), "why")
    register.refresh()
    assert rows.refusals == [("CT??1", "DICOM?NODE", "10.1.2.3", "why")]


def test_a_start_closes_what_a_former_life_left_open() -> None:
    rows = RememberingRows()
    register = make(rows)
    register.start()
    register.stop()
    assert rows.lost_receivers == ["node-11112"]
