"""Which presentation contexts are accepted, and with which transfer syntax."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from pydicom.uid import UID
from pynetdicom import AllStoragePresentationContexts, build_context
from pynetdicom.pdu_primitives import SOPClassCommonExtendedNegotiation
from pynetdicom.presentation import PresentationContext

from configs.peers import Service

VERIFICATION = "1.2.840.10008.1.1"
#: Source: PS3.4 Annex B (Storage Service Class).
STORAGE_SERVICE_CLASS = "1.2.840.10008.4.2"

#: SOP Class → the service that answers it; storage is told by rule.
#: Source: PS3.4 A.4 (Verification), J.3 (Storage Commitment).
SERVICE_CLASSES: dict[str, Service] = {
    VERIFICATION: "echo",
    "1.2.840.10008.1.20.1": "commit",  # Storage Commitment Push Model
}

UNCOMPRESSED = (
    "1.2.840.10008.1.2.1",  # Explicit VR Little Endian
    "1.2.840.10008.1.2",  # Implicit VR Little Endian
    "1.2.840.10008.1.2.2",  # Explicit VR Big Endian (retired)
)
LOSSLESS = (
    "1.2.840.10008.1.2.1.99",  # Deflated Explicit VR Little Endian
    "1.2.840.10008.1.2.1.98",  # Encapsulated Uncompressed
    "1.2.840.10008.1.2.8.1",  # Deflated Image Frame Compression
    "1.2.840.10008.1.2.5",  # RLE Lossless
    "1.2.840.10008.1.2.4.70",  # JPEG Lossless, first-order prediction
    "1.2.840.10008.1.2.4.57",  # JPEG Lossless, process 14
    "1.2.840.10008.1.2.4.80",  # JPEG-LS Lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000, lossless only
    "1.2.840.10008.1.2.4.201",  # HTJ2K, lossless only
    "1.2.840.10008.1.2.4.202",  # HTJ2K with RPCL, lossless only
    "1.2.840.10008.1.2.4.92",  # JPEG 2000 Part 2, lossless only
    "1.2.840.10008.1.2.4.110",  # JPEG XL Lossless
    "1.2.840.10008.1.2.4.58",  # JPEG Lossless, process 15 (retired)
    "1.2.840.10008.1.2.4.65",  # JPEG Lossless, hierarchical, process 28 (retired)
    "1.2.840.10008.1.2.4.66",  # JPEG Lossless, hierarchical, process 29 (retired)
)
#: Syntaxes that may hold pixels which lost something: taken where nothing else is offered.
LOSSY = (
    "1.2.840.10008.1.2.4.203",  # HTJ2K
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.81",  # JPEG-LS Near-Lossless
    "1.2.840.10008.1.2.4.50",  # JPEG Baseline
    "1.2.840.10008.1.2.4.51",  # JPEG Extended
    "1.2.840.10008.1.2.4.93",  # JPEG 2000 Part 2
    "1.2.840.10008.1.2.4.111",  # JPEG XL JPEG Recompression
    "1.2.840.10008.1.2.4.112",  # JPEG XL
    "1.2.840.10008.1.2.4.107",  # HEVC Main
    "1.2.840.10008.1.2.4.108",  # HEVC Main 10
    *(f"1.2.840.10008.1.2.4.{number}" for number in range(100, 107)),  # MPEG2, MPEG-4
    *(f"1.2.840.10008.1.2.4.{number}.1" for number in range(100, 107)),  # the same, fragmentable
    *(f"1.2.840.10008.1.2.4.{number}" for number in range(52, 57)),  # other JPEG processes (retired)
    *(f"1.2.840.10008.1.2.4.{number}" for number in range(59, 65)),  # hierarchical JPEG (retired)
)

#: In the order in which they are picked where a context offers several: a sender compresses to what we pick,
#: and densities suffer from it. Source: PS3.5 Annex A, PS3.6 Table A-1.
TRANSFER_SYNTAXES = UNCOMPRESSED + LOSSLESS + LOSSY

#: Storage SOP Classes of the standard whose instances belong to no patient and so to no study: not accepted.
#: Source: PS3.4 Annex GG (Non-Patient Object Storage), PS3.10 (media directory).
WITHOUT_PATIENT = frozenset(
    {
        "1.2.840.10008.1.3.10",  # Media Storage Directory
        "1.2.840.10008.5.1.4.38.1",  # Hanging Protocol
        "1.2.840.10008.5.1.4.39.1",  # Color Palette
        "1.2.840.10008.5.1.4.43.1",  # Generic Implant Template
        "1.2.840.10008.5.1.4.44.1",  # Implant Assembly Template
        "1.2.840.10008.5.1.4.45.1",  # Implant Template Group
        "1.2.840.10008.5.1.4.1.1.200.1",  # CT Defined Procedure Protocol
        "1.2.840.10008.5.1.4.1.1.200.3",  # Protocol Approval
        "1.2.840.10008.5.1.4.1.1.200.7",  # XA Defined Procedure Protocol
        "1.2.840.10008.5.1.4.1.1.201.1",  # Inventory
    }
)

#: Storage SOP Classes that pynetdicom dispatches by itself.
_DISPATCHED = frozenset(str(context.abstract_syntax) for context in AllStoragePresentationContexts)
_STANDARD_ROOT = "1.2.840.10008."
#: Storage SOP Classes that came after the dictionary in use have this root.
_STANDARD_STORAGE = "1.2.840.10008.5.1.4.1.1."
_RANK = {uid: rank for rank, uid in enumerate(TRANSFER_SYNTAXES)}


def service_of(abstract_syntax: str) -> Service | None:
    """Tell which of our services a presentation context asks for; None: none of them.

    Storage is every storage SOP Class of the standard, retired or newer than this program, and every private one.
    """
    if abstract_syntax in SERVICE_CLASSES:
        return SERVICE_CLASSES[abstract_syntax]
    if abstract_syntax in WITHOUT_PATIENT:
        return None
    if not abstract_syntax.startswith(_STANDARD_ROOT):
        return "store"
    uid = UID(abstract_syntax)
    if uid.type not in ("SOP Class", ""):
        return None
    if uid.name in ("", abstract_syntax):  # retired classes may have lost their name, newer ones have none here
        return "store" if abstract_syntax.startswith(_STANDARD_STORAGE) else None
    return "store" if "Storage" in uid.name and "Storage Commitment" not in uid.name else None


def supported_contexts(
    requested: Iterable[PresentationContext], accept: Collection[Service]
) -> list[PresentationContext]:
    """Give what we support of the contexts that one association asks for.

    Parameters
    ----------
    accept
        Services that the peer may use.

    Returns
    -------
    list of PresentationContext
        One per abstract syntax; its transfer syntaxes are those asked for that we take, in our order of preference.

    Source: PS3.8 7.1.1.14, PS3.7 D.3.2.
    """
    wanted: dict[str, set[str]] = {}
    for context in requested:
        abstract_syntax = str(context.abstract_syntax)
        if service_of(abstract_syntax) in accept:
            wanted.setdefault(abstract_syntax, set()).update(str(syntax) for syntax in context.transfer_syntax)
    return [
        build_context(abstract_syntax, sorted(taken, key=_RANK.__getitem__))
        for abstract_syntax, syntaxes in wanted.items()
        if (taken := [syntax for syntax in syntaxes if syntax in _RANK])
    ]


def storage_outside_dictionary(
    contexts: Iterable[PresentationContext],
) -> dict[UID, SOPClassCommonExtendedNegotiation]:
    """Say which contexts are storage although pynetdicom does not know their SOP Class.

    It is the answer to its question about SOP Class Common Extended Negotiation, asked on every association.
    """
    items: dict[UID, SOPClassCommonExtendedNegotiation] = {}
    for context in contexts:
        uid = context.abstract_syntax
        if uid is None or uid in _DISPATCHED or service_of(uid) != "store":
            continue
        item = SOPClassCommonExtendedNegotiation()
        item.sop_class_uid = uid
        item.service_class_uid = UID(STORAGE_SERVICE_CLASS)
        items[uid] = item
    return items
