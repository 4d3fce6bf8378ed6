"""The language model that the settings come to: `dicomweb.ports.ChatModel` filled."""

from __future__ import annotations

from configs.settings import Settings
from dicom_node.chat_backend import backend_of, chat_socket
from inference.chat.pool import ModelPool
from inference.chat.server import ModelServer, Where


def chat_model(settings: Settings) -> ModelPool:
    """Make what answers, or what says why nothing does."""
    chat, backend = settings.chat, backend_of(settings)
    concurrent = chat.concurrent
    places: list[Where] = []
    if backend.kind == "upstream":
        places = [Where(each.url, key=each.key.get_secret_value() if each.key else "") for each in chat.upstreams]
    elif backend.kind == "llama_cpp":
        socket = str(chat_socket(settings.data_dir))
        places = [Where("http://model", socket=socket, name="The language model of this node")]
        concurrent = min(concurrent, 1 + chat.llama_cpp.waiting)
    servers = [ModelServer(place, timeout_s=chat.timeout_s) for place in places]
    return ModelPool(servers, model=chat.model, concurrent=concurrent, absent=backend.absent)
