from __future__ import annotations

import struct
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import decode

from dicom_node.scp.commands import Command, MalformedCommand, read_command, write_response
from tests.builders.dimse import CT_IMAGE_STORAGE, command_set, store_rq

COMMAND = Command(0x0001, 7, True, CT_IMAGE_STORAGE, "1.2.3")


def test_a_request_of_another_implementation_is_read() -> None:
    primitive = C_STORE()
    primitive.MessageID, primitive.Priority = 7, 2
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = UID(CT_IMAGE_STORAGE), UID("1.2.3")
    primitive.MoveOriginatorApplicationEntityTitle, primitive.MoveOriginatorMessageID = "MOVER", 3
    primitive.DataSet = BytesIO(b"data")
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    (first, *_) = message.encode_msg(1, 0)
    ((_, fragment),) = first.presentation_data_value_list
    assert read_command(fragment[1:]) == COMMAND


@pytest.mark.parametrize("status", [0x0000, 0xA700])
def test_a_response_is_read_by_another_implementation(status: int) -> None:
    response = decode(BytesIO(write_response(COMMAND, status)), True, True)
    assert response.CommandField == 0x8001
    assert (response.MessageIDBeingRespondedTo, response.Status) == (7, status)
    assert response.CommandDataSetType == 0x0101
    assert (response.AffectedSOPClassUID, response.AffectedSOPInstanceUID) == (CT_IMAGE_STORAGE, "1.2.3")
    assert response.CommandGroupLength == len(write_response(COMMAND, status)) - 12


def test_names_that_are_none_are_left_out_of_the_response_or_made_harmless() -> None:
    nameless = Command(0x0001, 7, True, "", "\ud83d" * 100)
    response = decode(BytesIO(write_response(nameless, 0x0117)), True, True)
    assert "AffectedSOPClassUID" not in response
    assert len(response.AffectedSOPInstanceUID) <= 64


@pytest.mark.parametrize(
    "content",
    [
        b"",
        store_rq()[:-1],
        store_rq()[:30],
        store_rq() + b"\0\0\0",
        store_rq() + struct.pack("<HHL", 8, 0x10, 0),  # another group
        store_rq() + struct.pack("<HHLH", 0, 0x0110, 2, 9),  # an element twice
        store_rq() + struct.pack("<HHL", 0, 0x2000, 0xFFFFFFFF),
        command_set(field=1, e0800=1),  # no Message ID
        command_set(field=1, e0110=1),  # no Command Data Set Type
        struct.pack("<HHLL", 0, 0x0100, 4, 1),  # a Command Field of four bytes
    ],
)
def test_what_is_no_command_is_named_so(content: bytes) -> None:
    with pytest.raises(MalformedCommand):
        read_command(content)


@given(st.binary(max_size=200), st.integers(0, 150))
def test_no_bytes_are_read_as_more_than_they_are(noise: bytes, at: int) -> None:
    content = bytearray(store_rq())
    content[at : at + len(noise)] = noise
    try:
        command = read_command(content)
    except MalformedCommand:
        return
    assert 0 <= command.message_id <= 0xFFFF
