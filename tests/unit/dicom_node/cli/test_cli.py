from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import pytest

from dicom_node.cli import COMMANDS
from dicom_node.version import VERSION
from storage.blobs import LocalBlobs
from storage.database import Database
from storage.index import Index
from storage.intake import Intake
from tests.builders.ct import encode, make_ct_instance
from tests.conftest import SENDER
from tests.unit.dicom_node.cli.conftest import Run

#: Commands that look at what is kept.
LOOKS = (
    ("studies",),
    ("show", "1.2.3"),
    ("ledger",),
    ("rerun", "1.2.3"),
    ("rerun", "--waiting"),
    ("keys", "list"),
    ("keys", "create", "viewer"),
    ("keys", "revoke", "viewer"),
    ("peers", "list", "--refused"),
)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_each_command_explains_itself(run: Run, command: str) -> None:
    said = run(command, "--help")
    assert said.status == 0
    assert f"Usage: dicom-node {command}" in said.out


def test_help_lists_each_command_in_the_order_of_their_use(run: Run) -> None:
    said = run("--help").out
    places = [said.index(f"│ {command} ") for command in ("up", "check", "demo", "studies", "engines", "peers")]
    assert places == sorted(places)
    assert all(f"│ {command} " in said for command in COMMANDS)


@pytest.mark.parametrize("words", [("nosuch",), ("--nosuch",), ("show",), ("up", "extra"), ("studies", "--limit", "0")])
def test_a_wrong_command_line_is_status_2_and_names_what_is_wrong(run: Run, words: tuple[str, ...]) -> None:
    said = run(*words)
    assert said.status == 2
    assert "Error" in said.err


def test_version(run: Run) -> None:
    assert run("version").out == f"{VERSION}\n"


@pytest.mark.parametrize("words", LOOKS)
def test_a_look_before_the_first_start_says_so_and_makes_nothing(
    run: Run, data_dir: Path, words: tuple[str, ...]
) -> None:
    said = run(*words)
    assert said.status == 1
    assert "Start one: dicom-node up" in said.err
    assert sorted(path.name for path in data_dir.iterdir()) == ["config"]


@pytest.mark.parametrize("words", LOOKS)
def test_a_look_at_a_database_without_our_tables_says_so(run: Run, data_dir: Path, words: tuple[str, ...]) -> None:
    data_dir.mkdir()
    (data_dir / "node.db").touch()
    said = run(*words)
    assert said.status == 1
    assert "Start one: dicom-node up" in said.err


def test_check_says_what_the_configuration_amounts_to(run: Run, data_dir: Path) -> None:
    said = run("check")
    assert said.status == 0
    assert f"{data_dir}/config: sound." in said.out
    assert "Route chest-ct: classical-lung, delivered to sender" in said.out


def test_check_for_programs_shows_no_secret(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOM_NODE_AUTH__ADMIN_KEY", "open-sesame")
    monkeypatch.setenv("DICOM_NODE_DATABASE__URL", "postgresql+psycopg://node:open-sesame@db/node")
    said = run("check", "--json")
    assert json.loads(said.out)["dimse"]["port"] == 11112
    assert "sesame" not in said.out


@pytest.mark.parametrize("command", ["check", "up"])
def test_a_wrong_setting_stops_with_its_path(run: Run, data_dir: Path, command: str) -> None:
    (data_dir / "config").mkdir(parents=True)
    (data_dir / "config" / "node.yaml").write_text("quiet: {afters_s: 3}")
    said = run(command)
    assert (said.status, said.err) == (1, "quiet.afters_s: unknown key\n")
    assert not (data_dir / "node.db").exists()


@pytest.mark.parametrize("command", ["check", "up"])
def test_a_network_bind_for_nobody_is_refused_with_the_line_that_helps(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("DICOM_NODE_DIMSE__HOST", "0.0.0.0")  # noqa: S104 (must be refused)
    said = run(command)
    assert said.status == 1
    assert "peers.yaml lists nobody there. Run first: dicom-node peers add" in said.err


def test_that_line_works_then(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOM_NODE_DIMSE__HOST", "0.0.0.0")  # noqa: S104
    added = run("peers", "add", "pacs1", "--ae", "PACS1", "--host", "10.1.2.3")
    assert added.status == 0
    assert "pacs1:\n    ae_title: PACS1" in added.out
    assert run("check").status == 0


def test_up_refuses_a_role_that_there_is_not(run: Run) -> None:
    said = run("up", "--roles", "receiver,cook")
    assert (said.status, "there is no role 'cook'" in said.err) == (1, True)


def test_a_peer_that_cannot_be_leaves_the_list_as_it_was(run: Run, data_dir: Path) -> None:
    run("check")
    before = (data_dir / "config" / "peers.yaml").read_text()
    for words in (["--ae", "AN AE TITLE TOO LONG", "--host", "h"], ["--ae", "P"]):
        said = run("peers", "add", "p", *words)
        assert said.status == 1, said
        assert "peers.p" in said.err
    assert (data_dir / "config" / "peers.yaml").read_text() == before


def test_a_peer_that_gets_no_results_is_said_to_get_none(run: Run) -> None:
    said = run("peers", "add", "ct1", "--ae", "CT1", "--host", "10.1.2.3")
    assert "No results go there: that needs --host and --port." in said.out
    assert run("peers", "add", "ct2", "--ae", "CT2", "--host", "10.1.2.3", "--port", "0").status == 2


def test_peers_are_listed_and_taken_off(run: Run) -> None:
    run("peers", "add", "ct1", "--ae", "CT1", "--from", "10.0.0.0/24", "--no-deliver")
    assert "ct1" in run("peers", "list").out
    assert json.loads(run("peers", "list", "--json").out)["ct1"]["from"] == ["10.0.0.0/24"]
    assert run("peers", "remove", "ct1").status == 0
    assert "ct1" not in json.loads(run("peers", "list", "--json").out)


def test_echo_to_a_peer_without_an_address_says_what_is_missing(run: Run) -> None:
    said = run("peers", "echo", "loopback")
    assert (said.status, "no peer 'loopback' with host and port" in said.err) == (1, True)


def test_a_key_is_shown_once_and_listed_without_its_secret(run: Run, started: Path) -> None:
    made = run("keys", "create", "viewer", "--permissions", "read,console", "--peers", "loopback")
    assert made.status == 0
    listed = run("keys", "list", "--json")
    (key,) = json.loads(listed.out)
    assert (key["permissions"], key["peers"], key["revoked_at"]) == (["console", "read"], ["loopback"], None)
    assert made.out.strip() not in listed.out
    assert run("keys", "revoke", "viewer").status == 0
    assert "revoked" in run("keys", "list").out


def test_a_key_for_a_peer_that_there_is_not_is_refused(run: Run, started: Path) -> None:
    said = run("keys", "create", "viewer", "--peers", "nobody")
    assert (said.status, "peers.yaml has no peer 'nobody'" in said.err) == (1, True)
    assert json.loads(run("keys", "list", "--json").out) == []


def test_the_admin_key_is_shown_once_it_is_there(run: Run, started: Path) -> None:
    assert run("keys", "show-admin").status == 1
    (started / "admin.key").write_text("dn_admin_x\n")
    assert run("keys", "show-admin").out == "dn_admin_x\n"


def test_engines_for_programs(run: Run) -> None:
    engines = {each["name"]: each for each in json.loads(run("engines", "--json").out)}
    assert engines["classical-lung"]["kind"] == "classical"
    assert engines["classical-lung"]["reads"] == ["CT"]
    assert "classical-lung" in run("engines").out


def test_send_of_nothing_is_a_failure_that_says_why(run: Run, tmp_path: Path) -> None:
    assert "no such file or folder" in run("send", str(tmp_path / "missing")).err
    (tmp_path / "empty").mkdir()
    said = run("send", str(tmp_path / "empty"))
    assert (said.status, "holds no DICOM instances" in said.err) == (1, True)
    said = run("send", str(tmp_path / "empty"), "--to", "elsewhere")
    assert "neither a peer's name nor TITLE@host:port" in said.err


def test_an_empty_node_has_no_studies_and_nothing_unexplained(run: Run, started: Path) -> None:
    assert run("studies").out == "Nothing was received yet.\n"
    assert run("ledger").out.endswith("0 unexplained\n")
    said = run("show", "1.2.3")
    assert (said.status, "1.2.3 is kept here" in said.err) == (1, True)
    assert "Name one study, or say --waiting." in run("rerun").err
    assert run("rerun", "--waiting").out == "There is no job to do again.\n"


@pytest.fixture
def with_study(started: Path) -> str:
    """A study of one image, kept."""
    database = Database(f"sqlite:///{started / 'node.db'}")
    intake = Intake(database, LocalBlobs(started / "blobs"), reserve_bytes=0)
    intake.receive(BytesIO(encode(make_ct_instance())), SENDER)
    intake.close()
    (study,) = Index(database).studies(limit=2, offset=0)
    database.close()
    return study.study_instance_uid


def test_a_kept_study_is_listed_and_shown_with_its_way(
    run: Run, with_study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DICOM_NODE_HTTP__PUBLIC_URL", "https://node.example")
    assert [each["study_instance_uid"] for each in json.loads(run("studies", "--json").out)] == [with_study]
    assert with_study in run("studies").out
    shown = run("show", with_study)
    assert "gathering" in shown.out
    assert shown.out.endswith(f"Console: https://node.example/console/studies/{with_study}\n")
    assert json.loads(run("show", with_study, "--json").out)["way"][0]["to_state"] == "gathering"


def test_a_file_that_is_gone_is_unexplained_and_a_failure(run: Run, with_study: str, started: Path) -> None:
    for path in (started / "blobs" / "instances").rglob("*.dcm"):
        path.unlink()
    said = run("ledger")
    assert said.status == 1
    assert "UNEXPLAINED instance" in said.out
    assert said.out.endswith("1 unexplained\n")
