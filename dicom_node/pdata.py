"""P-DATA: messages as their bytes on the wire, both ways, without a copy more than needed.

pynetdicom makes an object of every fragment; where many messages are sent or read, this is used instead.

Source: PS3.8 9.3.5 and Annex E (P-DATA-TF, PDVs), PS3.7 6.3 and Annex E (command sets: Implicit VR Little Endian).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from storage.errors import UnreadableInstance

P_DATA_TF = 0x04
_PDU = struct.Struct(">BxLLBB")
_PDV_HEADER = 6
#: Bytes that one write to the socket is made of, about; PDUs are never cut by it.
_BUFFER = 1 << 18
#: Where the peer sets no limit.
_LONGEST_OWN_PDU = 1 << 17
COMMAND, LAST = 0x01, 0x02
_NO_DATA_SET, _DATA_SET = 0x0101, 0x0001

# Elements of group 0000. Source: PS3.7 Annex E.
AFFECTED_SOP_CLASS_UID = 0x0002
COMMAND_FIELD = 0x0100
MESSAGE_ID = 0x0110
MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
PRIORITY = 0x0700
DATA_SET_TYPE = 0x0800
STATUS = 0x0900
OFFENDING_ELEMENT = 0x0901
ERROR_COMMENT = 0x0902
AFFECTED_SOP_INSTANCE_UID = 0x1000
REMAINING, COMPLETED, FAILED, WARNING = 0x1020, 0x1021, 0x1022, 0x1023
MOVE_ORIGINATOR_AE_TITLE = 0x1030
MOVE_ORIGINATOR_MESSAGE_ID = 0x1031

C_STORE_RQ, C_STORE_RSP = 0x0001, 0x8001

_UIDS = frozenset({AFFECTED_SOP_CLASS_UID, AFFECTED_SOP_INSTANCE_UID})

#: A value of a command: numbers are US, but Offending Element is AT; texts are padded to even length.
Value = int | str


class MalformedMessage(Exception):
    """The peer's bytes are no message."""


def command_set(values: Mapping[int, Value], *, data_set: bool) -> bytes:
    """Encode a command.

    Parameters
    ----------
    values
        By element number of group 0000; Command Group Length and Command Data Set Type are put in.
    data_set
        A data set follows.
    """
    encoded = bytearray()
    whole = {**values, DATA_SET_TYPE: _DATA_SET if data_set else _NO_DATA_SET}
    for element in sorted(whole):
        value = _encoded(element, whole[element])
        encoded += struct.pack("<HHL", 0, element, len(value)) + value
    return struct.pack("<HHLL", 0, 0, 4, len(encoded)) + bytes(encoded)


def _encoded(element: int, value: Value) -> bytes:
    if isinstance(value, str):
        text = value.encode("ascii", "replace")
        return text + (b"\0" if element in _UIDS else b" ") * (len(text) % 2)
    if element == OFFENDING_ELEMENT:
        return struct.pack("<HH", value >> 16, value & 0xFFFF)
    return struct.pack("<H", value)


def read_command(encoded: bytes) -> dict[int, bytes]:
    """Read a command set: values by element number.

    Raises
    ------
    MalformedMessage
        A length leads beyond its end.
    """
    values: dict[int, bytes] = {}
    position = 0
    while position < len(encoded):
        if position + 8 > len(encoded):
            raise MalformedMessage("a command set is cut short")
        group, element, length = struct.unpack_from("<HHL", encoded, position)
        position += 8
        if position + length > len(encoded):
            raise MalformedMessage("a command set is cut short")
        if group == 0:
            values[element] = encoded[position : position + length]
        position += length
    return values


def number_in(values: Mapping[int, bytes], element: int) -> int | None:
    """Give a US value of a command; None where there is none."""
    value = values.get(element, b"")
    return int.from_bytes(value, "little") if len(value) == 2 else None


def _room(maximum_length: int) -> int:
    """Give the bytes of a fragment, an even number, in PDUs to a peer that takes `maximum_length`; 0: any."""
    # A length that holds no fragment is none: such a peer could be sent nothing at all.
    length = maximum_length if maximum_length >= _PDV_HEADER + 2 else _LONGEST_OWN_PDU
    return (length - _PDV_HEADER) // 2 * 2


def message(context_id: int, command: bytes, data_set: bytes | None, maximum_length: int) -> bytes:
    """Give a whole small message as PDUs; for what is large there is `stream`."""
    pdus = bytearray()
    parts = [(command, COMMAND)] + ([(data_set, 0)] if data_set is not None else [])
    room = _room(maximum_length)
    for content, kind in parts:
        for start in range(0, max(len(content), 1), room):
            fragment = content[start : start + room]
            last = LAST if start + room >= len(content) else 0
            pdus += _PDU.pack(P_DATA_TF, len(fragment) + _PDV_HEADER, len(fragment) + 2, context_id, kind | last)
            pdus += fragment
    return bytes(pdus)


def stream(context_id: int, command: bytes, file: BinaryIO, length: int, maximum_length: int) -> Iterator[memoryview]:
    """Give a message with a data set of any size as buffers of whole PDUs, filled from the file in place.

    The buffer is the same each time: use it before asking for the next.

    Parameters
    ----------
    file
        Stands at the first byte of the data set.
    length
        Bytes of the data set.

    Raises
    ------
    UnreadableInstance
        The file ends early; what was given before is no whole message, and the association is to be aborted.
    """
    room = min(_room(maximum_length), _BUFFER - _PDU.size)
    begin = message(context_id, command, None, maximum_length)
    buffer = bytearray(len(begin) + _BUFFER)
    view = memoryview(buffer)
    buffer[: len(begin)] = begin
    filled, left = len(begin), length
    while left:
        fragment = min(left, room)
        if filled + _PDU.size + fragment > len(buffer):
            yield view[:filled]
            filled = 0
        left -= fragment
        kind = 0 if left else LAST
        _PDU.pack_into(buffer, filled, P_DATA_TF, fragment + _PDV_HEADER, fragment + 2, context_id, kind)
        filled += _PDU.size
        _fill(file, view[filled : filled + fragment])
        filled += fragment
    yield view[:filled]


def _fill(file: BinaryIO, view: memoryview) -> None:
    done = 0
    while done < len(view):
        count = file.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            raise UnreadableInstance("The file is shorter than it was.")
        done += count


def fragments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Give the fragments in a P-DATA-TF PDU: message control header and bytes.

    Raises
    ------
    MalformedMessage
        A length leads beyond the end.
    """
    position = 0
    while position < len(content):
        if position + _PDV_HEADER > len(content):
            raise MalformedMessage("a PDU is cut short")
        length, _, control = struct.unpack_from(">LBB", content, position)
        behind = position + 4 + length
        if length < 2 or behind > len(content):
            raise MalformedMessage("a PDU is cut short")
        yield control, content[position + _PDV_HEADER : behind]
        position = behind
