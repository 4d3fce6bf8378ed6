"""DIMSE command sets as bytes: requests read strictly, responses written in one go.

Source: PS3.7 6.3 (command sets are Implicit VR Little Endian), 9.3 (C-STORE, C-ECHO), Annex E (elements).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

#: No request of the standard needs a tenth of it.
LONGEST_COMMAND = 1 << 14
C_STORE_RQ, C_ECHO_RQ, C_CANCEL_RQ = 0x0001, 0x0030, 0x0FFF
RESPONSE = 0x8000

_GROUP_LENGTH, _SOP_CLASS, _COMMAND_FIELD, _MESSAGE_ID = 0x0000, 0x0002, 0x0100, 0x0110
_ANSWERED_ID, _DATA_SET_TYPE, _STATUS, _SOP_INSTANCE = 0x0120, 0x0800, 0x0900, 0x1000
#: Command Data Set Type of a message without one; any other value says that one follows (PS3.7 E.1).
_NO_DATA_SET = 0x0101
_HEAD = struct.Struct("<HHL")
_US = struct.Struct("<H")
_US_ELEMENT = struct.Struct("<HHLH")
_GROUP_ELEMENT = struct.Struct("<HHLL")


class MalformedCommand(Exception):
    """The bytes are no command set: whatever follows cannot be understood either."""


class Command(NamedTuple):
    """What a request says, as far as any of ours needs it."""

    field: int
    """Command Field (0000,0100)."""
    message_id: int
    has_data_set: bool
    sop_class_uid: str
    """Affected SOP Class UID; empty where there is none."""
    sop_instance_uid: str
    """Affected SOP Instance UID; empty where there is none."""


def read_command(content: bytes | bytearray) -> Command:
    """Read a whole command set.

    Raises
    ------
    MalformedCommand
        An element is cut short, there twice or of another group, or what every request has is missing.
    """
    whole = bytes(content)
    values: dict[int, bytes] = {}
    position, size = 0, len(whole)
    while position < size:
        if position + 8 > size:
            raise MalformedCommand("a command element is cut short")
        group, element, length = _HEAD.unpack_from(whole, position)
        if group or element in values:
            raise MalformedCommand("a command holds an element twice, or one of another group")
        begin, position = position + 8, position + 8 + length
        if position > size:
            raise MalformedCommand("a command element claims more than the command holds")
        values[element] = whole[begin:position]
    field = _number(values, _COMMAND_FIELD)
    data_set_type = _number(values, _DATA_SET_TYPE)
    message_id = 0 if field & RESPONSE or field == C_CANCEL_RQ else _number(values, _MESSAGE_ID)
    return Command(
        field=field,
        message_id=message_id,
        has_data_set=data_set_type != _NO_DATA_SET,
        sop_class_uid=_text(values, _SOP_CLASS),
        sop_instance_uid=_text(values, _SOP_INSTANCE),
    )


def write_response(command: Command, status: int) -> bytes:
    """Encode the response to a request, without a data set.

    Source: PS3.7 9.3.1.2 (C-STORE-RSP), 9.3.5.2 (C-ECHO-RSP).
    """
    encoded = _uid_element(_SOP_CLASS, command.sop_class_uid)
    encoded += _US_ELEMENT.pack(0, _COMMAND_FIELD, 2, command.field | RESPONSE)
    encoded += _US_ELEMENT.pack(0, _ANSWERED_ID, 2, command.message_id)
    encoded += _US_ELEMENT.pack(0, _DATA_SET_TYPE, 2, _NO_DATA_SET)
    encoded += _US_ELEMENT.pack(0, _STATUS, 2, status)
    if command.field == C_STORE_RQ:
        encoded += _uid_element(_SOP_INSTANCE, command.sop_instance_uid)
    return _GROUP_ELEMENT.pack(0, _GROUP_LENGTH, 4, len(encoded)) + encoded


def _number(values: dict[int, bytes], element: int) -> int:
    value = values.get(element, b"")
    if len(value) != 2:
        raise MalformedCommand(f"(0000,{element:04X}) is missing or no number")
    return int(_US.unpack(value)[0])


def _text(values: dict[int, bytes], element: int) -> str:
    return values.get(element, b"").rstrip(b"\0 ").decode("ascii", "replace")


def _uid_element(element: int, uid: str) -> bytes:
    if not uid:
        return b""
    value = uid.encode("ascii", "replace")[:64]
    value += b"\0" * (len(value) % 2)
    return _HEAD.pack(0, element, len(value)) + value
