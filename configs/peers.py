"""Who may talk to the node, and where it sends."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    FilePath,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    StringConstraints,
    Tag,
    model_validator,
)

from configs.passcode import is_hash
from configs.section import AeTitle, Section

Service = Literal["echo", "store", "find", "move", "get", "commit", "mpps", "ian"]
Question = Literal["counts", "priors", "worklist"]
ObjectKind = Literal["sr", "seg", "text", "capture", "summary", "pdf"]
Outlines = Literal["labelmap", "binary", "capture"]
Report = Literal["comprehensive-3d", "comprehensive", "enhanced", "basic-text", "pdf", "summary"]
Confirm = Literal["auto", "commitment", "find", "none"]


def _from(wanted: object, every: Sequence[str]) -> object:
    """Let one word stand for itself and all that comes after it."""
    if not isinstance(wanted, str):
        return wanted
    return every[every.index(wanted) :] if wanted in every else (wanted,)


def _from_outlines(wanted: object) -> object:
    return _from(wanted, get_args(Outlines))


def _from_report(wanted: object) -> object:
    return _from(wanted, get_args(Report))


#: Run lengths, JPEG 2000 (lossless), JPEG-LS (lossless), whole data sets deflated, frames deflated one by one.
Encoding = Literal["rle", "jpeg-2000", "jpeg-ls", "deflated", "deflated-frames"]


class Deliver(Section):
    """What a destination gets, whichever way it goes."""

    send: Annotated[tuple[ObjectKind, ...], Field(min_length=1)] = ("sr", "seg")
    """Report with measurements, segmentation, report as text, outlines as pictures, one page as a picture or as PDF."""
    outlines: Annotated[tuple[Outlines, ...], BeforeValidator(_from_outlines), Field(min_length=1)] = (
        "binary",
        "capture",
    )
    """How segmentations are sent, best first. Said as one word: that form, and those after it where it is not taken."""
    report: Annotated[tuple[Report, ...], BeforeValidator(_from_report), Field(min_length=1)] = get_args(Report)
    """How reports with measurements are sent, best first; one word: as with `outlines`."""
    encodings: tuple[Encoding, ...] = ()
    """Lossless encodings to go before uncompressed, best first, each for what can have it: over DIMSE where the peer
    accepts them, over STOW-RS until the service refuses the syntax; into a folder goes the first."""


class DeliverByDimse(Deliver):
    """Results go out by C-STORE to the peer's host and port."""

    by: Literal["dimse"] = "dimse"
    confirm: Confirm = "auto"
    """How the node makes sure that they are kept there: by storage commitment, by C-FIND, or by what it offers."""


class DeliverByStow(Deliver):
    """Results go out by STOW-RS."""

    by: Literal["stow"]
    url: Annotated[str, StringConstraints(pattern=r"^https?://[^/?#\s@]+[^?#\s]*$")]
    """Base URL of the DICOMweb service, to which `/studies` is added."""
    bearer: SecretStr | None = None
    """Token for `Authorization: Bearer`."""
    api_key: SecretStr | None = None
    api_key_header: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]+$")] = "X-API-Key"
    """Header in which the API key goes."""
    user: str | None = None
    """Name for `Authorization: Basic`, with `password`."""
    password: SecretStr | None = None
    confirm: Literal["auto", "find", "none"] = "auto"
    """How the node makes sure that they are kept there: by QIDO-RS."""

    @model_validator(mode="after")
    def check_secrets(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password belong together")
        if self.bearer is not None and self.user is not None:
            raise ValueError("bearer and user exclude each other: both are said in Authorization")
        secret = (self.bearer, self.api_key, self.password) != (None, None, None)
        if secret and self.url.startswith("http:") and not is_loopback(urlsplit(self.url).hostname or ""):
            raise ValueError("a key, token or password goes over https alone, beyond this machine")
        return self


class DeliverByFolder(Deliver):
    """Results go out as DICOM files into a folder of this machine."""

    by: Literal["folder"]
    path: Path
    """The folder; it must be there."""

    @model_validator(mode="after")
    def check_path(self) -> Self:
        if not self.path.is_absolute():
            raise ValueError("path must be absolute")
        return self


def _way(deliver: object) -> object:
    by = deliver.get("by", "dimse") if isinstance(deliver, dict) else getattr(deliver, "by", None)
    return by if isinstance(by, str) else None


AnyDeliver = Annotated[
    Annotated[DeliverByDimse, Tag("dimse")]
    | Annotated[DeliverByStow, Tag("stow")]
    | Annotated[DeliverByFolder, Tag("folder")],
    Discriminator(
        _way,
        custom_error_type="deliver_by",
        custom_error_message="by must be dimse, stow or folder",
    ),
]


class FetchByDimse(Section):
    """Earlier studies come by C-MOVE, to our own AE title, or by C-GET on the association of the request."""

    by: Literal["move", "get"] = "move"


class FetchByWeb(Section):
    """Earlier studies are found by QIDO-RS and come by WADO-RS."""

    by: Literal["dicomweb"]
    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$")]
    """Base of the service: `{url}/studies` is asked."""
    bearer: SecretStr | None = None
    """Sent as `Authorization: Bearer`."""
    user: str | None = None
    password: SecretStr | None = None
    """Sent as HTTP Basic, with `user`."""
    ca: FilePath | None = None
    """Certificates (PEM) of whoever signs the service's; absent: the system's."""

    @model_validator(mode="after")
    def check_pair(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password belong together")
        if self.bearer is not None and self.user is not None:
            raise ValueError("bearer and user exclude each other")
        return self


class Caps(Section):
    """How much of the node one peer may take."""

    associations: PositiveInt | None = None
    instances_per_minute: PositiveInt | None = None


class PeerTls(Section):
    """How the peer and the node talk TLS; a peer that has it is neither called nor let in without."""

    ca: FilePath | None = None
    """Certificates (PEM) of whoever signs the peer's; absent: the system's."""
    certificate: FilePath | None = None
    """Our certificate with its chain (PEM), shown where the peer asks for one."""
    key: FilePath | None = None
    """Its private key, without a password."""
    server_name: str | None = None
    """Name in the certificate of the peer when we call it; absent: `host`."""
    names: tuple[str, ...] = ()
    """Names of which its certificate must bear one when it calls; empty: its AE title or host."""
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f:]{64,95}$")] | None = None
    """Fingerprint of the certificate that it must show when it calls, in place of a name."""

    @model_validator(mode="after")
    def check_pair(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        return self


class Peer(Section):
    """One remote application entity."""

    ae_title: AeTitle = "*"
    """Exact AE title, or `*` for any; exact ones are matched first, then the narrower network.

    Only a destination that neither calls nor is called by DICOM may leave it out.
    """
    host: str | None = None
    """Where the node calls the peer."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    sources: tuple[str, ...] = Field(default=(), alias="from")
    """Addresses, host names and networks that may call as this peer; empty: `host`."""
    accept: tuple[Service, ...] = ("echo", "store")
    deliver: AnyDeliver | None = None
    """How results reach the peer; absent: it is never a destination."""
    archive: bool = False
    """It keeps the originals."""
    ask: tuple[Question, ...] = ()
    """What the node asks of it: how many instances it has of a study (evidence), earlier studies, urgency."""
    fetch: Annotated[FetchByDimse | FetchByWeb, Field(discriminator="by")] = FetchByDimse()
    """How earlier studies come from it."""
    quiet_after_s: PositiveFloat | None = None
    settle_s: NonNegativeFloat | None = None
    corrections: Literal["hold", "accept"] = "hold"
    answer_as: AeTitle | None = None
    """The node's own AE title towards this peer."""
    caps: Caps = Caps()
    tls: PeerTls | None = None
    users: dict[str, SecretStr] = {}
    """User → hash of its passcode, one of which the peer must give; empty: it need not say who uses it."""

    @model_validator(mode="after")
    def check_reach(self) -> Self:
        if isinstance(self.deliver, DeliverByDimse) and (self.host is None or self.port is None):
            raise ValueError("deliver needs host and port")
        if self.archive and "commit" in self.accept:
            raise ValueError("archive: true and accept: commit exclude each other")
        if "counts" in self.ask and not self.archive:
            raise ValueError("ask: counts needs archive: true; what another peer has proves nothing")
        if self.needs_dimse and (self.host is None or self.port is None):
            raise ValueError("ask needs host and port")
        by_dicom = self.deliver is None or self.deliver.by == "dimse"
        if not self.sources and self.host is None and by_dicom:
            raise ValueError("needs host or from")
        if "ae_title" not in self.model_fields_set and (self.may_call_from or by_dicom):
            raise ValueError("needs ae_title")
        for user, hashed in self.users.items():
            if not is_hash(hashed.get_secret_value()):
                raise ValueError(f"users.{user}: give the hash that `dicom-node peers passcode` prints")
        return self

    @property
    def needs_dimse(self) -> bool:
        """Whether what is asked of it goes by C-FIND."""
        return any(each != "priors" or self.fetch.by != "dicomweb" for each in self.ask)

    @property
    def may_call_from(self) -> tuple[str, ...]:
        """Addresses, names and networks from which this peer may call."""
        return self.sources or ((self.host,) if self.host else ())

    @property
    def services(self) -> tuple[Service, ...]:
        """Services whose contexts it gets: what it may ask for, and reports of the commitment that we ask it for."""
        reports = isinstance(self.deliver, DeliverByDimse) and self.deliver.confirm in ("auto", "commitment")
        return (*self.accept, "commit") if reports and "commit" not in self.accept else self.accept

    @property
    def where(self) -> str:
        """Where the node reaches it, as messages and lists say; empty: nowhere."""
        if isinstance(self.deliver, DeliverByStow):
            return self.deliver.url
        if isinstance(self.deliver, DeliverByFolder):
            return str(self.deliver.path)
        return f"{self.host}:{self.port}" if self.port else ""

    @property
    def is_local(self) -> bool:
        """Whether every source of the peer is this machine."""
        return all(is_loopback(source) for source in self.may_call_from)


def is_loopback(source: str) -> bool:
    """Tell whether an address, network or host name means this machine alone."""
    if source == "localhost":
        return True
    try:
        return ipaddress.ip_network(source, strict=False).is_loopback
    except ValueError:
        return False
