"""Where a C-MOVE sends to: a storage SCP by pynetdicom, that answers as told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.events import Event

from configs.peers import Peer
from tests.builders.dimse import CT_IMAGE_STORAGE, EXPLICIT


class Destination:
    """A storage SCP that is up until it is closed."""

    def __init__(self, *, syntaxes: tuple[str, ...] = (EXPLICIT,), answer: Callable[[int], int] = lambda _: 0) -> None:
        self.arrived: list[tuple[str, str, Any]] = []
        self.requests: list[Any] = []
        self._answer = answer
        entity = AE(ae_title="DEST")
        entity.add_supported_context(CT_IMAGE_STORAGE, list(syntaxes))
        self._server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        assert self._server is not None
        self.port = int(self._server.server_address[1])

    @property
    def peer(self) -> Peer:
        return Peer(ae_title="DEST", host="127.0.0.1", port=self.port)

    def _store(self, event: Event) -> int:
        self.requests.append(event.request)
        dataset = event.dataset
        dataset.decode()
        self.arrived.append((str(event.request.AffectedSOPInstanceUID), str(event.context.transfer_syntax), dataset))
        return self._answer(len(self.arrived))

    def close(self) -> None:
        self._server.shutdown()
