"""The node's settings, as one frozen value that `main` hands down in parts."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    Field,
    FilePath,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    StringConstraints,
    model_validator,
)

from configs.chat import ChatSettings
from configs.engines import EngineName, EngineSettings
from configs.peers import Peer, is_loopback
from configs.routes import Route
from configs.section import AeTitle, Section

Port = Annotated[int, Field(ge=0, le=65535)]


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"unknown time zone {name!r}: use a name such as Europe/Vienna") from error
    return name


def _network(source: str) -> str:
    try:
        ip_network(source, strict=False)
    except ValueError as error:
        raise ValueError(f"{source!r} is no address and no network, such as 10.1.2.3 or 10.1.0.0/16") from error
    return source


class NodeSettings(Section):
    """Who this node says it is."""

    name: str = "dicom-node"
    """Station name in what the node makes, at most 16 characters."""
    serial_number: str = "1"
    """Device serial number of this installation (0018,1000)."""
    institution_name: str = ""
    timezone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    """Time zone of results whose sources name none."""


class TlsSettings(Section):
    """How peers are served over TLS: `dimse.port` then speaks TLS alone."""

    certificate: FilePath
    """Our certificate with its chain (PEM)."""
    key: FilePath
    """Its private key, without a password."""
    ca: FilePath | None = None
    """Certificates (PEM) of whoever signs those of peers."""
    require_client_certificate: bool = True
    """Whether a peer must show a certificate, in the name of its AE title, its host, or as its `tls` says."""
    plaintext_port: Port | None = None
    """Port without TLS beside, for peers that have none."""

    @model_validator(mode="after")
    def check_ca(self) -> Self:
        if self.require_client_certificate and self.ca is None:
            raise ValueError("require_client_certificate needs ca")
        return self


class DimseSettings(Section):
    """Where DICOM peers reach the node."""

    ae_title: AeTitle = "DICOMNODE"
    also_answers_to: tuple[AeTitle, ...] = ()
    """Further AE titles of this node; rules see which one was called."""
    host: str = "127.0.0.1"
    port: Port = 11112
    processes: PositiveInt = 1
    """Receivers that share the port; the kernel deals connections out to them."""
    maximum_associations: PositiveInt = 100
    """Of each receiver."""
    maximum_pdu_size: PositiveInt = 131072
    maximum_instance_mb: PositiveFloat = 16384.0
    """Megabytes (10^6 bytes) that one instance may have; a larger one ends its association."""
    maximum_association_gb: PositiveFloat = 10240.0
    """Gigabytes (10^9 bytes) that one association may bring."""
    idle_after_s: PositiveFloat = 600.0
    """Seconds without traffic after which an association is ended."""
    answer_within_s: PositiveFloat = 30.0
    """Seconds that a peer may take to answer a message or an association request."""
    tls: TlsSettings | None = None

    @property
    def listens_beyond_this_machine(self) -> bool:
        """Whether others than this machine can reach the port."""
        return not is_loopback(self.host)


class HttpSettings(Section):
    """Where programs, viewers and the console reach the node."""

    host: str = "127.0.0.1"
    port: Port = 8080
    public_url: str = ""
    """Base URL as others see it; empty: taken from each request."""
    cors_origins: tuple[str, ...] = ()
    store_part_mb: PositiveFloat = 4096.0
    """Megabytes (10^6 bytes) that one instance may have that is stored over HTTP."""
    store_request_mb: PositiveFloat = 65536.0
    """Megabytes that one request to store may have; nothing of it is held in memory."""
    delete: bool = False
    """Whether keys with the permission `delete` may delete studies, series and instances by HTTP DELETE."""
    trusted_proxies: tuple[Annotated[str, AfterValidator(_network)], ...] = ()
    """Addresses and networks whose Forwarded and X-Forwarded-* headers say under which address the node was reached."""

    def base_url(self, *, port: int | None = None) -> str:
        """Say where a browser finds the node; `port`: the one in use, where any free one was asked for."""
        if self.public_url:
            return self.public_url.rstrip("/")
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 (names the bind)
        return f"http://{f'[{host}]' if ':' in host else host}:{port or self.port}"

    @property
    def listens_beyond_this_machine(self) -> bool:
        """Whether others than this machine can reach the port."""
        return not is_loopback(self.host)


def _given(secret: SecretStr | None) -> SecretStr | None:
    return secret if secret is not None and secret.get_secret_value().strip() else None


class AuthSettings(Section):
    """Who may use HTTP."""

    local: Literal["open", "closed"] = "open"
    """`open`: no key is needed on a loopback-only bind, for requests that plainly come from this machine."""
    admin_key: Annotated[SecretStr | None, AfterValidator(_given)] = None
    """Empty or absent: made at first start."""


def _known_database(url: str) -> str:
    if url and not url.startswith(("sqlite:///", "postgresql+psycopg://")):
        raise ValueError("must be empty (SQLite in the data directory) or postgresql+psycopg://user@host/name")
    return url


def _known_blobs(url: str) -> str:
    if url:
        raise ValueError("must be empty: instances are kept as files in the data directory")
    return url


class DatabaseSettings(Section):
    """Where the index and the queue live."""

    url: Annotated[str, AfterValidator(_known_database)] = ""
    """SQLAlchemy URL; empty: SQLite in the data directory."""


class BlobSettings(Section):
    """Where instances live."""

    url: Annotated[str, AfterValidator(_known_blobs)] = ""
    """Empty: local files in the data directory."""


class QuietSettings(Section):
    """When a study is taken to be complete."""

    after_s: PositiveFloat = 5.0
    """Seconds since the last instance, with its sender no longer active."""
    sender_idle_after_s: PositiveFloat = 2.0
    """Seconds without traffic after which an open association no longer counts as active."""
    at_most_s: PositiveFloat = 1800.0
    """Seconds of gathering after which the study is taken as it stands."""
    adapts: bool = True
    """Whether a sender that was seen to pause for longer is waited for longer."""
    adapted_at_most_s: PositiveFloat = 60.0
    """Seconds of silence that are waited for at most for a sender that pauses."""
    missing_at_most_s: NonNegativeFloat = 120.0
    """Seconds since the last instance for which instances are waited for that are known to exist and are not here."""

    @model_validator(mode="after")
    def check_order(self) -> Self:
        if self.after_s > self.at_most_s:
            raise ValueError(f"need after_s <= at_most_s, not {self.after_s} > {self.at_most_s}")
        return self


class DeliverySettings(Section):
    """How results go out."""

    settle_s: NonNegativeFloat = 60.0
    """Seconds after the study's last instance before results leave, where completeness had no evidence."""
    first_retry_s: PositiveFloat = 5.0
    retry_at_most_s: PositiveFloat = 900.0
    """Ceiling of the back-off."""
    attempts: PositiveInt = 50
    """Attempts before a delivery is given up and waits for a person."""


class DiskSettings(Section):
    """What is never filled."""

    reserve_mb: NonNegativeFloat = 1024.0
    """Megabytes (10^6 bytes) that stay free: instances are refused before they are touched."""
    warn_at_percent: Annotated[float, Field(gt=0, le=100)] = 70.0
    """How full the disk may be before the log warns."""


class RetentionRule(Section):
    """When one class of instances may go; a study's go together, the oldest study first."""

    after_days: PositiveFloat | None = None
    """Days after which they go, whatever room there is."""
    at_percent: Annotated[float, Field(gt=0, le=100)] | None = None
    """How full the disk may be before the oldest go."""
    at_gb: PositiveFloat | None = None
    """Gigabytes (10^9 bytes) that they may have together before the oldest go."""


class RetentionSettings(Section):
    """What goes in time; nothing undelivered, unconfirmed, or committed to ever does."""

    sources: RetentionRule = RetentionRule(after_days=14, at_percent=80)
    """What peers with `archive: true` sent; what others sent stays."""
    results: RetentionRule = RetentionRule()
    """Results that a destination has confirmed to have."""
    release_committed_after_days: PositiveFloat | None = None
    """Days after which a storage commitment of ours binds no more; None: it binds for ever."""


WebhookEvent = Literal[
    "study.result",
    "study.declined",
    "study.failed",
    "study.quarantined",
    "delivery.confirmed",
    "delivery.failed",
    "result.retracted",
    "stuck",
]


class WebhookSettings(Section):
    """One program that is told by HTTP what happens."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://[^/@?#]+([/?][^#]*)?$")]
    """https, or http to a network under `allow`."""
    secret: Annotated[SecretStr, Field(min_length=16)]
    """Signs what is sent; both sides know it."""
    events: tuple[WebhookEvent, ...] = ("study.result", "study.failed", "delivery.failed", "stuck")
    patient_data: bool = False
    """Whether Patient ID, Patient's Name and Accession Number are sent too."""
    allow: tuple[Annotated[str, AfterValidator(_network)], ...] = ()
    """Networks that may be called though they are not public."""
    per_minute: PositiveInt = 60
    """Events sent in a minute at most; more wait."""
    attempts: PositiveInt = 20
    """Attempts before an event is given up."""


class LogSettings(Section):
    """What the node writes to its error stream."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    form: Literal["text", "json"] = "text"


class Settings(Section):
    """All of it: `node.yaml`, `peers.yaml`, `routes.yaml`, `engines.yaml` and the environment."""

    data_dir: Path = Path("data")
    node: NodeSettings = NodeSettings()
    dimse: DimseSettings = DimseSettings()
    http: HttpSettings = HttpSettings()
    auth: AuthSettings = AuthSettings()
    database: DatabaseSettings = DatabaseSettings()
    blobs: BlobSettings = BlobSettings()
    quiet: QuietSettings = QuietSettings()
    delivery: DeliverySettings = DeliverySettings()
    disk: DiskSettings = DiskSettings()
    retention: RetentionSettings = RetentionSettings()
    webhooks: dict[Annotated[str, StringConstraints(max_length=64)], WebhookSettings] = {}
    chat: ChatSettings = ChatSettings()
    log: LogSettings = LogSettings()
    peers: dict[str, Peer] = {}
    routes: tuple[Route, ...] = ()
    engines: dict[EngineName, EngineSettings] = {}
