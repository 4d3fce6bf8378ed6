"""The PDUs of the upper layer as bytes: association requests read strictly, answers written.

Source: PS3.8 9.3 (PDUs), Annex D (user information), PS3.7 Annex D.3.3 (its further items).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dicom_node.rejections import Rejection

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA_TF, RELEASE_RQ, RELEASE_RP, ABORT = range(0x01, 0x08)
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"

#: Of an A-ABORT. Source: PS3.8 Table 9-26.
SERVICE_USER, SERVICE_PROVIDER = 0, 2
NOT_SPECIFIED, UNRECOGNIZED_PDU, UNEXPECTED_PDU = 0, 1, 2
UNEXPECTED_PARAMETER, INVALID_PARAMETER = 5, 6

_PDU = struct.Struct(">BxL")
_ITEM = struct.Struct(">BxH")
#: Protocol version, called and calling AE title, 32 reserved bytes.
_FIXED = 68
_MOST_CONTEXTS = 128
_LONGEST_UID = 64


class MalformedPdu(Exception):
    """The bytes are not what the standard says of this PDU."""


@dataclass(frozen=True)
class RequestedContext:
    """One presentation context, as asked for."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True)
class AnsweredContext:
    """One presentation context, as answered."""

    context_id: int
    result: int
    """0: acceptance, 1: user rejection, 3: abstract syntax, 4: transfer syntaxes not supported (PS3.8 Table 9-18)."""
    transfer_syntax: str


@dataclass(frozen=True)
class Roles:
    """The roles of one SOP Class that the requestor may take."""

    sop_class_uid: str
    scu: bool
    scp: bool


@dataclass(frozen=True)
class UserIdentity:
    """Who uses the requestor.

    Source: PS3.7 D.3.3.7.1.
    """

    kind: int
    """1: user, 2: user and passcode, 3: Kerberos, 4: SAML, 5: JSON Web Token."""
    response_requested: bool
    primary: bytes
    secondary: bytes = field(repr=False)
    """Passcode."""


@dataclass(frozen=True)
class AssociateRequest:
    """An A-ASSOCIATE-RQ."""

    protocol_version: int
    titles: bytes
    """Called and calling AE title and what is reserved after them, to be sent back as they came."""
    called_ae_title: str
    calling_ae_title: str
    application_context: str
    contexts: tuple[RequestedContext, ...]
    maximum_length: int
    """Bytes of a P-DATA-TF that the requestor takes; 0: any."""
    roles: tuple[Roles, ...] = ()
    extended: tuple[tuple[str, bytes], ...] = ()
    """SOP Class → its service class application information."""
    window: tuple[int, int] | None = None
    """Operations that the requestor wants to invoke, and perform, at once; 0: any number; None: one."""
    user_identity: UserIdentity | None = None


@dataclass(frozen=True)
class AssociateAnswer:
    """What an A-ASSOCIATE-AC says."""

    contexts: tuple[AnsweredContext, ...]
    maximum_length: int
    implementation_class_uid: str
    implementation_version_name: str
    roles: tuple[Roles, ...] = ()
    extended: tuple[tuple[str, bytes], ...] = ()
    window: tuple[int, int] | None = None
    user_acknowledged: bool = False
    """Say that the user identity was taken."""


@dataclass
class _UserInformation:
    maximum_length: int = 0
    roles: list[Roles] = field(default_factory=list)
    extended: list[tuple[str, bytes]] = field(default_factory=list)
    window: tuple[int, int] | None = None
    user_identity: UserIdentity | None = None


def read_associate_rq(body: bytes) -> AssociateRequest:
    """Read the content of an A-ASSOCIATE-RQ; items that the standard does not know are passed over.

    Raises
    ------
    MalformedPdu
        A length leads out of its item, a mandatory item is missing, or an identifier is none.
    """
    if len(body) < _FIXED:
        raise MalformedPdu("the A-ASSOCIATE-RQ is too short")
    (version,) = struct.unpack_from(">H", body)
    application_context, contexts, user = "", [], _UserInformation()
    for kind, content in _items(body[_FIXED:]):
        if kind == 0x10:
            application_context = _uid(content)
        elif kind == 0x20:
            contexts.append(_read_context(content))
        elif kind == 0x50:
            _read_user_information(content, user)
    ids = {context.context_id for context in contexts}
    if len(ids) != len(contexts) or len(contexts) > _MOST_CONTEXTS:
        raise MalformedPdu("presentation context IDs are not distinct")
    return AssociateRequest(
        protocol_version=version,
        titles=body[4:_FIXED],
        called_ae_title=body[4:20].decode("ascii", "replace").strip(" \0"),
        calling_ae_title=body[20:36].decode("ascii", "replace").strip(" \0"),
        application_context=application_context,
        contexts=tuple(contexts),
        maximum_length=user.maximum_length,
        roles=tuple(user.roles),
        extended=tuple(user.extended),
        window=user.window,
        user_identity=user.user_identity,
    )


def write_associate_ac(request: AssociateRequest, answer: AssociateAnswer) -> bytes:
    """Encode an A-ASSOCIATE-AC."""
    content = struct.pack(">HH", 1, 0) + request.titles + _item(0x10, APPLICATION_CONTEXT.encode())
    for context in answer.contexts:
        head = bytes((context.context_id, 0, context.result, 0))
        content += _item(0x21, head + _item(0x40, context.transfer_syntax.encode()))
    user = _item(0x51, struct.pack(">L", answer.maximum_length))
    user += _item(0x52, answer.implementation_class_uid.encode())
    if answer.window is not None:
        user += _item(0x53, struct.pack(">HH", *answer.window))
    for roles in answer.roles:
        user += _item(0x54, _counted(roles.sop_class_uid.encode()) + bytes((roles.scu, roles.scp)))
    user += _item(0x55, answer.implementation_version_name.encode())
    for sop_class_uid, information in answer.extended:
        user += _item(0x56, _counted(sop_class_uid.encode()) + information)
    if answer.user_acknowledged:
        user += _item(0x59, bytes(2))  # the response to a user with or without passcode is empty (PS3.7 D.3.3.7.2)
    return pdu(ASSOCIATE_AC, content + _item(0x50, user))


def write_associate_rj(rejection: Rejection) -> bytes:
    """Encode an A-ASSOCIATE-RJ."""
    return pdu(ASSOCIATE_RJ, bytes((0, rejection.result, rejection.source, rejection.reason)))


def write_abort(source: int, reason: int) -> bytes:
    """Encode an A-ABORT."""
    return pdu(ABORT, bytes((0, 0, source, reason)))


def write_release_rp() -> bytes:
    """Encode an A-RELEASE-RP."""
    return pdu(RELEASE_RP, bytes(4))


def write_p_data(context_id: int, command: bytes, maximum_length: int) -> bytes:
    """Encode a command set as P-DATA-TF PDUs, as many as the peer's maximum asks for.

    `maximum_length`: as the peer gave it; 0: any. It counts the PDV's own header (PS3.8 D.1).
    """
    room = max(1, maximum_length - 6) if maximum_length else len(command)
    encoded = bytearray()
    for begin in range(0, len(command), room):
        part = command[begin : begin + room]
        control = 0x03 if begin + room >= len(command) else 0x01
        encoded += pdu(P_DATA_TF, struct.pack(">LBB", len(part) + 2, context_id, control) + part)
    return bytes(encoded)


def pdu(kind: int, content: bytes) -> bytes:
    """Put the header before a PDU's content."""
    return _PDU.pack(kind, len(content)) + content


def _item(kind: int, content: bytes) -> bytes:
    return _ITEM.pack(kind, len(content)) + content


def _counted(content: bytes) -> bytes:
    return struct.pack(">H", len(content)) + content


def _items(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Walk over items; each length is checked before it is believed."""
    position = 0
    while position < len(content):
        if position + _ITEM.size > len(content):
            raise MalformedPdu("an item is cut short")
        kind, length = _ITEM.unpack_from(content, position)
        position += _ITEM.size
        if position + length > len(content):
            raise MalformedPdu("an item claims more than its PDU holds")
        yield kind, content[position : position + length]
        position += length


def _uid(content: bytes) -> str:
    text = content.rstrip(b"\0 ").decode("ascii", "replace")
    if len(text) > _LONGEST_UID:
        raise MalformedPdu("an identifier is longer than a UID")
    return text


def _read_context(content: bytes) -> RequestedContext:
    if len(content) < 4:
        raise MalformedPdu("a presentation context is cut short")
    abstract_syntaxes: list[str] = []
    transfer_syntaxes: list[str] = []
    for kind, value in _items(content[4:]):
        if kind == 0x30:
            abstract_syntaxes.append(_uid(value))
        elif kind == 0x40:
            transfer_syntaxes.append(_uid(value))
    if len(abstract_syntaxes) != 1 or not transfer_syntaxes:
        raise MalformedPdu("a presentation context needs one abstract syntax and a transfer syntax")
    if content[0] % 2 == 0:
        raise MalformedPdu("a presentation context ID is even")
    return RequestedContext(content[0], abstract_syntaxes[0], tuple(transfer_syntaxes))


def _read_user_information(content: bytes, user: _UserInformation) -> None:
    for kind, value in _items(content):
        if kind == 0x51:
            (user.maximum_length,) = _unpacked(">L", value)
        elif kind == 0x53:
            invoked, performed = _unpacked(">HH", value)
            user.window = (invoked, performed)
        elif kind == 0x54:
            sop_class_uid, rest = _split(value)
            scu, scp = _unpacked(">BB", rest)
            user.roles.append(Roles(sop_class_uid, bool(scu), bool(scp)))
        elif kind == 0x56:
            user.extended.append(_split(value))
        elif kind == 0x58:
            user.user_identity = _read_user_identity(value)


def _read_user_identity(value: bytes) -> UserIdentity:
    kind, requested, length = _unpacked(">BBH", value[:4])
    primary, rest = value[4 : 4 + length], value[4 + length :]
    (second,) = _unpacked(">H", rest[:2])
    if len(primary) < length or len(rest) < 2 + second:
        raise MalformedPdu("a user identity is cut short")
    return UserIdentity(kind, bool(requested), primary, rest[2 : 2 + second])


def _split(value: bytes) -> tuple[str, bytes]:
    """Part a SOP Class UID, with its length before it, from what follows."""
    (length,) = _unpacked(">H", value[:2])
    if 2 + length > len(value):
        raise MalformedPdu("a SOP Class UID is cut short")
    return _uid(value[2 : 2 + length]), value[2 + length :]


def _unpacked(form: str, value: bytes) -> Sequence[int]:
    try:
        return struct.unpack(form, value)
    except struct.error as error:
        raise MalformedPdu("a user information item has a wrong length") from error
