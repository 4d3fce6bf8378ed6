from __future__ import annotations

from dataclasses import replace

import pytest

from dicom_node.scp import negotiation
from dicom_node.scp.pdus import AssociateRequest, RequestedContext, Roles, read_associate_rq
from tests.builders.dimse import CT_IMAGE_STORAGE, EXPLICIT, IMPLICIT, VERIFICATION, associate_rq

RLE, JPEG = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50"


def request(*contexts: tuple[str, str]) -> AssociateRequest:
    asked = tuple(
        RequestedContext(2 * number + 1, syntax, tuple(offered.split()))
        for number, (syntax, offered) in enumerate(contexts or ((CT_IMAGE_STORAGE, EXPLICIT),))
    )
    return replace(read_associate_rq(associate_rq()[6:]), contexts=asked)


def answered(asked: AssociateRequest, *accept: str) -> list[tuple[int, str]]:
    answer = negotiation.answer(asked, accept or ("echo", "store"), maximum_pdu_size=131072)  # type: ignore[arg-type]
    return [(context.result, context.transfer_syntax) for context in answer.contexts]


@pytest.mark.parametrize(
    ("offered", "picked"),
    [
        (f"{JPEG} {IMPLICIT} {EXPLICIT}", EXPLICIT),
        (f"{JPEG} {RLE}", RLE),
        (JPEG, JPEG),
        (f"{JPEG} {IMPLICIT}", IMPLICIT),
    ],
)
def test_uncompressed_is_picked_before_lossless_before_lossy(offered: str, picked: str) -> None:
    assert answered(request((CT_IMAGE_STORAGE, offered))) == [(0, picked)]


def test_a_service_that_the_peer_may_not_use_is_an_abstract_syntax_that_is_not_supported() -> None:
    asked = request((CT_IMAGE_STORAGE, EXPLICIT), (VERIFICATION, IMPLICIT))
    assert answered(asked, "echo") == [(3, EXPLICIT), (0, IMPLICIT)]


def test_no_syntax_that_we_take() -> None:
    assert answered(request((CT_IMAGE_STORAGE, "1.2.3 1.2.4"))) == [(4, "1.2.3")]


@pytest.mark.parametrize(
    ("syntaxes", "ours"),
    [
        ((CT_IMAGE_STORAGE, VERIFICATION), True),
        ((CT_IMAGE_STORAGE, "1.2.840.10008.5.1.1.9"), True),  # a service that nobody serves is refused by ours too
        (("1.3.12.2.1107.5.9.1",), True),
    ],
)
def test_storage_and_verification_are_ours(syntaxes: tuple[str, ...], ours: bool) -> None:
    assert negotiation.is_for_storage(request(*((each, EXPLICIT) for each in syntaxes))) is ours


def test_a_service_of_its_own_goes_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    from dicom_node.scp import contexts

    find = "1.2.840.10008.5.1.4.1.2.2.1"
    monkeypatch.setitem(contexts.SERVICE_CLASSES, find, "find")
    assert not negotiation.is_for_storage(request((CT_IMAGE_STORAGE, EXPLICIT), (find, IMPLICIT)))


@pytest.mark.parametrize(
    ("asked", "given"), [(None, None), ((0, 0), (8, 1)), ((4, 4), (4, 1)), ((100, 1), (8, 1)), ((1, 1), (1, 1))]
)
def test_a_window_is_never_wider_than_asked_for(asked: tuple[int, int] | None, given: tuple[int, int] | None) -> None:
    assert negotiation.window(asked) == given


def test_roles_are_answered_for_accepted_classes_and_never_turned_round() -> None:
    asked = replace(
        request(),
        roles=(Roles(CT_IMAGE_STORAGE, scu=True, scp=True), Roles("1.2.3", scu=True, scp=True)),
        extended=((CT_IMAGE_STORAGE, b"\2"), ("1.2.3", b"\2")),
    )
    answer = negotiation.answer(asked, ("store",), maximum_pdu_size=1)
    assert answer.roles == (Roles(CT_IMAGE_STORAGE, scu=True, scp=False),)
    assert answer.extended == ((CT_IMAGE_STORAGE, negotiation.STORAGE_INFORMATION),)


@pytest.mark.parametrize(
    ("change", "rejection"),
    [
        ({}, None),
        ({"protocol_version": 3}, None),  # only bit 0 counts
        ({"protocol_version": 2}, (1, 2, 2)),
        ({"application_context": "1.2"}, (1, 1, 2)),
        ({"contexts": ()}, (1, 1, 1)),
    ],
)
def test_a_request_that_nobody_could_meet(change: dict[str, object], rejection: tuple[int, int, int] | None) -> None:
    found = negotiation.unfit(replace(request(), **change))  # type: ignore[arg-type]
    assert (found and (found.result, found.source, found.reason)) == rejection
