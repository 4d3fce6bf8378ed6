from __future__ import annotations

import re
from pathlib import Path

import pytest

from configs.errors import ConfigError
from configs.load import FILES, load
from configs.peers import DeliverByDimse, DeliverByStow
from configs.routes import AllOf, Term


def make_config(tmp_path: Path, **files: str) -> Path:
    directory = tmp_path / "config"
    directory.mkdir()
    for name, text in files.items():
        (directory / f"{name}.yaml").write_text(text)
    return directory


def test_first_start_copies_the_shipped_files_and_they_load(tmp_path: Path) -> None:
    loaded = load(None, {"DICOM_NODE_DATA_DIR": str(tmp_path / "d")}, working_dir=tmp_path)
    assert loaded.first_start
    assert {path.name for path in loaded.config_dir.iterdir()} == set(FILES)
    assert [route.engine for route in loaded.settings.routes] == ["classical-lung"]
    assert loaded.settings.peers["loopback"].is_local


def test_shipped_node_yaml_says_the_defaults(tmp_path: Path) -> None:
    shipped = load(None, {"DICOM_NODE_DATA_DIR": str(tmp_path / "d")}, working_dir=tmp_path).settings
    bare = load(make_config(tmp_path), {"DICOM_NODE_DATA_DIR": str(tmp_path / "d")}, working_dir=tmp_path).settings
    for section in FILES["node.yaml"]:
        assert getattr(shipped, section) == getattr(bare, section)


def test_second_start_keeps_what_an_administrator_wrote(tmp_path: Path) -> None:
    environ = {"DICOM_NODE_DATA_DIR": str(tmp_path / "d")}
    config_dir = load(None, environ, working_dir=tmp_path).config_dir
    (config_dir / "node.yaml").write_text("dimse: {ae_title: OTHER}")
    again = load(None, environ, working_dir=tmp_path)
    assert not again.first_start
    assert again.settings.dimse.ae_title == "OTHER"


def test_environment_wins_over_env_file_over_yaml_and_own_names_over_old_ones(tmp_path: Path) -> None:
    config = make_config(tmp_path, node="http: {port: 1}\ndimse: {port: 2, ae_title: A}")
    (tmp_path / ".env").write_text("PORT=3\nexport DICOM_NODE_DIMSE__PORT=4\nDICOM_NODE_DIMSE__AE_TITLE='B'\n# x=1\n")
    environ = {"DICOM_NODE_DIMSE__PORT": "5"}
    settings = load(config, environ, working_dir=tmp_path).settings
    assert (settings.http.port, settings.dimse.port, settings.dimse.ae_title) == (3, 5, "B")
    both = load(config, {"PORT": "6", "DICOM_NODE_HTTP__PORT": "7"}, working_dir=tmp_path).settings
    assert both.http.port == 7


def test_a_rule_is_read_as_terms(tmp_path: Path) -> None:
    rule = "routes: [{name: a, engine: medversa, when: {all: [{Modality: CT}, {SliceThickness: {max: 5}}]}}]"
    route = load(make_config(tmp_path, routes=rule), {}, working_dir=tmp_path).settings.routes[0]
    assert isinstance(route.when, AllOf)
    assert [term.name for term in route.when.conditions if isinstance(term, Term)] == ["Modality", "SliceThickness"]


@pytest.mark.parametrize(
    ("files", "path"),
    [
        ({"node": "http: {prot: 1}"}, "http.prot: unknown key"),
        ({"node": "htpp: {port: 1}"}, "htpp: unknown key"),
        ({"node": "quiet: {after_s: 9, at_most_s: 3}"}, "quiet: need after_s <= at_most_s"),
        ({"node": "quiet: {after_s: 1}\nquiet: {after_s: 2}"}, "'quiet' stands twice"),
        ({"node": "node: {timezone: Mars/Base}"}, "node.timezone: unknown time zone"),
        ({"routes": "routes: [{name: a, engine: nosuch}]"}, "routes[0].engine: unknown engine"),
        (
            {"routes": "routes: [{name: a, engine: medversa, when: {all: [{Modalty: CT}]}}]"},
            "routes[0].when: when.all[0].Modalty: no such DICOM keyword",
        ),
        (
            {"routes": "routes: [{name: a, engine: medversa, when: {not: {StudyDescription: {matches: '(a'}}}}]"},
            "routes[0].when: when.not.StudyDescription.matches: no regular expression of RE2: missing ): (a",
        ),
        (
            {"routes": "routes: [{name: a, engine: medversa, when: {StudyDescription: {matches: '(?=a)'}}}]"},
            "when.StudyDescription.matches: no regular expression of RE2: invalid perl operator",
        ),
        (
            {"routes": "routes: [{name: a, engine: medversa, requires: [{when: {Modalty: CT}, images: 9}]}]"},
            "routes[0].requires[0].when: when.Modalty: no such DICOM keyword",
        ),
        ({"routes": "routes: [{name: a, engine: medversa, requires: [{when: {}}]}]"}, "routes[0].requires[0].images:"),
        ({"routes": "routes: [{name: a, engine: medversa, priority: now}]"}, "routes[0].priority:"),
        ({"routes": "routes: [{name: a, engine: medversa, at_most_per_hour: 0}]"}, "routes[0].at_most_per_hour:"),
        (
            {"routes": "routes: [{name: a, engine: medversa, priors: {from: [pacs9], modalities: [CT]}}]"},
            "routes[0].priors.from: 'pacs9' is no peer with ask: [priors] in peers.yaml",
        ),
        ({"peers": "peers: {p: {ae_title: P, host: h, port: 1, ask: [counts]}}"}, "peers.p: ask: counts needs archive"),
        ({"peers": "peers: {p: {ae_title: P, host: h, ask: [worklist]}}"}, "peers.p: ask needs host and port"),
        ({"peers": "peers: {p: {ae_title: P, host: h, fetch: {by: dicomweb}}}"}, "peers.p.fetch.dicomweb.url:"),
        ({"routes": "routes: [{name: a, engine: medversa, deliver_to: [pacs9]}]"}, "routes[0].deliver_to: 'pacs9'"),
        ({"routes": "routes: [{name: a, originals_to: [pacs9]}]"}, "routes[0].originals_to: 'pacs9'"),
        ({"routes": "routes: [{name: a, originals_to: [sender]}]"}, "routes[0].originals_to: 'sender'"),
        ({"routes": "routes: [{name: a, deliver_to: [sender]}]"}, "routes[0]: needs engine, or originals_to"),
        ({"peers": "peers: {p: {ae_title: P, deliver: {by: dimse}}}"}, "peers.p: deliver needs host and port"),
        ({"peers": "peers: {p: {host: h}}"}, "peers.p: needs ae_title"),
        ({"peers": "peers: {p: {deliver: {by: pigeon}}}"}, "peers.p.deliver: by must be dimse, stow or folder"),
        ({"peers": "peers: {p: {deliver: {by: folder, path: out}}}"}, "peers.p.deliver: path must be absolute"),
        ({"peers": "peers: {p: {deliver: {by: folder, path: /o, url: x}}}"}, "peers.p.deliver.url: unknown key"),
        ({"peers": "peers: {p: {deliver: {by: stow, url: 'ftp://h'}}}"}, "peers.p.deliver.url:"),
        (
            {"peers": "peers: {p: {deliver: {by: stow, url: 'http://h/dicom-web', api_key: k}}}"},
            "peers.p.deliver: a key, token or password goes over https alone",
        ),
        (
            {"peers": "peers: {p: {deliver: {by: stow, url: 'https://h', bearer: k, user: u, password: w}}}"},
            "peers.p.deliver: bearer and user exclude each other",
        ),
        (
            {"peers": "peers: {p: {ae_title: P, host: h, port: 1, deliver: {outlines: drawn}}}"},
            "peers.p.deliver.outlines[0]:",
        ),
        (
            {"peers": "peers: {p: {ae_title: P, host: h, port: 1, deliver: {report: [pdf, fax]}}}"},
            "peers.p.deliver.report[1]:",
        ),
        ({"peers": "peers: {p: {ae_title: P, host: h, accept: [fly]}}"}, "peers.p.accept[0]:"),
        (
            {"peers": "peers: {p: {ae_title: P, host: h, archive: true, accept: [store, commit]}}"},
            "peers.p: archive: true and accept: commit exclude each other",
        ),
        (
            {"peers": "peers: {p: {ae_title: AN AE TITLE TOO LONG, host: h}}"},
            "peers.p.ae_title: 'AN AE TITLE TOO LONG' is no AE title",
        ),
        ({"peers": "peers: {p: {ae_title: 'A\\B', host: h}}"}, "peers.p.ae_title:"),
        ({"peers": "peers: {p: {ae_title: P, host: h, answer_as: ' '}}"}, "peers.p.answer_as:"),
        ({"node": "database: {url: 'mysql://h/n'}"}, "database.url: must be empty"),
        ({"node": "blobs: {url: 's3://b/p'}"}, "blobs.url: must be empty"),
        ({"peers": "- 1"}, "peers.yaml: the file must hold named settings"),
        ({"node": "dimse: {host: 0.0.0.0}"}, "dimse.host: 0.0.0.0 listens to the network"),
    ],
)
def test_what_is_wrong_is_named_with_its_path(tmp_path: Path, files: dict[str, str], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(make_config(tmp_path, **files), {}, working_dir=tmp_path)
    assert path in str(caught.value)


def test_unknown_name_in_the_environment_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="DICOM_NODE_HTPP__PORT: unknown setting"):
        load(make_config(tmp_path), {"DICOM_NODE_HTPP__PORT": "1"}, working_dir=tmp_path)


def test_secrets_do_not_show(tmp_path: Path) -> None:
    settings = load(make_config(tmp_path), {"DICOM_NODE_AUTH__ADMIN_KEY": "open sesame"}, working_dir=tmp_path).settings
    assert settings.auth.admin_key is not None
    assert "sesame" not in repr(settings)


def test_the_loopback_entry_is_no_peer_list(tmp_path: Path) -> None:
    local = "peers: {loopback: {ae_title: '*', from: [127.0.0.0/8]}}"
    with pytest.raises(ConfigError, match=r"peers\.yaml lists nobody there"):
        load(make_config(tmp_path, node="dimse: {host: 0.0.0.0}", peers=local), {}, working_dir=tmp_path)


def test_the_command_that_adds_the_first_peer_may_run_before_a_start_could(tmp_path: Path) -> None:
    config = make_config(tmp_path, node="dimse: {host: 0.0.0.0}")
    assert load(config, {}, working_dir=tmp_path, to_start=False).settings.dimse.listens_beyond_this_machine


def test_an_empty_admin_key_is_none(tmp_path: Path) -> None:
    environ = {"DICOM_NODE_AUTH__ADMIN_KEY": ""}
    assert load(make_config(tmp_path), environ, working_dir=tmp_path).settings.auth.admin_key is None


def test_an_env_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"\.env: no UTF-8 text"):
        load(make_config(tmp_path), {}, working_dir=tmp_path)


def test_a_data_directory_that_cannot_be_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/config cannot be written.*DICOM_NODE_DATA_DIR"):
        load(None, {"DICOM_NODE_DATA_DIR": str(tmp_path / "file")}, working_dir=tmp_path)


def test_each_name_of_the_example_env_file_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example = (Path(__file__).parents[3] / ".env.example").read_text()
    lines = [line.removeprefix("#") for line in example.splitlines() if re.match(r"#?[A-Z_]+=", line)]
    (tmp_path / ".env").write_text("\n".join(lines))
    said = load(None, {}).settings
    (tmp_path / ".env").unlink()
    assert len(lines) > 8
    assert said == load(None, {}).settings


@pytest.mark.parametrize(
    ("http", "url"),
    [
        ("{}", "http://127.0.0.1:8080"),
        ("{host: 0.0.0.0, port: 81}", "http://127.0.0.1:81"),
        ("{host: '::'}", "http://[::1]:8080"),
        ("{public_url: 'https://node.example/'}", "https://node.example"),
    ],
)
def test_the_base_url_is_one_that_a_browser_can_open(tmp_path: Path, http: str, url: str) -> None:
    loaded = load(make_config(tmp_path, node=f"http: {http}"), {}, working_dir=tmp_path)
    assert loaded.settings.http.base_url() == url


def test_tls_without_its_files_stops_the_start_and_names_them(tmp_path: Path) -> None:
    tls = "dimse: {tls: {certificate: /nowhere/node.pem, key: /nowhere/node.key, ca: /nowhere/ca.pem}}"
    with pytest.raises(ConfigError) as caught:
        load(make_config(tmp_path, node=tls), {}, working_dir=tmp_path)
    assert "dimse.tls.certificate:" in str(caught.value)


def test_tls_that_requires_certificates_of_peers_needs_their_authority(tmp_path: Path) -> None:
    pair = tmp_path / "node.pem"
    pair.write_text("")
    with pytest.raises(ConfigError) as caught:
        load(
            make_config(tmp_path, node=f"dimse: {{tls: {{certificate: {pair}, key: {pair}}}}}"),
            {},
            working_dir=tmp_path,
        )
    assert "dimse.tls: require_client_certificate needs ca" in str(caught.value)


def test_earlier_studies_may_be_fetched_from_a_web_service_that_speaks_no_dimse(tmp_path: Path) -> None:
    peers = (
        "peers: {p: {ae_title: P, from: [10.0.0.1], ask: [priors], fetch: {by: dicomweb, url: 'https://p/dicom-web'}}}"
    )
    routes = "routes: [{name: a, engine: medversa, priors: {from: [p], modalities: [CT]}}]"
    settings = load(make_config(tmp_path, peers=peers, routes=routes), {}, working_dir=tmp_path).settings
    assert settings.routes[0].priors is not None
    assert settings.routes[0].priors.sources == ("p",)


def test_a_word_for_a_form_stands_for_the_chain_from_there_and_a_list_for_itself() -> None:
    chain = DeliverByDimse.model_validate({"outlines": "labelmap", "report": "enhanced"})
    assert chain.outlines == ("labelmap", "binary", "capture")
    assert chain.report == ("enhanced", "basic-text", "pdf", "summary")
    assert DeliverByDimse.model_validate({"report": ["comprehensive"]}).report == ("comprehensive",)
    assert DeliverByDimse().outlines == ("binary", "capture")


def test_secrets_of_a_destination_are_shown_nowhere() -> None:
    deliver = DeliverByStow.model_validate({"by": "stow", "url": "https://h", "api_key": "s3cret", "bearer": "t0ken"})
    shown = repr(deliver) + deliver.model_dump_json()
    assert "s3cret" not in shown
    assert "t0ken" not in shown


def test_names_of_the_chat_guide_are_taken_and_own_names_win(tmp_path: Path) -> None:
    environ = {
        "MEDGEMMA_BASE_URL": "http://10.1.2.3:8000/v1/, http://10.1.2.4:8000",
        "MEDGEMMA_MODEL": "medgemma-27b",
        "MEDGEMMA_TIMEOUT": "30",
        "MEDGEMMA_ENABLED": "True",
    }
    chat = load(make_config(tmp_path), environ, working_dir=tmp_path).settings.chat
    assert [each.url for each in chat.upstreams] == ["http://10.1.2.3:8000", "http://10.1.2.4:8000"]
    assert (chat.model, chat.timeout_s, chat.enabled) == ("medgemma-27b", 30, True)
    own = {"DICOM_NODE_CHAT__MODEL": "mine", "DICOM_NODE_CHAT__BACKEND": "none"}
    chat = load(tmp_path / "config", environ | own, working_dir=tmp_path).settings.chat
    assert (chat.model, chat.backend) == ("mine", "none")
    off = load(tmp_path / "config", environ | {"MEDGEMMA_ENABLED": "false"}, working_dir=tmp_path).settings.chat
    assert not off.enabled
    llama = {"MODEL_QUANT": "Q4_K_M", "GPU_LAYERS": "0", "THREADS": "8", "CONTEXT_SIZE": "32768"}
    local = load(tmp_path / "config", llama, working_dir=tmp_path).settings.chat.llama_cpp
    assert (local.quantization, local.gpu_layers, local.threads, local.context_size) == ("Q4_K_M", 0, 8, 32768)


ANY = "0.0.0.0"  # noqa: S104 (names the bind)


@pytest.mark.parametrize(
    ("environ", "own"),
    [
        ({"MEDGEMMA_BASE_URL": "http://localhost:8080"}, True),
        ({"MEDGEMMA_BASE_URL": "http://127.0.0.1:8080/v1"}, True),
        ({"MEDGEMMA_BASE_URL": "http://[::ffff:127.0.0.1]:8080"}, True),
        ({"MEDGEMMA_BASE_URL": "http://localhost:9000", "PORT": "9000"}, True),
        ({"MEDGEMMA_BASE_URL": "http://127.0.0.1:8080", "DICOM_NODE_HTTP__HOST": ANY}, True),
        ({"MEDGEMMA_BASE_URL": "https://node.example", "DICOM_NODE_HTTP__PUBLIC_URL": "https://node.example"}, True),
        ({"MEDGEMMA_BASE_URL": "http://localhost:8081"}, False),
        ({"MEDGEMMA_BASE_URL": "http://127.0.0.2:8080"}, False),
        ({"MEDGEMMA_BASE_URL": "http://192.0.2.1:8080", "DICOM_NODE_HTTP__HOST": ANY}, False),
    ],
)
def test_a_model_server_that_is_this_node_itself_is_refused(tmp_path: Path, environ: dict[str, str], own: bool) -> None:
    config = make_config(tmp_path)
    if not own:
        assert load(config, environ, working_dir=tmp_path).settings.chat.upstreams
        return
    with pytest.raises(ConfigError, match=r"chat\.upstreams\[0\]\.url: .* is this node itself"):
        load(config, environ, working_dir=tmp_path)
    load(config, environ, working_dir=tmp_path, to_start=False)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://a", "http://", "http://name:secret@host", "http://a?b=c"])
def test_a_model_server_without_a_sound_url_is_refused_and_its_secret_is_not_said(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"chat\.upstreams\[0\]\.url: ") as refused:
        load(make_config(tmp_path), {"MEDGEMMA_BASE_URL": url}, working_dir=tmp_path)
    assert "secret" not in str(refused.value)


def test_keys_of_model_servers_are_not_shown(tmp_path: Path) -> None:
    config = make_config(tmp_path, node="chat: {upstreams: [{url: 'http://10.1.2.3', key: site-secret}]}")
    chat = load(config, {}, working_dir=tmp_path).settings.chat
    assert "site-secret" not in f"{chat!r} {chat.model_dump_json()}"
