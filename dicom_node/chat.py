"""The language model that the settings come to: `dicomweb.ports.ChatModel` filled."""

from __future__ import annotations

from configs.settings import Settings
from inference.chat.pool import ModelPool
from inference.chat.server import ModelServer, Where

#: What is answered where there is no model, with what is to be done about it.
NO_MODEL = (
    "No language model is set up. Start a server that speaks the OpenAI API (such as vLLM, llama-server or LocalAI) "
    "with MedGemma, name it in node.yaml as chat.upstreams: [{url: http://HOST:PORT}] or as MEDGEMMA_BASE_URL, and "
    "start the node again. See docs/chat.md."
)
SWITCHED_OFF = "The language model is switched off here: set chat.enabled (MEDGEMMA_ENABLED) to true."
NONE_ASKED_FOR = (
    "The language model is switched off here: chat.backend is none. Set it to auto, and start the node again."
)


def chat_model(settings: Settings) -> ModelPool:
    """Make what answers, or what says why nothing does."""
    chat = settings.chat
    servers = []
    if chat.chosen == "upstream":
        servers = [
            ModelServer(
                Where(upstream.url, key=upstream.key.get_secret_value() if upstream.key else ""),
                timeout_s=chat.timeout_s,
            )
            for upstream in chat.upstreams
        ]
    return ModelPool(servers, model=chat.model, concurrent=chat.concurrent, absent="" if servers else _absent(settings))


def _absent(settings: Settings) -> str:
    if not settings.chat.enabled:
        return SWITCHED_OFF
    return NONE_ASKED_FOR if settings.chat.backend == "none" else NO_MODEL
