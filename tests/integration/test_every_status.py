"""Every Status that the conformance statement lists is provoked over the wire, and no other one is answered.

The statement's own tables say what there is to provoke: a new Status fails here until somebody provokes it.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import pytest
from pydicom import Dataset

from configs.peers import Peer, Service
from dicom_node.conformance.services import SERVED
from dicom_node.scp import find as find_module
from dicom_node.scp import retrieve
from dicom_node.scp.query_retrieve import QueryService
from dicom_node.scu.transcoding import NativeTranscoder
from storage.blobs import LocalBlobs
from storage.database import Database
from storage.index import Index
from storage.intake import Intake
from tests.builders.ct import encode, make_ct_instance, uid
from tests.builders.destination import Destination
from tests.builders.dimse import (
    CT_IMAGE_STORAGE,
    EXPLICIT,
    VERIFICATION,
    RememberingDoor,
    a_peer,
    associate_rq,
    command_set,
    item,
    listening,
    p_data,
    raw_connection,
    read_pdu,
    store_rq,
)
from tests.builders.queries import identifier, query_parts
from tests.builders.wire import bare
from tests.conftest import SENDER

#: Services whose own tests hold their provocations against the same tables.
ELSEWHERE: frozenset[Service] = frozenset({"commit", "mpps", "ian"})
ROOTS = {
    "find": "1.2.840.10008.5.1.4.1.2.2.1",
    "move": "1.2.840.10008.5.1.4.1.2.2.2",
    "get": "1.2.840.10008.5.1.4.1.2.2.3",
}
FIELDS = {"find": 0x0020, "move": 0x0021, "get": 0x0010}
PENDING = (0xFF00, 0xFF01)


class Talk:
    """One association, written and read PDU by PDU: context 1 is the service's, 3 for CT images, 5 for echo."""

    def __init__(self, connection: socket.socket, syntax: str, *, window: bool) -> None:
        self._connection = connection
        contexts = {1: (syntax, [EXPLICIT]), 3: (CT_IMAGE_STORAGE, [EXPLICIT]), 5: (VERIFICATION, [EXPLICIT])}
        more = item(0x54, struct.pack(">H", len(CT_IMAGE_STORAGE)) + CT_IMAGE_STORAGE.encode() + b"\0\1")
        more = item(0x53, struct.pack(">HH", 4, 1)) if window else more
        connection.sendall(associate_rq(contexts=contexts, more=more))
        assert read_pdu(connection)[0] == 0x02

    def say(self, command: bytes, data_set: bytes | None = None, *, context_id: int = 1) -> None:
        self._connection.sendall(p_data(command, command=True, last=True, context_id=context_id))
        if data_set is not None:
            self._connection.sendall(p_data(data_set, command=False, last=True, context_id=context_id))

    def heard(self) -> tuple[int, int]:
        """Give command field and Status of the next command; data sets are passed over."""
        while True:
            kind, content = read_pdu(self._connection)
            assert kind == 0x04, kind
            while content:
                (length,) = struct.unpack_from(">L", content)
                value, content = content[4 : 4 + length], content[4 + length :]
                if value[1] & 1:
                    return number_in(value, 0x0100), number_in(value, 0x0900)

    def answers(self, on_store: Callable[[int], int] = lambda _: 0) -> list[int]:
        """Give every Status up to the final one; C-STOREs that come meanwhile are answered as told."""
        statuses, stored = [], 0
        while True:
            field, status = self.heard()
            if field == 0x0001:
                stored += 1
                said = on_store(stored)
                answer = command_set(field=0x8001, e0002=CT_IMAGE_STORAGE, e0120=stored, e0800=0x0101, e0900=said)
                self.say(answer, context_id=3)
                continue
            statuses.append(status)
            if status not in PENDING:
                return statuses


def number_in(command: bytes, element: int) -> int:
    at = command.find(struct.pack("<HHL", 0, element, 2))
    return int.from_bytes(command[at + 8 : at + 10], "little") if at >= 0 else -1


@dataclass
class World:
    """What a provocation may use."""

    database: Database
    blobs: LocalBlobs
    monkeypatch: pytest.MonkeyPatch
    destination: Destination
    peers: dict[str, Peer] = field(default_factory=dict)
    beside: str = CT_IMAGE_STORAGE
    """What associations for C-ECHO and C-STORE ask for first: another service makes them pynetdicom's."""

    @contextlib.contextmanager
    def talk(self, syntax: str, *, door: Any = None, window: bool = False) -> Iterator[Talk]:
        """Have an association with a receiver over a real store, or another door."""
        anyone = a_peer(accept=["echo", "store", "find", "move", "get"])
        service = QueryService(query_parts(self.database, self.blobs, NativeTranscoder()))
        peers = {"any": anyone, "dest": self.destination.peer, **self.peers}
        intake = Intake(self.database, self.blobs, reserve_bytes=0)
        try:
            with (
                listening(peers=peers, door=door or intake, services=[service]) as here,
                raw_connection(here.port) as connection,
            ):
                yield Talk(connection, syntax, window=window)
        finally:
            intake.close()

    def keep(self, count: int = 2) -> None:
        """Keep some instances of one study."""
        intake = Intake(self.database, self.blobs, reserve_bytes=0)
        for number in range(1, count + 1):
            intake.receive(BytesIO(encode(make_ct_instance(number))), SENDER)
        intake.close()

    def failing(self, failure: type[Exception]) -> None:
        """Have the index fail."""

        def fail(*_: object) -> None:
            raise failure

        for name in ("search", "instances_matching"):
            self.monkeypatch.setattr(Index, name, fail)


@pytest.fixture
def database(sqlite_database: Database) -> Database:
    """One engine is enough for what goes over the wire."""
    return sqlite_database


@pytest.fixture
def world(database: Database, blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(database, blobs, monkeypatch, Destination())
    yield made
    made.destination.close()


Provoke = Callable[[World], list[int]]


# C-ECHO and C-STORE


def echo(world: World, *, context_id: int = 5) -> list[int]:
    with world.talk(world.beside) as to:
        to.say(command_set(field=0x0030, e0002=VERIFICATION, e0110=7, e0800=0x0101), context_id=context_id)
        return to.answers()


def store(
    world: World,
    *,
    door: Any = None,
    context_id: int = 3,
    data_set: bytes | None = b"",
    named: str | None = uid(1, 1, 1),
    sop_class: str = CT_IMAGE_STORAGE,
) -> list[int]:
    """Store one instance over an association for storage; `data_set` empty: a sound one."""
    if data_set == b"":
        data_set = bare(make_ct_instance(1))
    with world.talk(world.beside, door=door) as to:
        command = store_rq(sop_class_uid=sop_class, sop_instance_uid=named, data_set=data_set is not None)
        to.say(command, data_set, context_id=context_id)
        return to.answers()


def store_with_no_room(world: World) -> list[int]:
    full = Intake(world.database, world.blobs, reserve_bytes=1 << 60)
    try:
        return store(world, door=full)
    finally:
        full.close()


def store_twice_under_one_number(world: World) -> list[int]:
    door = RememberingDoor(hold=threading.Event())
    with world.talk(CT_IMAGE_STORAGE, door=door, window=True) as to:
        to.say(store_rq(), b"abcd")
        assert door.entered.wait(10)
        to.say(store_rq(sop_instance_uid="1.2.4"), b"abcd")
        statuses = to.answers()
        assert door.hold is not None
        door.hold.set()
        return statuses + to.answers()


# C-FIND, C-MOVE, C-GET


def query(
    world: World,
    service: str,
    asked: Dataset | bytes,
    *,
    to_title: str = "DEST",
    root: str | None = None,
    on_store: Callable[[int], int] = lambda _: 0,
) -> list[int]:
    with world.talk(ROOTS[service]) as to:
        to.say(request(service, to_title, root), asked if isinstance(asked, bytes) else bare(asked))
        return to.answers(on_store)


def request(service: str, to_title: str = "DEST", root: str | None = None) -> bytes:
    more: dict[str, Any] = {"e0600": to_title} if service == "move" else {}
    return command_set(field=FIELDS[service], e0002=root or ROOTS[service], e0110=9, e0700=0, e0800=1, **more)


def study(**more: Any) -> Dataset:
    return identifier("STUDY", **({"StudyInstanceUID": uid(1)} | more))


def cancelled_find(world: World) -> list[int]:
    world.keep()
    search, reached, go_on = Index.search, threading.Event(), threading.Event()

    def slowly(*asked: Any) -> Any:
        reached.set()
        go_on.wait(10)
        return search(*asked)

    world.monkeypatch.setattr(Index, "search", slowly)
    with world.talk(ROOTS["find"]) as to:
        to.say(request("find"), bare(study()))
        assert reached.wait(10)
        to.say(command_set(field=0x0FFF, e0120=9, e0800=0x0101))
        time.sleep(0.5)  # it is read by another thread than the one that searches
        go_on.set()
        return to.answers()


def cancelled_move(world: World) -> list[int]:
    world.keep(5)
    reached, go_on = threading.Event(), threading.Event()

    def answer(_: int) -> int:
        reached.set()
        go_on.wait(10)
        return 0

    slow = Destination(answer=answer)
    world.peers = {"dest": slow.peer}
    try:
        with world.talk(ROOTS["move"]) as to:
            to.say(request("move"), bare(study()))
            assert reached.wait(10)
            to.say(command_set(field=0x0FFF, e0120=9, e0800=0x0101))
            time.sleep(2.5)  # two looks of the receiver
            go_on.set()
            return to.answers()
    finally:
        slow.close()


def cancelled_get(world: World) -> list[int]:
    world.keep(5)
    with world.talk(ROOTS["get"]) as to:
        to.say(request("get"), bare(study()))

        def answer(_: int) -> int:
            to.say(command_set(field=0x0FFF, e0120=9, e0800=0x0101))
            return 0

        return to.answers(answer)


def some_fail(world: World, service: str, *, all_of_them: bool) -> list[int]:
    world.keep(2)
    picky = Destination(answer=lambda number: 0xA700 if number == 1 or all_of_them else 0)
    world.peers = {"dest": picky.peer}
    try:
        return query(world, service, study(), on_store=lambda number: 0xA700 if number == 1 or all_of_them else 0)
    finally:
        picky.close()


def too_many(world: World, service: str) -> list[int]:
    world.keep()
    world.monkeypatch.setattr(find_module, "MOST_MATCHES", 0)
    world.monkeypatch.setattr(retrieve, "MOST_SUB_OPERATIONS", 1)
    return query(world, service, study())


def with_a_bug(world: World, service: str) -> list[int]:
    world.failing(ZeroDivisionError)
    return query(world, service, study())


def found(world: World, service: str, **keys: Any) -> list[int]:
    world.keep()
    return query(world, service, study(**keys))


BROKEN = b"\x08\x00\x52\x00CS\xff\x00STUDY "


def common(service: str) -> dict[int, Provoke]:
    """Give what C-FIND, C-MOVE and C-GET have in common."""
    other = ROOTS[service].replace(".2.2.", ".2.1.")
    return {
        0xFF00: lambda world: found(world, service),
        0x0000: lambda world: query(world, service, study()),
        0x0122: lambda world: query(world, service, study(), root=other),
        0xA900: lambda world: query(world, service, identifier("SERIES", SeriesInstanceUID=uid(1, 1))),
        0xC000: lambda world: query(world, service, BROKEN),
        0x0110: lambda world: with_a_bug(world, service),
    }


def retrieved(service: str) -> dict[int, Provoke]:
    return common(service) | {
        0xB000: lambda world: some_fail(world, service, all_of_them=False),
        0xA702: lambda world: some_fail(world, service, all_of_them=True),
        0xA701: lambda world: too_many(world, service),
    }


PROVOKED: Mapping[Service, Mapping[int, Provoke]] = {
    "echo": {0x0000: echo, 0x0122: lambda world: echo(world, context_id=3)},
    "store": {
        0x0000: store,
        0xA700: store_with_no_room,
        0xA900: lambda world: store(world, sop_class="1.2.840.10008.5.1.4.1.1.4"),
        0xC000: lambda world: store(world, data_set=b"\x08\x00\x16\x00UI\xff\x00no data set"),
        0x0117: lambda world: store(world, named=None),
        0x0110: lambda world: store(world, door=RememberingDoor(failure=ZeroDivisionError())),
        0x0122: lambda world: store(world, context_id=5),
        0x0210: store_twice_under_one_number,
        0x0212: lambda world: store(world, data_set=None),
    },
    "find": common("find")
    | {
        0xFF01: lambda world: found(world, "find", PatientComments="x"),
        0xFE00: cancelled_find,
        0xA700: lambda world: too_many(world, "find"),
    },
    "move": retrieved("move")
    | {
        0xFE00: cancelled_move,
        0xA801: lambda world: query(world, "move", study(), to_title="NOBODY"),
    },
    "get": retrieved("get") | {0xFE00: cancelled_get},
}


@pytest.mark.parametrize(
    ("service", "status"),
    [
        pytest.param(service, status, id=f"{service}-{status:04X}")
        for service, (_, statuses) in SERVED.items()
        if service not in ELSEWHERE
        for status in statuses
    ],
)
def test_each_status_of_the_statement_is_answered_where_it_says(service: Service, status: int, world: World) -> None:
    provoke = PROVOKED[service].get(status)
    assert provoke is not None, f"nothing provokes 0x{status:04X} of {service}"
    answered = provoke(world)
    assert status in answered
    assert set(answered) <= set(SERVED[service][1]), "a Status that the statement does not list"


@pytest.mark.parametrize(
    ("service", "status"),
    [
        pytest.param(service, status, id=f"{service}-{status:04X}")
        for service in ("echo", "store")
        for status in PROVOKED[service]
        if status != 0x0210  # without a window requests are answered one after the other there
    ],
)
def test_a_mixed_association_answers_the_same(service: Service, status: int, world: World) -> None:
    world.beside = ROOTS["find"]
    assert PROVOKED[service][status](world) == [status]


def test_every_service_has_its_provocations() -> None:
    assert set(PROVOKED) | ELSEWHERE == set(SERVED)
    for service, provoked in PROVOKED.items():
        assert set(provoked) == set(SERVED[service][1]), service
