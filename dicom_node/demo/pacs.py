"""A small PACS stand-in: takes whatever it is sent, and says so. For the demo, for tests, for trying things out."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from pydicom import Dataset
from pynetdicom import build_context, evt
from pynetdicom.events import Event
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.transport import ThreadedAssociationServer

from dicom_node.network import application_entity
from dicom_node.platform import answer_without_delay
from dicom_node.scp.contexts import VERIFICATION, storage_outside_dictionary, supported_contexts

_UID = re.compile(r"\d+(\.\d+)*")
_MODALITY = re.compile(r"[A-Z]{1,16}")


class PacsStandIn:
    """Accepts C-ECHO and C-STORE from anyone on this machine and writes each instance to a folder.

    Parameters
    ----------
    folder
        Gets `<Modality>_<SOP Instance UID>.dcm` of each instance.
    port
        0: a free one.
    announce
        Told `{"listening": …}` once and `{"received": …}` for each instance; called from several threads.
    answer
        The Status of an instance, by its header; what is answered with a failure is not written.
    """

    def __init__(
        self,
        folder: Path,
        ae_title: str,
        *,
        port: int = 0,
        announce: Callable[[dict[str, Any]], None] = lambda _: None,
        answer: Callable[[Dataset], int] = lambda _: 0x0000,
    ) -> None:
        self._folder = folder
        self._ae_title = ae_title
        self._wanted_port = port
        self._announce = announce
        self._answer = answer
        self._server: ThreadedAssociationServer | None = None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1]) if self._server is not None else self._wanted_port

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        entity = application_entity(self._ae_title)
        entity.maximum_pdu_size = 131072
        entity.maximum_associations = 50
        self._server = entity.start_server(
            ("127.0.0.1", self._wanted_port),
            block=False,
            contexts=[build_context(VERIFICATION)],
            evt_handlers=[
                (evt.EVT_CONN_OPEN, _on_connection),
                (evt.EVT_REQUESTED, _on_requested),
                (evt.EVT_SOP_COMMON, _on_common_extended),
                (evt.EVT_C_STORE, self._on_store),
            ],
        )
        self._announce({"listening": self.port, "ae_title": self._ae_title})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server is None:
            return
        associations = self._server.active_associations
        self._server.shutdown()
        for association in associations:
            association.abort(block=False)
        for association in associations:
            association.join(5.0)

    def _on_store(self, event: Event) -> int:
        header = event.dataset
        status = self._answer(header)
        name = file_name(str(header.get("Modality", "")), str(header.get("SOPInstanceUID", "")))
        if status == 0x0000:
            beside = self._folder / f"{name}.{threading.get_ident()}.part"
            beside.write_bytes(event.encoded_dataset())
            beside.replace(self._folder / name)
        self._announce(
            {
                "received": name,
                "sop_class_uid": str(header.get("SOPClassUID", "")),
                "calling_ae_title": str(event.assoc.requestor.ae_title).strip(),
                "status": f"0x{status:04X}",
            }
        )
        return status


def file_name(modality: str, sop_instance_uid: str) -> str:
    """Name a file after an instance; a name that could be anything else than one becomes its digest."""
    kind = modality if _MODALITY.fullmatch(modality) else "OT"
    if len(sop_instance_uid) <= 64 and _UID.fullmatch(sop_instance_uid):
        return f"{kind}_{sop_instance_uid}.dcm"
    return f"{kind}_{hashlib.sha256(sop_instance_uid.encode()).hexdigest()[:32]}.dcm"


def run_pacs(
    folder: Path, ae_title: str, *, port: int = 0, announce: Callable[[dict[str, Any]], None], stop: threading.Event
) -> None:
    """Be the stand-in until told to stop."""
    with PacsStandIn(folder, ae_title, port=port, announce=announce):
        stop.wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run as a process: one line of JSON for each thing that happens, until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="A small PACS stand-in: accepts C-ECHO and C-STORE on this machine.")
    parser.add_argument("--folder", type=Path, required=True, help="where received instances go")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--ae", default="PACS", help="its AE title")
    given = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    lock = threading.Lock()

    def announce(event: dict[str, Any]) -> None:
        with lock:
            print(json.dumps(event), flush=True)

    run_pacs(given.folder, given.ae, port=given.port, announce=announce, stop=stop)


def _on_connection(event: Event) -> None:
    pipe = event.assoc.dul.socket
    if pipe is not None and pipe.socket is not None:
        answer_without_delay(pipe.socket)


def _on_requested(event: Event) -> None:
    request = cast(A_ASSOCIATE, event.assoc.requestor.primitive)
    requested = request.presentation_context_definition_list
    event.assoc.acceptor.supported_contexts = supported_contexts(requested, ("echo", "store"))


def _on_common_extended(event: Event) -> dict[Any, Any]:
    return dict(storage_outside_dictionary(event.assoc.acceptor.supported_contexts))


if __name__ == "__main__":
    main()
