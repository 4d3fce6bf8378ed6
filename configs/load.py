"""Read the settings once: YAML files, overridden by the environment, over `.env`.

Nothing else reads the environment.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from configs.chat import is_this_node
from configs.errors import ConfigError
from configs.peers import Peer
from configs.routes import Route
from configs.section import Section
from configs.settings import Settings

#: File of the configuration directory → top-level keys that it may hold.
FILES: dict[str, frozenset[str]] = {
    "node.yaml": frozenset(
        {
            "node",
            "dimse",
            "http",
            "auth",
            "database",
            "blobs",
            "quiet",
            "delivery",
            "disk",
            "retention",
            "webhooks",
            "chat",
            "log",
        }
    ),
    "peers.yaml": frozenset({"peers"}),
    "routes.yaml": frozenset({"routes"}),
    "engines.yaml": frozenset({"engines"}),
}

#: Names that people know from older deployments → path of the setting.
OLD_NAMES: dict[str, tuple[str, ...]] = {
    "PORT": ("http", "port"),
    "MODEL_QUANT": ("chat", "llama_cpp", "quantization"),
    "GPU_LAYERS": ("chat", "llama_cpp", "gpu_layers"),
    "THREADS": ("chat", "llama_cpp", "threads"),
    "CONTEXT_SIZE": ("chat", "llama_cpp", "context_size"),
    "MEDGEMMA_BASE_URL": ("chat", "upstreams"),
    "MEDGEMMA_MODEL": ("chat", "model"),
    "MEDGEMMA_TIMEOUT": ("chat", "timeout_s"),
    "MEDGEMMA_ENABLED": ("chat", "enabled"),
    "MEDGEMMA_MAX_IMAGE_SIZE": ("chat", "max_image_bytes"),
    "MEDGEMMA_ALLOWED_FORMATS": ("chat", "allowed_formats"),
}

_PREFIX = "DICOM_NODE_"
_DATA_DIR = "DICOM_NODE_DATA_DIR"
_SHIPPED = Path(__file__).parent


@dataclass(frozen=True)
class Loaded:
    """The settings and where they came from."""

    settings: Settings
    config_dir: Path
    first_start: bool
    """The configuration directory was made just now from the shipped files."""


def load(
    config_dir: Path | None, environ: Mapping[str, str], *, working_dir: Path | None = None, to_start: bool = True
) -> Loaded:
    """Read, merge and check the settings.

    Parameters
    ----------
    config_dir
        Directory of the four YAML files; None: `<data dir>/config`, made from the shipped files at first start.
    environ
        The environment; `.env` in `working_dir` (default: the current one) gives what it lacks.
    to_start
        Refuse settings that are sound and yet no node may start with, such as a network bind without peers:
        the command that adds the first peer must be able to run before.

    Raises
    ------
    ConfigError
        A key is unknown or a value is wrong; the message names its path.
    """
    names = {**_read_env_file((working_dir or Path()) / ".env"), **environ}
    data_dir = Path(names.get(_DATA_DIR) or "data").absolute()
    first_start = False
    if config_dir is None:
        config_dir = data_dir / "config"
        first_start = copy_shipped(config_dir)
    elif not config_dir.is_dir():
        raise ConfigError(f"{config_dir}: no such configuration directory")
    raw = _read_files(config_dir)
    for path, value in _overrides(names):
        _put(raw, path, value)
    raw["data_dir"] = data_dir
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(_say(error)) from error
    _check_together(settings)
    if to_start:
        _check_start(settings)
    return Loaded(settings, config_dir, first_start)


def copy_shipped(config_dir: Path) -> bool:
    """Give the directory each shipped file that it lacks; tell whether it had none.

    Raises
    ------
    ConfigError
        The directory cannot be made or written.
    """
    missing = [name for name in FILES if not (config_dir / name).exists()]
    try:
        config_dir.mkdir(parents=True, exist_ok=True)
        for name in missing:
            shutil.copyfile(_SHIPPED / name, config_dir / name)
    except OSError as error:
        raise ConfigError(
            f"{config_dir} cannot be written: {error.strerror}. The data directory is set by {_DATA_DIR}."
        ) from error
    return len(missing) == len(FILES)


def read_peers(path: Path) -> dict[str, Peer]:
    """Read `peers.yaml` alone.

    Raises
    ------
    ConfigError
        It holds something else than peers, or a wrong one; the message names its path.
    """
    try:
        content = {key: value for key, value in read_yaml(path).items() if value is not None}
        return _PeersFile.model_validate(content).peers
    except ValidationError as error:
        raise ConfigError(f"{path.name}: {_say(error)}") from error


class _PeersFile(Section):
    peers: dict[str, Peer] = {}


def read_routes(path: Path, peers: Mapping[str, Peer]) -> tuple[Route, ...]:
    """Read `routes.yaml` alone, and check it against the peers.

    Raises
    ------
    ConfigError
        It holds something else than rules, or a wrong one; the message names its path.
    """
    try:
        content = {key: value for key, value in read_yaml(path).items() if value is not None}
        routes = _RoutesFile.model_validate(content).routes
        check_routes(routes, peers)
    except ValidationError as error:
        raise ConfigError(f"{path.name}: {_say(error)}") from error
    return routes


class _RoutesFile(Section):
    routes: tuple[Route, ...] = ()


def _read_files(config_dir: Path) -> dict[str, Any]:
    raw: dict[str, Any] = {}
    for name, allowed in FILES.items():
        path = config_dir / name
        content = read_yaml(path) if path.exists() else {}
        for key in content:
            if key not in allowed:
                raise ConfigError(f"{name}: {key}: unknown key; here belong: {', '.join(sorted(allowed))}")
        raw.update({key: value for key, value in content.items() if value is not None})
    return raw


def read_yaml(path: Path) -> dict[str, Any]:
    """Read one YAML mapping; doubled keys are refused, not merged silently."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name}: no valid YAML: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path.name}: the file must hold named settings")
    return content


class _StrictLoader(yaml.SafeLoader):
    """YAML without code and without doubled keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _read_env_file(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: no UTF-8 text") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    names: dict[str, str] = {}
    for line in text.splitlines():
        name, found, value = line.strip().partition("=")
        if found and not name.startswith("#"):
            names[name.strip().removeprefix("export ").strip()] = value.strip().strip("\"'")
    return names


def _overrides(names: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Paths and values that the environment sets; own names come last and so win over old ones."""
    for old, old_path in OLD_NAMES.items():
        if names.get(old):
            yield old_path, _value_of(old, names[old])
    for name, text in sorted(names.items()):
        if not name.startswith(_PREFIX) or name == _DATA_DIR or name.startswith("DICOM_NODE_TEST_"):
            continue
        path = tuple(part.lower() for part in name.removeprefix(_PREFIX).split("__"))
        if len(path) < 2 or path[0] not in FILES["node.yaml"]:
            raise ConfigError(
                f"{name}: unknown setting; the form is {_PREFIX}<SECTION>__<KEY>, such as DICOM_NODE_HTTP__PORT"
            )
        yield path, _value_of(name, text)


def _value_of(name: str, text: str) -> Any:
    if text == "":
        return ""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: the value cannot be read") from error


def _put(raw: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    *sections, key = path
    place = raw
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise ConfigError(f"{'.'.join(path)}: {section} is no section")
    place[key] = value


def _say(error: ValidationError) -> str:
    return "; ".join(f"{_path_of(detail)}: {_what(detail)}" for detail in error.errors(include_url=False))


def _path_of(detail: ErrorDetails) -> str:
    text = ""
    for before, part in zip(("", *detail["loc"]), detail["loc"], strict=False):
        if before == "deliver" and part in ("dimse", "stow", "folder"):
            continue  # which of the ways the rest was read as
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _what(detail: ErrorDetails) -> str:
    if detail["type"] == "extra_forbidden":
        return "unknown key"
    return detail["msg"].removeprefix("Value error, ")


def _check_together(settings: Settings) -> None:
    """Refuse what is wrong only in combination."""
    check_routes(settings.routes, settings.peers)


def check_routes(routes: Sequence[Route], peers: Mapping[str, Peer]) -> None:
    """Refuse rules that name peers which are none, or each other's name.

    Raises
    ------
    ConfigError
        The message names the path.
    """
    for index, route in enumerate(routes):
        for destination in route.deliver_to:
            peer = peers.get(destination)
            if destination != "sender" and (peer is None or peer.deliver is None):
                raise ConfigError(f"routes[{index}].deliver_to: {destination!r} is no peer with deliver in peers.yaml")
        for destination in route.originals_to:
            peer = peers.get(destination)
            if peer is None or peer.deliver is None:
                raise ConfigError(
                    f"routes[{index}].originals_to: {destination!r} is no peer with deliver in peers.yaml"
                )
        for source in route.priors.sources if route.priors is not None else ():
            if source not in peers or "priors" not in peers[source].ask:
                raise ConfigError(
                    f"routes[{index}].priors.from: {source!r} is no peer with ask: [priors] in peers.yaml"
                )
    names = [route.name for route in routes]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ConfigError(f"routes[{index}].name: {name!r} stands twice")


def _check_start(settings: Settings) -> None:
    """Refuse to listen to the network for nobody, and to ask ourselves for what we pass on."""
    _check_upstreams(settings)
    has_named_peer = any(not peer.is_local for peer in settings.peers.values())
    if settings.dimse.listens_beyond_this_machine and not has_named_peer:
        raise ConfigError(
            f"dimse.host: {settings.dimse.host} listens to the network, and peers.yaml lists nobody there. "
            "Run first: dicom-node peers add pacs1 --ae PACS1 --host 10.1.2.3 --port 104"
        )


def _check_upstreams(settings: Settings) -> None:
    http = settings.http
    for index, upstream in enumerate(settings.chat.upstreams):
        if is_this_node(upstream.url, host=http.host, port=http.port, public_url=http.public_url):
            raise ConfigError(
                f"chat.upstreams[{index}].url: {upstream.url} is this node itself (http.host, http.port). "
                "Name the server that runs the model, or leave it empty."
            )
