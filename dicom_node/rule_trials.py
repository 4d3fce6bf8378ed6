"""The rules as the web role shows and tries them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from configs.peers import Peer
from configs.routes import Route
from dicom_node.live_routes import LiveRoutes
from dicom_node.worker.trial import Site, try_kept
from inference.engines.protocol import SeriesNeeds
from storage.blobs import BlobStore
from storage.index import Index
from storage.records import StudyFilter


class RuleTrials:
    """Fills `dicomweb.ports.Rules`."""

    def __init__(
        self,
        routes: LiveRoutes,
        peers: Mapping[str, Peer],
        engines: Mapping[str, SeriesNeeds],
        index: Index,
        blobs: BlobStore,
    ) -> None:
        self._routes = routes
        self._peers = peers
        self._engines = engines
        self._index = index
        self._blobs = blobs

    def listed(self) -> Sequence[Route]:
        """Give the rules in the order in which they are tried."""
        return tuple(self._routes)

    @property
    def refusal(self) -> str:
        """Why `routes.yaml` as it stands is not taken; empty: it is."""
        return self._routes.refusal

    def tried(self, study_instance_uid: str, visible: StudyFilter) -> dict[str, Any]:
        """Try them on a kept study, without any effect."""
        site = Site(self.listed(), self._peers, self._engines)
        return try_kept(study_instance_uid, site, self._index, self._blobs, visible)
