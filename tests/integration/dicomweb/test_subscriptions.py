"""UPS-RS subscriptions and the channel of event reports, by PS3.18 11.10 to 11.13 and PS3.4 CC.2.3, CC.2.4."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from httpx import Client
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from storage.records import StudyFilter
from storage.subscriptions import FILTERED, GLOBAL
from storage.workitem_events import MOST_EVENTS
from tests.builders.ct import make_ct_instance, uid
from tests.builders.serving import served
from tests.builders.web import ADMIN_KEY, PaperWeb
from tests.integration.dicomweb.test_workitems import (
    ITEM,
    JSON,
    MINE,
    ONE,
    STATE,
    WORKITEMS,
    asked_for,
    change,
    create,
    plain,
    text,
)

STATE_REPORT, CANCEL_REQUESTED, PROGRESS, ASSIGNED = 1, 2, 3, 5
SAID_WITHIN_S = 30

Listen = Callable[..., ClientConnection]


@pytest.fixture
def listen(web: PaperWeb) -> Iterator[Listen]:
    """Open channels to the application, served on a socket."""
    with served(web.app) as address, ExitStack() as stack:

        def opened(subscriber: str = "WATCHER", at: str = "subscribers", **headers: str) -> ClientConnection:
            url = f"{address.replace('http', 'ws', 1)}/dicom-web/{at}/{subscriber}"
            origin = headers.pop("origin", None)
            return stack.enter_context(connect(url, additional_headers=headers, origin=origin, proxy=None))  # type: ignore[arg-type]

        yield opened


def subscribe(client: Client, item: str = ITEM, query: str = "", subscriber: str = "WATCHER") -> int:
    return client.post(f"{WORKITEMS}/{item}/subscribers/{subscriber}{query}").status_code


def heard(channel: ClientConnection) -> tuple[str, int, Any]:
    """Give the next report: work item, kind, and the state or what else it is about."""
    said = json.loads(channel.recv(timeout=SAID_WITHIN_S))
    assert said["00000002"] == {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.34.6.4"]}
    assert said["00000100"]["Value"] == [256]
    kind = said["00001002"]["Value"][0]
    about = said[STATE]["Value"][0] if kind == STATE_REPORT else {k: v for k, v in said.items() if k > "0001"}
    return said["00001000"]["Value"][0], kind, about


def hears_nothing_before(channel: ClientConnection, client: Client, marker: str) -> None:
    """Have something be told that is told in any case: nothing may come before it."""
    create(client, plain(), marker)
    assert subscribe(client, marker) == 201
    assert heard(channel) == (marker, STATE_REPORT, "SCHEDULED")


def test_11_10_a_subscriber_is_told_the_state_at_once_and_each_change(client: Client, listen: Listen) -> None:
    create(client, plain())
    channel = listen()
    answer = client.post(f"{ONE}/subscribers/WATCHER?deletionlock=true")
    assert answer.status_code == 201
    assert answer.headers["content-location"] == "ws://127.0.0.1:8080/dicom-web"
    assert heard(channel) == (ITEM, STATE_REPORT, "SCHEDULED")
    change(client, "IN PROGRESS")
    assert heard(channel) == (ITEM, STATE_REPORT, "IN PROGRESS")
    progress = {"00741002": {"vr": "SQ", "Value": [{"00741004": {"vr": "DS", "Value": [50]}}]}}
    client.post(f"{ONE}?{MINE}", json=[progress], headers=JSON)
    assert heard(channel) == (ITEM, PROGRESS, progress)
    station = {"00404025": {"vr": "SQ", "Value": [{"00080100": text("SH", "CT9")}]}}
    client.post(f"{ONE}?{MINE}", json=[station], headers=JSON)
    assert heard(channel) == (ITEM, ASSIGNED, station)
    client.post(f"{ONE}?{MINE}", json=[{"00741216": {"vr": "SQ", "Value": [{}]}}], headers=JSON)
    change(client, "COMPLETED")
    assert heard(channel) == (ITEM, STATE_REPORT, "COMPLETED")


def test_11_8_who_performs_a_work_item_is_told_of_a_request_to_cancel_it(client: Client, listen: Listen) -> None:
    create(client, plain())
    change(client, "IN PROGRESS")
    assert client.post(f"{ONE}/cancelrequest").status_code == 409  # nobody would hear of it
    channel = listen()
    subscribe(client)
    assert heard(channel)[2] == "IN PROGRESS"
    reason = {"00741238": text("LT", "Wrong patient")}
    assert client.post(f"{ONE}/cancelrequest", json=[reason], headers=JSON).status_code == 202
    item, kind, said = heard(channel)
    assert (item, kind) == (ITEM, CANCEL_REQUESTED)
    assert said == reason | {"00741236": text("AE", "local")}
    assert client.get(ONE).json()[0][STATE]["Value"] == ["IN PROGRESS"]


def test_11_8_a_canceled_work_item_passes_through_its_states(client: Client, listen: Listen) -> None:
    channel = listen(at="ws/subscribers")
    create(client, plain())
    subscribe(client)
    client.post(f"{ONE}/cancelrequest", json=[{"00741238": text("LT", "Late")}], headers=JSON)
    assert [heard(channel)[2] for _ in range(3)] == ["SCHEDULED", "IN PROGRESS", "CANCELED"]


def test_11_10_the_worklist_is_all_work_items_that_there_are_and_will_be(
    web: PaperWeb, client: Client, listen: Listen
) -> None:
    create(client, plain(), "1.2.1")
    channel = listen()
    assert subscribe(client, GLOBAL) == 201
    assert heard(channel) == ("1.2.1", STATE_REPORT, "SCHEDULED")
    create(client, plain(), "1.2.2")
    assert heard(channel) == ("1.2.2", STATE_REPORT, "SCHEDULED")
    # The one work item goes before all of them.
    assert client.delete(f"{WORKITEMS}/1.2.1/subscribers/WATCHER").status_code == 200
    change(client, "IN PROGRESS", path=f"{WORKITEMS}/1.2.1")
    web.time += timedelta(seconds=1)
    assert client.post(f"{WORKITEMS}/{GLOBAL}/subscribers/WATCHER/suspend").status_code == 200
    web.time += timedelta(seconds=1)
    create(client, plain(), "1.2.3")
    change(client, "IN PROGRESS", path=f"{WORKITEMS}/1.2.2")
    assert heard(channel) == ("1.2.2", STATE_REPORT, "IN PROGRESS")
    assert client.delete(f"{WORKITEMS}/{GLOBAL}/subscribers/WATCHER").status_code == 200
    assert client.delete(f"{WORKITEMS}/{GLOBAL}/subscribers/WATCHER").status_code == 404
    create(client, plain(), "1.2.4")
    hears_nothing_before(channel, client, "1.2.5")


@pytest.mark.parametrize(
    "query", ["?filter=PatientID%3DTEST-1", "?filter=PatientID=TEST-1,ProcedureStepLabel=Meas*", "?00100020=TEST-1"]
)
def test_11_10_a_filter_takes_what_matches(client: Client, listen: Listen, query: str) -> None:
    channel = listen()
    create(client, asked_for(), "1.2.1")
    assert subscribe(client, FILTERED, query) == 201
    create(client, asked_for(), "1.2.2")
    create(client, plain(), "1.2.3")
    assert heard(channel) == ("1.2.3", STATE_REPORT, "SCHEDULED")


def test_what_is_no_subscription_is_refused(client: Client) -> None:
    create(client, plain())
    for item, query, status in (
        (FILTERED, "", 400), (GLOBAL, "?PatientID=x", 400), (ITEM, "?filter=PatientID=x", 400),
        (ITEM, "?deletionlock=maybe", 400), (FILTERED, "?filter=NoSuchKeyword=1", 400), ("1.2.99", "", 404),
    ):  # fmt: skip
        assert subscribe(client, item, query) == status, (item, query)
    assert subscribe(client, subscriber="MORE-THAN-16-LETTERS") == 400
    assert subscribe(client, subscriber="A%5CB") == 400
    assert client.post(f"{ONE}/subscribers/WATCHER/suspend").status_code == 404
    assert client.post(f"{WORKITEMS}/{GLOBAL}/subscribers/WATCHER/suspend").status_code == 404
    assert client.delete(f"{ONE}/subscribers/WATCHER").status_code == 404
    assert create(client, plain(), GLOBAL).status_code == 400


def test_a_subscriber_is_of_who_made_it_alone(web: PaperWeb, client: Client, listen: Listen) -> None:
    create(client, plain())
    assert subscribe(client) == 201
    other = web.key("other", "read")
    asking = web.client(key=other)
    assert subscribe(asking) == 403
    assert asking.delete(f"{ONE}/subscribers/WATCHER").status_code == 403
    with pytest.raises(InvalidStatus, match="403"):
        listen(Authorization=f"Bearer {other}")
    assert subscribe(asking, subscriber="OTHER") == 201


def test_a_listener_is_told_of_what_it_may_see_alone(web: PaperWeb, client: Client, listen: Listen) -> None:
    web.receive(make_ct_instance())
    key = web.key("ct", "read", visible=StudyFilter(frozenset({"ct1"})))
    channel = listen("CT", Authorization=f"Bearer {key}")
    assert subscribe(web.client(key=key), GLOBAL, subscriber="CT") == 201
    create(client, asked_for(study=uid(2)), "1.2.1")
    create(client, plain(), "1.2.2")
    create(client, asked_for(), "1.2.3")
    assert heard(channel) == ("1.2.3", STATE_REPORT, "SCHEDULED")
    assert subscribe(web.client(key=key), "1.2.1", subscriber="CT") == 404


def answered(url: str, headers: dict[str, str], origin: str | None) -> int:
    try:
        with connect(url, additional_headers=headers, origin=origin, proxy=None):  # type: ignore[arg-type]
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


def test_a_channel_needs_what_any_request_needs(make_web: Callable[..., PaperWeb]) -> None:
    web = make_web(auth={"local": "closed"}, http={"cors_origins": ["https://viewer.example"]})
    with served(web.app) as address:
        url = f"{address.replace('http', 'ws', 1)}/dicom-web/subscribers/WATCHER"
        for headers, origin, status in (
            ({}, None, 401),
            ({"Authorization": "Bearer nonsense"}, None, 401),
            ({"Authorization": f"Bearer {web.key('storer', 'store')}"}, None, 403),
            ({"Authorization": f"Bearer {ADMIN_KEY}"}, "https://evil.example", 101),
            ({"Authorization": f"Bearer {ADMIN_KEY}"}, "https://viewer.example", 101),
        ):
            assert answered(url, headers, origin) == status


def test_a_page_of_another_site_cannot_listen(listen: Listen) -> None:
    with pytest.raises(InvalidStatus, match=r"401|403"):
        listen(origin="https://evil.example")


def test_a_revoked_key_ends_its_channel(web: PaperWeb, listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicomweb.subscriptions._ADMITTED_FOR_S", 0.0)
    key = web.key("reader", "read")
    channel = listen(Authorization=f"Bearer {key}")
    web.keys.revoke("reader", web.time)
    with pytest.raises(ConnectionClosed) as closed:
        channel.recv(timeout=SAID_WITHIN_S)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


def says_much(channel: ClientConnection) -> None:
    for _ in range(200):
        channel.send("hello")
    channel.recv(timeout=SAID_WITHIN_S)


def test_channels_are_few_and_listeners_silent(client: Client, listen: Listen) -> None:
    channels = [listen() for _ in range(5)]
    with pytest.raises(InvalidStatus, match="403"):
        listen()
    with pytest.raises(ConnectionClosed):
        says_much(channels[0])
    again = listen()
    create(client, plain())
    subscribe(client)
    assert heard(again)[0] == ITEM


def test_events_are_kept_for_a_while_alone(web: PaperWeb, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_EVENTS >= 1000
    monkeypatch.setattr("storage.workitem_events.MOST_EVENTS", 3)
    for number in range(1, 8):
        create(client, plain(), f"1.2.{number}")
    with web.database.read() as connection:
        numbers = connection.exec_driver_sql("SELECT number FROM workitem_events ORDER BY number").scalars().all()
    assert numbers == [5, 6, 7]
