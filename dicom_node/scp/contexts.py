"""Which presentation contexts are accepted, and with which transfer syntax."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache

from pydicom.uid import UID
from pynetdicom import AllStoragePresentationContexts, build_context
from pynetdicom.pdu_primitives import SOPClassCommonExtendedNegotiation
from pynetdicom.presentation import PresentationContext

from configs.peers import Service

VERIFICATION = "1.2.840.10008.1.1"
#: Storage Commitment Push Model. Source: PS3.4 J.3.
COMMITMENT = "1.2.840.10008.1.20.1"
#: Source: PS3.4 Annex B (Storage Service Class).
STORAGE_SERVICE_CLASS = "1.2.840.10008.4.2"

#: SOP Class → the service that answers it; storage is told by rule.
#: Source: PS3.4 A.4 (Verification), F.7 (Modality Performed Procedure Step), J.3 (Storage Commitment), R.3 (Instance
#: Availability Notification), C.6.1.3 (Patient Root), C.6.2.3 (Study Root).
SERVICE_CLASSES: dict[str, Service] = {
    VERIFICATION: "echo",
    COMMITMENT: "commit",
    "1.2.840.10008.3.1.2.3.3": "mpps",  # Modality Performed Procedure Step
    "1.2.840.10008.5.1.4.33": "ian",  # Instance Availability Notification
    "1.2.840.10008.5.1.4.1.2.1.1": "find",
    "1.2.840.10008.5.1.4.1.2.2.1": "find",
    "1.2.840.10008.5.1.4.1.2.1.2": "move",
    "1.2.840.10008.5.1.4.1.2.2.2": "move",
    "1.2.840.10008.5.1.4.1.2.1.3": "get",
    "1.2.840.10008.5.1.4.1.2.2.3": "get",
}
QUERY_RETRIEVE = frozenset(uid for uid, service in SERVICE_CLASSES.items() if service in ("find", "move", "get"))
#: Name under which pynetdicom finds our own class for these services (`scp/query_retrieve.py`).
QUERY_RETRIEVE_SERVICE_CLASS = "2.25.261437163936279184266431541268219303213"

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
    """Tell which of our services a presentation context asks for; None: none of them."""
    return SERVICE_CLASSES.get(abstract_syntax) or _storage(abstract_syntax)


@lru_cache(maxsize=1024)
def _storage(abstract_syntax: str) -> Service | None:
    """Storage is every storage SOP Class of the standard, retired or newer than this program, and every private one."""
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


def preferred_syntax(offered: Iterable[str]) -> str | None:
    """Pick the transfer syntax of a context among those offered; None: we take none of them."""
    return min((syntax for syntax in offered if syntax in _RANK), key=_RANK.__getitem__, default=None)


def supported_contexts(
    requested: Iterable[PresentationContext],
    accept: Collection[Service],
    roles: Mapping[str, tuple[bool, bool]] | None = None,
) -> list[PresentationContext]:
    """Give what we support of the contexts that one association asks for.

    Parameters
    ----------
    accept
        Services that the peer may use.
    roles
        SOP Class → the roles (SCU, SCP) that the requestor wants to have: SCP of storage, to be sent by C-GET.

    Returns
    -------
    list of PresentationContext
        One per abstract syntax; its transfer syntaxes are those asked for that we take, in our order of preference.

    Source: PS3.8 7.1.1.14, PS3.7 D.3.2, D.3.3.4 (roles).
    """
    wanted: dict[str, set[str]] = {}
    for context in requested:
        abstract_syntax = str(context.abstract_syntax)
        if service_of(abstract_syntax) in accept or _is_fetched(abstract_syntax, accept, roles):
            wanted.setdefault(abstract_syntax, set()).update(str(syntax) for syntax in context.transfer_syntax)
    supported: list[PresentationContext] = []
    for abstract_syntax, syntaxes in wanted.items():
        possible = UNCOMPRESSED if abstract_syntax in QUERY_RETRIEVE else TRANSFER_SYNTAXES
        taken = sorted(syntaxes.intersection(possible), key=_RANK.__getitem__)
        if not taken:
            continue
        context = build_context(abstract_syntax, taken)
        if _is_fetched(abstract_syntax, accept, roles):
            context.scu_role, context.scp_role = "store" in accept, True
        if abstract_syntax == COMMITMENT and (roles or {}).get(abstract_syntax, (False, False))[1]:
            context.scu_role, context.scp_role = True, True  # it brings the report of a commitment that we asked for
        supported.append(context)
    return supported


def _is_fetched(
    abstract_syntax: str, accept: Collection[Service], roles: Mapping[str, tuple[bool, bool]] | None
) -> bool:
    """Tell whether the requestor wants to receive such instances, and may."""
    wants_scp = (roles or {}).get(abstract_syntax, (False, False))[1]
    return wants_scp and "get" in accept and service_of(abstract_syntax) == "store"


def storage_outside_dictionary(
    contexts: Iterable[PresentationContext],
) -> dict[UID, SOPClassCommonExtendedNegotiation]:
    """Say which SOP Classes are served by another class than pynetdicom would choose.

    Storage contexts whose SOP Class it does not know are storage; Query/Retrieve is served by our own class.
    It is the answer to its question about SOP Class Common Extended Negotiation, asked on every association.
    """
    items = {UID(uid): _served_as(uid, QUERY_RETRIEVE_SERVICE_CLASS) for uid in QUERY_RETRIEVE}
    for context in contexts:
        uid = context.abstract_syntax
        if uid is not None and uid not in _DISPATCHED and service_of(uid) == "store":
            items[uid] = _served_as(uid, STORAGE_SERVICE_CLASS)
    return items


def _served_as(uid: str, service_class_uid: str) -> SOPClassCommonExtendedNegotiation:
    item = SOPClassCommonExtendedNegotiation()
    item.sop_class_uid = UID(uid)
    item.service_class_uid = UID(service_class_uid)
    return item
