"""Which language model the settings come to. It imports no model and no client: the supervisor asks it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from configs.errors import ConfigError
from configs.settings import Settings

#: The package that runs a GGUF model here.
RUNTIME = "xllamacpp"
#: Bytes of a Unix socket's path at most (108 on Linux, 104 elsewhere), its end included.
_LONGEST_SOCKET_PATH = 100

NO_MODEL = (
    "No language model is set up. Either start a server that speaks the OpenAI API (such as vLLM, llama-server or "
    "LocalAI) with MedGemma and name it in node.yaml as chat.upstreams: [{{url: http://HOST:PORT}}] or as "
    "MEDGEMMA_BASE_URL; or put MedGemma as a GGUF file, with its projector mmproj-*.gguf, into {models}. "
    "Then start the node again. See docs/chat.md."
)
NO_RUNTIME = (
    "A language model is in {models}, and what runs it is not installed. In the node's folder run: "
    "python3 scripts/bootstrap.py chat. Then start the node again. See docs/chat.md."
)
SEVERAL = (
    "There are several language models in {models}, and none with {quantization} in its name. Name one as "
    "chat.llama_cpp.model_path, or choose by chat.llama_cpp.quantization (MODEL_QUANT). Then start the node again."
)
SWITCHED_OFF = "The language model is switched off here: set chat.enabled (MEDGEMMA_ENABLED) to true."
NONE_ASKED_FOR = (
    "The language model is switched off here: chat.backend is none. Set it to auto, and start the node again."
)


@dataclass(frozen=True)
class Backend:
    """What answers."""

    kind: Literal["upstream", "llama_cpp", "none"]
    absent: str = ""
    """Why nothing does, and what is to be done."""
    model: Path | None = None
    projector: Path | None = None


def backend_of(settings: Settings) -> Backend:
    """Find out what answers with these settings and what lies in the data directory.

    Raises
    ------
    ConfigError
        A file is named that is not there.
    """
    chat = settings.chat
    if not chat.enabled:
        return Backend("none", SWITCHED_OFF)
    if chat.backend == "none":
        return Backend("none", NONE_ASKED_FOR)
    if chat.upstreams and chat.backend != "llama_cpp":
        return Backend("upstream")
    if chat.backend == "upstream":
        return Backend("none", NO_MODEL.format(models=models_dir(settings)))
    return _local(settings)


def models_dir(settings: Settings) -> Path:
    """Where the site puts language models."""
    return settings.data_dir / "models"


def chat_socket(data_dir: Path) -> Path:
    """Where the model's process listens; in a directory of our own where the data directory's name is too long.

    Raises
    ------
    ConfigError
        That directory is somebody else's.
    """
    path = data_dir / "chat.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"dicom-node-{os.getuid()}-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    said = folder.lstat()
    if said.st_uid != os.getuid() or not stat.S_ISDIR(said.st_mode) or said.st_mode & 0o077:
        raise ConfigError(f"{folder} is not this node's own directory: remove it, or give the node a shorter data_dir.")
    return folder / "chat.sock"


def _local(settings: Settings) -> Backend:
    llama = settings.chat.llama_cpp
    for key, path in (("model_path", llama.model_path), ("projector_path", llama.projector_path)):
        if path is not None and not path.is_file():
            raise ConfigError(f"chat.llama_cpp.{key}: {path}: there is no such file")
    folder = models_dir(settings)
    found = sorted(path for path in folder.glob("*.gguf") if not _is_projector(path) and _begins(path))
    matching = [path for path in found if llama.quantization.lower() in path.name.lower()]
    model = llama.model_path or next(iter(matching or (found if len(found) == 1 else [])), None)
    if model is None:
        said = SEVERAL if found else NO_MODEL
        return Backend("none", said.format(models=folder, quantization=llama.quantization))
    if importlib.util.find_spec(RUNTIME) is None:
        return Backend("none", NO_RUNTIME.format(models=model.parent))
    beside = sorted(path for path in model.parent.glob("*.gguf") if _is_projector(path))
    return Backend("llama_cpp", model=model, projector=llama.projector_path or next(iter(beside), None))


def _is_projector(path: Path) -> bool:
    return "mmproj" in path.name.lower()


def _begins(path: Path) -> bool:
    """Tell whether a file is a whole model, or the first of its parts."""
    return "-of-" not in path.name or "-00001-of-" in path.name
