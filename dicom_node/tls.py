"""DICOM over TLS: TLS 1.2 with forward secrecy and authenticated encryption, or TLS 1.3; nothing older, nothing weaker.

Source: PS3.15 B.12 (BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile).
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import ConfigError
from configs.peers import PeerTls
from configs.settings import TlsSettings

#: Cipher suites of TLS 1.2 that are offered and taken; those of TLS 1.3 are all sound. Source: RFC 9325 4.2.
SUITES = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)


@dataclass(frozen=True)
class Certificate:
    """What is known of the certificate that a caller showed, and that was verified."""

    names: frozenset[str]
    """Common name and subject alternative names (DNS, IP address, URI), without case."""
    sha256: str
    """Fingerprint, in hex."""


def incoming_context(settings: TlsSettings) -> ssl.SSLContext:
    """Make what connections to our TLS port are secured with.

    Raises
    ------
    ConfigError
        Certificate, key or CA are none, or do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0  # peers that look at the socket first would take a ticket for an answer, and wait for it
    _load(context, settings.certificate, settings.key, settings.ca, where="dimse.tls")
    if settings.ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED if settings.require_client_certificate else ssl.CERT_OPTIONAL
    return context


def outgoing_context(settings: PeerTls) -> ssl.SSLContext:
    """Make what a connection to a peer is secured with: it must show a certificate of its CA, in its own name.

    Raises
    ------
    ConfigError
        Certificate, key or CA are none, or do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    if settings.ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    _load(context, settings.certificate, settings.key, settings.ca, where="tls of the peer")
    return context


def certificate_of(connection: ssl.SSLSocket) -> Certificate | None:
    """Give the verified certificate of the other side; None: it showed none."""
    encoded = connection.getpeercert(binary_form=True)
    shown = connection.getpeercert()
    if not encoded or not shown:
        return None
    return Certificate(frozenset(_names(shown)), hashlib.sha256(encoded).hexdigest())


def is_bound(certificate: Certificate, names: Collection[str], sha256: str | None) -> bool:
    """Tell whether a certificate is one of those that a peer may show.

    Parameters
    ----------
    names
        It must bear one of them; case does not count.
    sha256
        Fingerprint that it must have; then names do not count.
    """
    if sha256 is not None:
        return certificate.sha256 == sha256.replace(":", "").lower()
    return not certificate.names.isdisjoint(name.lower() for name in names)


def why_failed(error: Exception) -> str:
    """Say why a handshake failed, without addresses of our own code."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message or "certificate verification failed"
    reason = getattr(error, "reason", None) or "the handshake failed"
    return str(reason).replace("_", " ").lower()


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(SUITES))
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


def _load(context: ssl.SSLContext, certificate: Path | None, key: Path | None, ca: Path | None, *, where: str) -> None:
    try:
        if certificate is not None:
            # An encrypted key cannot be asked for at a start without a terminal.
            context.load_cert_chain(certificate, key, password=_no_password)
        if ca is not None:
            context.load_verify_locations(ca)
    except (ssl.SSLError, OSError, _KeyEncrypted) as error:
        why = error.reason if isinstance(error, ssl.SSLError) else str(error)
        raise ConfigError(f"{where}: certificate, key or ca cannot be used ({why}).") from error


class _KeyEncrypted(Exception):
    """The key asks for a password."""


def _no_password() -> str:
    raise _KeyEncrypted("the key is encrypted; give one without a password, readable by the node alone")


def _names(shown: Any) -> Iterator[str]:
    for relative in shown.get("subject", ()):
        for kind, value in relative:
            if kind == "commonName":
                yield str(value).lower()
    for kind, value in shown.get("subjectAltName", ()):
        if kind in ("DNS", "IP Address", "URI"):
            yield str(value).lower()
