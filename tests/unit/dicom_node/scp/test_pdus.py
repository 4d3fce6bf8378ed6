from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ, A_RELEASE_RP, P_DATA_TF
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassExtendedNegotiation,
)
from pynetdicom.presentation import build_context

from dicom_node.rejections import Rejection
from dicom_node.scp.pdus import (
    AnsweredContext,
    AssociateAnswer,
    MalformedPdu,
    RequestedContext,
    Roles,
    read_associate_rq,
    write_abort,
    write_associate_ac,
    write_associate_rj,
    write_p_data,
    write_release_rp,
)
from tests.builders.dimse import CT_IMAGE_STORAGE, EXPLICIT, IMPLICIT, VERIFICATION, associate_rq, item


def pynetdicom_request() -> bytes:
    """What pynetdicom encodes for a request with every item that we read."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "CT1", "DICOMNODE"
    contexts = [build_context(CT_IMAGE_STORAGE, [IMPLICIT, EXPLICIT]), build_context(VERIFICATION, [IMPLICIT])]
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    primitive.presentation_context_definition_list = contexts
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, implementation.implementation_class_uid = 32768, "1.2.3.4"
    window, role, extended = (
        AsynchronousOperationsWindowNegotiation(),
        SCP_SCU_RoleSelectionNegotiation(),
        SOPClassExtendedNegotiation(),
    )
    window.maximum_number_operations_invoked, window.maximum_number_operations_performed = 5, 2
    role.sop_class_uid, role.scu_role, role.scp_role = CT_IMAGE_STORAGE, True, False
    extended.sop_class_uid, extended.service_class_application_information = CT_IMAGE_STORAGE, b"\x02\x00"
    primitive.user_information = [length, implementation, window, role, extended]
    request = A_ASSOCIATE_RQ()
    request.from_primitive(primitive)
    return bytes(request.encode())


def test_a_request_of_another_implementation_is_read() -> None:
    request = read_associate_rq(pynetdicom_request()[6:])
    assert (request.calling_ae_title, request.called_ae_title) == ("CT1", "DICOMNODE")
    assert request.contexts == (
        RequestedContext(1, CT_IMAGE_STORAGE, (IMPLICIT, EXPLICIT)),
        RequestedContext(3, VERIFICATION, (IMPLICIT,)),
    )
    assert (request.protocol_version, request.maximum_length, request.window) == (1, 32768, (5, 2))
    assert request.roles == (Roles(CT_IMAGE_STORAGE, scu=True, scp=False),)
    assert request.extended == ((CT_IMAGE_STORAGE, b"\x02\x00"),)


def test_an_acceptance_is_read_by_another_implementation() -> None:
    request = read_associate_rq(associate_rq()[6:])
    encoded = write_associate_ac(
        request,
        AssociateAnswer(
            contexts=(AnsweredContext(1, 0, EXPLICIT), AnsweredContext(3, 4, IMPLICIT)),
            maximum_length=131072,
            implementation_class_uid="1.2.3",
            implementation_version_name="TEST",
            roles=(Roles(CT_IMAGE_STORAGE, scu=True, scp=False),),
            extended=((CT_IMAGE_STORAGE, b"\x02\x00"),),
            window=(4, 1),
        ),
    )
    read = A_ASSOCIATE_AC()
    read.decode(encoded)
    answer = read.to_primitive()
    assert (answer.calling_ae_title, answer.called_ae_title) == ("CT1", "DICOMNODE")
    accepted = answer.presentation_context_definition_results_list
    assert [(each.context_id, each.result) for each in accepted] == [(1, 0), (3, 4)]
    assert accepted[0].transfer_syntax == [EXPLICIT]
    assert answer.maximum_length_received == 131072
    assert bytes(read.encode()) == encoded


def test_what_was_reserved_comes_back_as_it_came() -> None:
    body = bytearray(associate_rq()[6:])
    body[36:68] = bytes(range(32))
    request = read_associate_rq(bytes(body))
    encoded = write_associate_ac(request, AssociateAnswer((), 0, "1.2", "V"))
    assert encoded[10:74] == bytes(body[4:68])


def test_short_answers_are_read_by_another_implementation() -> None:
    rejection, abort, release = A_ASSOCIATE_RJ(), A_ABORT_RQ(), A_RELEASE_RP()
    rejection.decode(write_associate_rj(Rejection(1, 2, 2)))
    assert (rejection.result, rejection.source, rejection.reason_diagnostic) == (1, 2, 2)
    abort.decode(write_abort(2, 6))
    assert (abort.source, abort.reason_diagnostic) == (2, 6)
    release.decode(write_release_rp())
    assert bytes(release.encode()) == write_release_rp()


@pytest.mark.parametrize("maximum", [0, 7, 20, 64, 1000])
def test_a_command_is_cut_to_the_peer_s_maximum(maximum: int) -> None:
    command = bytes(range(150))
    encoded, joined, controls = write_p_data(5, command, maximum), b"", []
    while encoded:
        length = struct.unpack_from(">L", encoded, 2)[0]
        assert not maximum or length <= maximum
        read = P_DATA_TF()
        read.decode(encoded[: 6 + length])
        (pdv,) = read.presentation_data_value_items
        assert pdv.presentation_context_id == 5
        controls.append(pdv.presentation_data_value[0])
        joined += pdv.presentation_data_value[1:]
        encoded = encoded[6 + length :]
    assert joined == command
    assert controls == [1] * (len(controls) - 1) + [3]


def test_items_that_nobody_knows_are_passed_over() -> None:
    body = associate_rq(more=item(0x77, b"later"))[6:] + item(0x78, b"too")
    assert read_associate_rq(body).contexts == read_associate_rq(associate_rq()[6:]).contexts


@pytest.mark.parametrize(
    "body",
    [
        b"",
        bytes(67),
        associate_rq()[6:-1],
        associate_rq()[6:] + b"\x20",
        associate_rq()[6:] + item(0x20, b"\x01\0"),
        associate_rq(contexts={1: (CT_IMAGE_STORAGE, [])})[6:],
        associate_rq(contexts={2: (CT_IMAGE_STORAGE, [EXPLICIT])})[6:],
        associate_rq(contexts={1: ("1" * 65, [EXPLICIT])})[6:],
        associate_rq()[6:] + item(0x20, b"\x01\0\0\0" + item(0x30, b"1.2") + item(0x40, b"1.2")),
        associate_rq(more=item(0x51, b"\0\0"))[6:],
        associate_rq(more=item(0x53, b"\0"))[6:],
        associate_rq(more=item(0x54, b"\0\x09" + b"1.2"))[6:],
        associate_rq(more=item(0x54, b""))[6:],
    ],
)
def test_what_is_no_request_is_named_so(body: bytes) -> None:
    with pytest.raises(MalformedPdu):
        read_associate_rq(body)


@given(st.binary(max_size=300), st.integers(0, 400))
def test_no_bytes_are_read_as_more_than_they_are(noise: bytes, at: int) -> None:
    body = bytearray(pynetdicom_request()[6:])
    body[at : at + len(noise)] = noise
    try:
        read_associate_rq(bytes(body))
    except MalformedPdu:
        return
