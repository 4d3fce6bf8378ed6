"""The chat role: the language model that the node runs itself."""

from __future__ import annotations

from dicom_node.chat_backend import backend_of, chat_socket
from dicom_node.supervisor import RoleContext
from inference.chat.llama import LlamaModel, run_model


def run(context: RoleContext) -> None:
    """Keep the model running until told to stop.

    It is ready before the model is: a model that is slow to load, or broken, holds up nothing else.
    """
    settings = context.settings
    llama, backend = settings.chat.llama_cpp, backend_of(settings)
    context.ready()
    if backend.model is None:
        context.stop.wait()
        return
    model = LlamaModel(
        model=backend.model.absolute(),
        projector=backend.projector.absolute() if backend.projector is not None else None,
        socket=chat_socket(settings.data_dir),
        context_size=llama.context_size,
        threads=llama.threads,
        gpu_layers=None if llama.gpu_layers == "auto" else llama.gpu_layers,
    )
    run_model(model, wait=context.stop.wait)
