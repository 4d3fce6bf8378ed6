"""What a linter of Dockerfiles and a security review would ask of the image and the compose file."""

from __future__ import annotations

import re
from pathlib import Path

from configs.load import load, read_peers
from tests.builders.dockerfile import DOCKER, Instruction, compose, environ, stages

ROOT = DOCKER.parent
STAGES = stages(DOCKER / "Dockerfile.cpu")
LAST = STAGES[-1]
SERVICE = compose()["services"]["node"]


def only(name: str) -> Instruction:
    (found,) = [each for each in LAST if each.name == name]
    return found


def test_bases_are_pinned_to_a_version() -> None:
    for stage in STAGES:
        assert re.fullmatch(r"python:3\.\d+-slim-\w+( AS \w+)?", stage[0].words), stage[0]


def test_it_runs_as_a_user_that_is_not_root_and_owns_the_volume() -> None:
    assert only("USER").words == "node"
    (made,) = [each.words for each in LAST if each.name == "RUN"]
    assert "useradd --system --uid 10001" in made
    assert "install -d -o node -g node /data" in made
    names = [each.name for each in LAST]
    assert names.index("RUN") < names.index("USER") < names.index("VOLUME")
    assert only("VOLUME").words == environ(LAST)["DICOM_NODE_DATA_DIR"] == "/data"


def test_each_command_has_the_exec_form_so_that_a_stop_reaches_the_node() -> None:
    assert only("ENTRYPOINT").command == ["sh", "/opt/node/entrypoint.sh"]
    assert only("CMD").command == ["up"]
    assert only("STOPSIGNAL").words == "SIGTERM"
    assert 'exec dicom-node "$@"' in (DOCKER / "entrypoint.sh").read_text()


def test_its_health_is_asked_by_what_is_copied_into_it() -> None:
    check = only("HEALTHCHECK").words
    assert Instruction("CMD", check.partition(" CMD ")[2]).command == ["python", "/opt/node/healthcheck.py"]
    copied = " ".join(each.words for each in LAST if each.name == "COPY")
    assert all(f"docker/{name}" in copied for name in ("entrypoint.sh", "healthcheck.py", "peers.yaml"))


def test_all_that_it_copies_is_there_and_reaches_the_build() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    for each in (each for stage in STAGES for each in stage if each.name == "COPY" and "--from" not in each.words):
        for source in each.words.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert source.partition("/")[0] not in ignored


def test_its_dependencies_are_pinned_and_no_cache_stays() -> None:
    (install,) = [each.words for each in STAGES[0] if each.name == "RUN"]
    assert "--no-cache-dir -c constraints.txt" in install


def test_it_listens_inside_on_all_addresses_at_the_ports_that_it_exposes(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "peers.yaml").write_text((DOCKER / "peers.yaml").read_text())
    settings = load(None, {**environ(LAST), "DICOM_NODE_DATA_DIR": str(tmp_path)}, working_dir=tmp_path).settings
    assert (settings.dimse.host, settings.http.host) == ("0.0.0.0", "0.0.0.0")  # noqa: S104 (as the image says)
    assert only("EXPOSE").words.split() == [str(settings.dimse.port), str(settings.http.port)]


def test_compose_publishes_on_this_machine_only() -> None:
    assert SERVICE["ports"] == ["127.0.0.1:11112:11112", "127.0.0.1:8080:8080"]


def test_compose_builds_this_image_and_keeps_its_data() -> None:
    build = SERVICE["build"]
    assert (DOCKER / build["context"] / build["dockerfile"]).resolve() == DOCKER / "Dockerfile.cpu"
    assert SERVICE["volumes"] == ["data:/data"]
    assert "data" in compose()["volumes"]


def test_compose_takes_from_the_container_what_it_does_not_need() -> None:
    assert SERVICE["read_only"] is True
    assert SERVICE["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in SERVICE["security_opt"]
    assert "privileged" not in SERVICE
    assert not any("KEY" in name or "PASSWORD" in name for name in SERVICE["environment"])


def test_the_example_peer_is_named_and_comes_from_container_networks() -> None:
    peers = read_peers(DOCKER / "peers.yaml")
    assert peers
    for peer in peers.values():
        assert peer.ae_title != "*"
        assert not peer.is_local
        assert "172.16.0.0/12" in peer.may_call_from


def test_compose_sets_only_settings_that_there_are(tmp_path: Path) -> None:
    load(None, {**SERVICE["environment"], "DICOM_NODE_DATA_DIR": str(tmp_path / "d")}, working_dir=tmp_path)
