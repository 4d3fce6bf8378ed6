"""Rules that change while the node runs."""

from __future__ import annotations

import os
from pathlib import Path

from configs.load import read_routes
from dicom_node.live_routes import LiveRoutes
from tests.builders.studies import make_peer

GOOD = "routes: [{name: first, engine: medversa}]\n"


class Clock:
    def __init__(self) -> None:
        self.second = 0.0

    def __call__(self) -> float:
        return self.second


def make_live(tmp_path: Path) -> tuple[LiveRoutes, Path, Clock]:
    path = tmp_path / "routes.yaml"
    path.write_text(GOOD)
    clock = Clock()
    peers = {"pacs": make_peer(port=104, deliver={"by": "dimse"}, ask=["priors"])}
    return LiveRoutes(path, read_routes(path, peers), peers, monotonic=clock), path, clock


def write(path: Path, text: str, clock: Clock) -> None:
    path.write_text(text)
    os.utime(path, ns=(int(clock.second * 1e9) + 10**18, int(clock.second * 1e9) + 10**18))
    clock.second += 2


def test_a_good_file_counts_without_a_restart(tmp_path: Path) -> None:
    live, path, clock = make_live(tmp_path)
    assert [route.name for route in live] == ["first"]
    write(path, "routes: [{name: second, engine: medversa}, {name: third, engine: classical-lung}]", clock)
    assert [route.name for route in live] == ["second", "third"]
    assert (len(live), live[1].name, live.refusal) == (2, "third", "")


def test_a_bad_file_is_not_taken_and_says_why_until_it_is_good_again(tmp_path: Path) -> None:
    live, path, clock = make_live(tmp_path)
    for text, why in (
        ("routes: [{name: second, engine: nosuch}]", "routes[0].engine: unknown engine"),
        ("routes: [{name: second", "no valid YAML"),
        ("routes: [{name: a, engine: medversa, deliver_to: [gone]}]", "routes[0].deliver_to: 'gone'"),
        ("peers: {}", "peers: unknown key"),
        ("routes: [{name: a, engine: medversa, when: {all: [{Modality: {matches: '('}}]}}]", "missing )"),
    ):
        write(path, text, clock)
        assert [route.name for route in live] == ["first"], text
        assert why in live.refusal
    write(path, GOOD.replace("first", "again"), clock)
    assert [route.name for route in live] == ["again"]
    assert live.refusal == ""


def test_a_file_that_is_gone_leaves_the_rules_as_they_were(tmp_path: Path) -> None:
    live, path, clock = make_live(tmp_path)
    path.unlink()
    clock.second += 2
    assert [route.name for route in live] == ["first"]
    assert live.refusal == "routes.yaml is gone"
