"""Webhooks: signed, bounded, retried, in nobody's way, and never sent where they must not go."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from configs.settings import WebhookSettings
from dicom_node.worker.webhooks import STUCK_EVERY_S, Webhooks
from dicomweb.webhooks import ForbiddenTarget, NotTold, signature, tell
from storage.blobs import LocalBlobs
from storage.database import Database
from storage.jobs import Queue
from storage.ledger_report import Unexplained
from storage.notices import Notices
from tests.builders.real_node import STUDY, RealNode, slices
from tests.builders.work import NOON

SECRET = "a secret of some length"
GUIDE = Path(__file__).parents[2] / "docs" / "webhooks.md"


class Receiver:
    """A webhook's other side: takes, or refuses, what it is told."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.refuses = False

    def tell(self, _url: str, body: str, **_: Any) -> None:
        if self.refuses:
            raise NotTold("The webhook answered 503.")
        self.bodies.append(json.loads(body))


def hook(**overrides: Any) -> WebhookSettings:
    return WebhookSettings.model_validate({"url": "https://ris.example/hook", "secret": SECRET, **overrides})


@pytest.fixture
def node(database: Database, queue: Queue, blobs: LocalBlobs) -> RealNode:
    return RealNode(database, blobs, queue)


def make(node: RealNode, receiver: Receiver, *, stuck: Sequence[Unexplained] = (), **overrides: Any) -> Webhooks:
    made = Webhooks(
        Notices(node.database), {"ris": hook(**overrides)}, node.now, stuck=lambda: tuple(stuck), tell=receiver.tell
    )
    made.look()
    return made


def round_of(webhooks: Webhooks, node: RealNode) -> int:
    node.later(3)
    while webhooks.look():
        pass
    return webhooks.tell_due("ris")


def test_a_result_is_told_once_without_patient_data(node: RealNode) -> None:
    receiver = Receiver()
    webhooks = make(node, receiver)
    node.send(slices())
    node.analyse("pacs")
    assert (round_of(webhooks, node), round_of(webhooks, node)) == (1, 0)
    (said,) = receiver.bodies
    assert (said["event"], said["study_instance_uid"]) == ("study.result", STUDY)
    assert "TEST-1" not in json.dumps(said)
    assert "Quiet" not in json.dumps(said)


def test_patient_data_goes_only_where_it_is_configured(node: RealNode) -> None:
    receiver = Receiver()
    webhooks = make(node, receiver, patient_data=True)
    node.send(slices())
    node.analyse()
    round_of(webhooks, node)
    assert receiver.bodies[0]["patient"]["patient_id"] == "TEST-1"


def test_a_failed_delivery_is_told_with_its_study(node: RealNode) -> None:
    receiver = Receiver()
    webhooks = make(node, receiver, events=["delivery.failed"])
    node.send(slices())
    node.analyse("pacs")
    node.deliver(accept=False)
    round_of(webhooks, node)
    assert [(said["event"], said["study_instance_uid"]) for said in receiver.bodies] == [("delivery.failed", STUDY)]


def test_nobody_is_told_of_the_past(node: RealNode) -> None:
    receiver = Receiver()
    node.send(slices())
    node.analyse()
    assert round_of(make(node, receiver), node) == 0


def test_what_is_not_taken_is_tried_again_later_and_given_up_in_the_end(node: RealNode) -> None:
    receiver = Receiver()
    webhooks = make(node, receiver, attempts=3)
    node.send(slices())
    node.analyse()
    receiver.refuses = True
    for _ in range(5):
        round_of(webhooks, node)
        node.later(4000)
    assert Notices(node.database).counts() == {("ris", "given up"): 1}
    receiver.refuses = False
    assert round_of(webhooks, node) == 0


def test_a_hook_that_comes_back_gets_what_it_missed(node: RealNode) -> None:
    receiver = Receiver()
    webhooks = make(node, receiver)
    node.send(slices())
    node.analyse()
    receiver.refuses = True
    round_of(webhooks, node)
    receiver.refuses = False
    assert round_of(webhooks, node) == 0  # not yet: it waits 5 s
    node.later(10)
    assert round_of(webhooks, node) == 1


def test_no_more_go_in_a_minute_than_the_hook_takes(node: RealNode) -> None:
    receiver, stuck = Receiver(), [Unexplained("job", f"j{number}", "It is stuck.") for number in range(5)]
    webhooks = make(node, receiver, stuck=stuck, per_minute=2)
    node.later(STUCK_EVERY_S)
    told = []
    for _ in range(3):
        told += [round_of(webhooks, node), round_of(webhooks, node)]
        node.later(60)
    assert told == [2, 0, 2, 0, 1, 0]


def test_what_is_stuck_is_told_once(node: RealNode) -> None:
    receiver = Receiver()
    webhooks = make(node, receiver, stuck=[Unexplained("study", "1.2.3", "It has gathered for a day.")])
    for _ in range(3):
        node.later(STUCK_EVERY_S)
        round_of(webhooks, node)
    assert [(said["event"], said["reason"]) for said in receiver.bodies] == [
        ("stuck", "study: It has gathered for a day.")
    ]


def answering(status: int, seen: list[httpx.Request]) -> httpx.MockTransport:
    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(status, headers={"Location": "http://127.0.0.1/"})

    return httpx.MockTransport(handle)


def send(url: str, addresses: Sequence[str], *, status: int = 200, allow: Sequence[str] = ()) -> list[httpx.Request]:
    seen: list[httpx.Request] = []
    tell(
        url,
        '{"event": "study.result"}',
        secret=SECRET,
        event="study.result",
        at=NOON,
        allow=allow,
        resolve=lambda _host, _port: addresses,
        transport=answering(status, seen),
    )
    return seen


def test_the_address_that_was_judged_is_called_under_the_name_that_was_given() -> None:
    (request,) = send("https://ris.example/hook", ["8.8.8.8"])
    assert (request.url.host, request.headers["Host"]) == ("8.8.8.8", "ris.example")
    assert request.extensions["sni_hostname"] == "ris.example"


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "10.1.2.3",
            "192.168.1.1",
            "172.16.0.1",
            "169.254.169.254",
            "0.0.0.0",  # noqa: S104 (nothing binds to it)
            "224.0.0.1",
            "100.64.0.1",
        ),
        *("::1", "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "::"),
    ],
)
def test_nothing_is_sent_to_addresses_that_are_not_public(address: str) -> None:
    with pytest.raises(ForbiddenTarget):
        send("https://ris.example/hook", [address])
    with pytest.raises(ForbiddenTarget):
        send("https://ris.example/hook", ["8.8.8.8", address])


def test_a_listed_network_may_be_called_also_without_tls() -> None:
    assert send("http://ris.local/hook", ["10.1.2.3"], allow=["10.1.0.0/16"])
    with pytest.raises(ForbiddenTarget):
        send("http://ris.example/hook", ["8.8.8.8"])


@pytest.mark.parametrize("status", [301, 307, 400, 500])
def test_only_success_counts_and_redirects_are_not_followed(status: int) -> None:
    with pytest.raises(NotTold):
        send("https://ris.example/hook", ["8.8.8.8"], status=status)


def test_the_example_of_the_guide_tells_genuine_from_forged_and_old() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 (our own guide)
    (request,) = send("https://ris.example/hook", ["8.8.8.8"])
    header, body = request.headers["X-Dicom-Node-Signature"], request.content
    now = NOON.timestamp() + 1
    assert names["is_genuine"](body, header, SECRET, now)
    assert not names["is_genuine"](body + b" ", header, SECRET, now)
    assert not names["is_genuine"](body, header, "another secret of length", now)
    assert not names["is_genuine"](body, header, SECRET, now + 3600)
    forged = f"t={int(now) + 3600},v1={signature(SECRET, int(NOON.timestamp()), body)}"
    assert not names["is_genuine"](body, forged, SECRET, now + 3600)
