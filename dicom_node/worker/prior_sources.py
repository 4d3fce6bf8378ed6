"""Peers from which earlier studies come: by C-FIND with C-MOVE or C-GET, or by QIDO-RS with WADO-RS."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from pydicom import Dataset

from configs.errors import NodeError
from configs.peers import FetchByWeb, Peer
from dicom_node.routing.priors import FoundSeries, FoundStudy
from dicom_node.scp.status import SUCCESS, status_for
from dicom_node.scu.association import Timeouts
from dicom_node.scu.find import find, identifier
from dicom_node.scu.retrieve import Received, get, move
from dicomweb import fetching
from dicomweb.fetching import Fetching
from storage.header import is_uid
from storage.intake import Intake
from storage.records import Origin, OriginKind

log = logging.getLogger(__name__)

_TIMEOUTS = Timeouts(connect_s=10.0, associate_s=15.0, answer_s=30.0)
#: Seconds that one series may take to come, and more for each image.
_SERIES_S = 120.0
_IMAGE_S = 1.0
#: Tags as DICOM JSON names them.
_STUDY_UID, _SERIES_UID, _INSTANCE_UID = "0020000D", "0020000E", "00080018"
_PATIENT_ID, _ISSUER, _DATE, _MODALITIES, _MODALITY = "00100020", "00100021", "00080020", "00080061", "00080060"
_BODY_PART, _IMAGES = "00180015", "00201209"


class PriorSource(Protocol):
    """One peer that may have earlier studies. Each method raises `NodeError` where it cannot be asked."""

    def studies(self, patient_id: str) -> list[FoundStudy]:
        """Give the studies of a patient; some may be of others."""
        ...

    def series(self, study_instance_uid: str) -> list[FoundSeries]:
        """Give the series of a study."""
        ...

    def fetch(self, study_instance_uid: str, series: FoundSeries) -> None:
        """Have the images of a series come in by the one door; those that are here already may come again."""
        ...


@dataclass(frozen=True)
class DimseSource:
    """A peer that is asked over DIMSE."""

    name: str
    peer: Peer
    calling_ae_title: str
    intake: Intake

    def studies(self, patient_id: str) -> list[FoundStudy]:
        """Ask by C-FIND. Source: PS3.4 C.6.2.1.2."""
        keys = {"StudyDate": "", "ModalitiesInStudy": "", "StudyInstanceUID": "", "IssuerOfPatientID": ""}
        return [
            FoundStudy(
                _text(each, "StudyInstanceUID"),
                _text(each, "PatientID"),
                _text(each, "IssuerOfPatientID"),
                _text(each, "StudyDate"),
                _texts(each, "ModalitiesInStudy"),
            )
            for each in self._find(identifier("STUDY", PatientID=patient_id, **keys))
        ]

    def series(self, study_instance_uid: str) -> list[FoundSeries]:
        """Ask by C-FIND. Source: PS3.4 C.6.2.1.3."""
        keys = {"SeriesInstanceUID": "", "Modality": "", "BodyPartExamined": "", "NumberOfSeriesRelatedInstances": ""}
        return [
            FoundSeries(
                _text(each, "SeriesInstanceUID"),
                _text(each, "Modality"),
                _text(each, "BodyPartExamined"),
                _number(_text(each, "NumberOfSeriesRelatedInstances")),
            )
            for each in self._find(identifier("SERIES", StudyInstanceUID=study_instance_uid, **keys))
        ]

    def fetch(self, study_instance_uid: str, series: FoundSeries) -> None:
        """Ask by C-MOVE or C-GET, as the peer's `fetch` says."""
        asked = identifier("SERIES", StudyInstanceUID=study_instance_uid, SeriesInstanceUID=series.series_instance_uid)
        within_s = _SERIES_S + _IMAGE_S * series.images
        if self.peer.fetch.by == "get":
            get(
                self.peer,
                calling_ae_title=self.calling_ae_title,
                identifier=asked,
                keep=self._keep,
                within_s=within_s,
            )
        else:
            move(self.peer, calling_ae_title=self.calling_ae_title, identifier=asked, within_s=within_s)

    def _find(self, asked: Dataset) -> list[Dataset]:
        return find(self.peer, calling_ae_title=self.calling_ae_title, identifier=asked, timeouts=_TIMEOUTS)

    def _keep(self, received: Received) -> int:
        origin = Origin(
            OriginKind.DIMSE,
            peer=self.name,
            calling_ae_title=self.peer.ae_title,
            called_ae_title=self.calling_ae_title,
            host=self.peer.host or "",
        )
        names = (received.sop_class_uid, received.sop_instance_uid, received.transfer_syntax_uid)
        try:
            with self.intake.open(origin, *names) as instance:
                instance.write(received.data_set)
                instance.keep()
        except NodeError as error:
            log.warning("a prior's instance was not kept", extra={"action": "prior_not_kept", "error": error.code})
            return status_for(error)
        return SUCCESS


@dataclass(frozen=True)
class WebSource:
    """A peer that is asked over DICOMweb."""

    name: str
    service: Fetching
    intake: Intake
    is_here: Callable[[str], bool]
    """Tells whether an instance is kept."""

    def studies(self, patient_id: str) -> list[FoundStudy]:
        """Ask by QIDO-RS."""
        return [
            FoundStudy(
                fetching.first(each, _STUDY_UID),
                fetching.first(each, _PATIENT_ID),
                fetching.first(each, _ISSUER),
                fetching.first(each, _DATE),
                fetching.every(each, _MODALITIES),
            )
            for each in fetching.search(self.service, "/studies", {"PatientID": patient_id})
        ]

    def series(self, study_instance_uid: str) -> list[FoundSeries]:
        """Ask by QIDO-RS."""
        query = {"includefield": "BodyPartExamined"}
        return [
            FoundSeries(
                fetching.first(each, _SERIES_UID),
                fetching.first(each, _MODALITY),
                fetching.first(each, _BODY_PART),
                _number(fetching.first(each, _IMAGES)),
            )
            for each in fetching.search(self.service, f"/studies/{study_instance_uid}/series", query)
        ]

    def fetch(self, study_instance_uid: str, series: FoundSeries) -> None:
        """Fetch by WADO-RS, instance by instance, what is not here."""
        uid = series.series_instance_uid
        for match in fetching.search(self.service, f"/studies/{study_instance_uid}/series/{uid}/instances", {}):
            instance = fetching.first(match, _INSTANCE_UID)
            if not is_uid(instance) or self.is_here(instance):
                continue
            fetching.retrieve(self.service, study_instance_uid, uid, instance, self._keep)

    def _keep(self, part10: BinaryIO) -> None:
        self.intake.receive(part10, Origin(OriginKind.STOW, peer=self.name, host=self.service.url[:255]))


def source_of(
    name: str, peer: Peer, *, calling_ae_title: str, intake: Intake, is_here: Callable[[str], bool]
) -> PriorSource:
    """Give the way to a peer's earlier studies that its `fetch` says."""
    if isinstance(peer.fetch, FetchByWeb):
        wanted = peer.fetch
        service = Fetching(
            url=wanted.url,
            bearer=wanted.bearer.get_secret_value() if wanted.bearer else "",
            user=wanted.user or "",
            password=wanted.password.get_secret_value() if wanted.password else "",
            ca=wanted.ca,
        )
        return WebSource(name, service, intake, is_here)
    return DimseSource(name, peer, peer.answer_as or calling_ae_title, intake)


def _text(answer: Dataset, keyword: str) -> str:
    values = _texts(answer, keyword)
    return values[0] if values else ""


def _texts(answer: Dataset, keyword: str) -> tuple[str, ...]:
    value = answer.get(keyword)
    if value is None or value == "":
        return ()
    values: Sequence[object] = value if isinstance(value, list) or hasattr(value, "append") else [value]
    return tuple(str(each) for each in values)


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0
