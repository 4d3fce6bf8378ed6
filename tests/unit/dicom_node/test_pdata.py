"""Messages as bytes, against pynetdicom's own reading of them."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import P_DATA_TF

from dicom_node import pdata
from storage.errors import UnreadableInstance

COMMAND = {
    pdata.AFFECTED_SOP_CLASS_UID: "1.2.840.10008.5.1.4.1.1.2",
    pdata.COMMAND_FIELD: pdata.C_STORE_RQ,
    pdata.MESSAGE_ID: 7,
    pdata.PRIORITY: 0,
    pdata.AFFECTED_SOP_INSTANCE_UID: "1.2.3",
    pdata.MOVE_ORIGINATOR_AE_TITLE: "VIEWER1",
    pdata.MOVE_ORIGINATOR_MESSAGE_ID: 9,
}


def pdus_of(encoded: bytes) -> list[bytes]:
    """Cut a stream into its PDUs."""
    found, position = [], 0
    while position < len(encoded):
        (length,) = struct.unpack_from(">L", encoded, position + 2)
        found.append(encoded[position : position + 6 + length])
        position += 6 + length
    return found


def read(pdus: list[bytes]) -> C_STORE:
    """Read PDUs as pynetdicom does."""
    message = DIMSEMessage()
    for pdu in pdus:
        decoded = P_DATA_TF()
        decoded.decode(pdu)
        if message.decode_msg(decoded.to_primitive()):
            primitive = message.message_to_primitive()
            assert isinstance(primitive, C_STORE)
            return primitive
    raise AssertionError("no whole message")


@settings(max_examples=60, deadline=None)
@given(data=st.binary(min_size=1, max_size=3000), maximum=st.sampled_from([0, 1, 8, 9, 128, 1024, 16384, 1 << 20]))
def test_a_streamed_message_is_what_pynetdicom_reads_within_the_peer_s_maximum(data: bytes, maximum: int) -> None:
    command = pdata.command_set(COMMAND, data_set=True)
    encoded = b"".join(bytes(part) for part in pdata.stream(5, command, io.BytesIO(data), len(data), maximum))
    pdus = pdus_of(encoded)
    if maximum >= 8:
        assert all(len(pdu) - 6 <= maximum for pdu in pdus)
    request = read(pdus)
    assert request.DataSet is not None
    assert request.DataSet.getvalue() == data
    assert (request.MessageID, request.MoveOriginatorMessageID) == (7, 9)
    assert (request.AffectedSOPInstanceUID, request.MoveOriginatorApplicationEntityTitle) == ("1.2.3", "VIEWER1")
    assert encoded == pdata.message(5, command, data, min(maximum, 1 << 17) if maximum > 1 << 17 else maximum)


def test_a_large_data_set_goes_through_one_small_buffer() -> None:
    data = bytes(range(256)) * 16384  # 4 MiB
    parts = [
        (len(part), bytes(part))
        for part in pdata.stream(1, pdata.command_set(COMMAND, data_set=True), io.BytesIO(data), len(data), 16384)
    ]
    assert max(size for size, _ in parts) <= (1 << 18) + 1024
    request = read(pdus_of(b"".join(content for _, content in parts)))
    assert request.DataSet is not None
    assert request.DataSet.getvalue() == data


def test_a_file_that_ends_early_is_said() -> None:
    with pytest.raises(UnreadableInstance):
        list(pdata.stream(1, b"", io.BytesIO(b"abc"), 10, 0))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_command_or_malformed(encoded: bytes) -> None:
    for reader in (pdata.read_command, lambda content: list(pdata.fragments(content))):
        try:
            reader(encoded)
        except pdata.MalformedMessage:
            continue


def test_a_command_is_read_back() -> None:
    values = pdata.read_command(
        pdata.command_set({pdata.STATUS: 0xA900, pdata.OFFENDING_ELEMENT: 0x0020000D}, data_set=False)
    )
    assert pdata.number_in(values, pdata.STATUS) == 0xA900
    assert pdata.number_in(values, pdata.DATA_SET_TYPE) == 0x0101
    assert values[pdata.OFFENDING_ELEMENT] == b"\x20\x00\x0d\x00"
    assert pdata.number_in(values, pdata.MESSAGE_ID) is None
