"""The process that holds a model: llama.cpp's own server on a Unix socket. Run by `llama` alone.

It lives until its standard input ends. It knows nothing of the node: no setting, no secret, no patient.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Load the model and answer until nobody is there."""
    asked = json.loads(sys.argv[1])
    os.umask(0o077)  # the socket is its owner's
    # llama.cpp does not take the place of a socket that a killed process left.
    Path(asked["socket"]).unlink(missing_ok=True)
    server = _serve(asked)
    sys.stdin.buffer.read()
    del server
    os._exit(0)


def _serve(asked: dict[str, Any]) -> object:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = asked["model"]
    if asked["projector"]:
        params.mmproj.path = asked["projector"]
    params.model_alias = {asked["name"]}
    params.hostnames = [asked["socket"]]
    params.n_ctx = asked["context_size"]
    params.n_parallel = 1  # a window shared between several would be too small for images
    params.cpuparams.n_threads = asked["threads"]
    params.n_gpu_layers = asked["gpu_layers"]
    # Nothing is fetched, nothing is shown, nothing is told that was not asked for.
    params.offline = True
    params.ui = False
    params.endpoint_slots = False
    params.endpoint_props = False
    params.server_tools = []
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
