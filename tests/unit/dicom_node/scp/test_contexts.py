from __future__ import annotations

import pytest
from pydicom.uid import UID
from pynetdicom import AllStoragePresentationContexts, build_context
from pynetdicom.presentation import negotiate_as_acceptor

from dicom_node.scp.contexts import (
    LOSSLESS,
    LOSSY,
    QUERY_RETRIEVE,
    QUERY_RETRIEVE_SERVICE_CLASS,
    SERVICE_CLASSES,
    STORAGE_SERVICE_CLASS,
    TRANSFER_SYNTAXES,
    UNCOMPRESSED,
    VERIFICATION,
    service_of,
    storage_outside_dictionary,
    supported_contexts,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT, IMPLICIT, BIG_ENDIAN = UNCOMPRESSED
DEFLATED, RLE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"
J2K_LOSSLESS, J2K, JPEG = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.50"


def picked(*offered: str, abstract_syntax: str = CT) -> str | None:
    """What comes of one context, negotiated by pynetdicom."""
    wish = build_context(abstract_syntax, list(offered))
    wish.context_id = 1
    (answer,), _ = negotiate_as_acceptor([wish], supported_contexts([wish], ("echo", "store")))
    return str(answer.transfer_syntax[0]) if answer.result == 0 else None


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        ((IMPLICIT, EXPLICIT), EXPLICIT),
        ((BIG_ENDIAN, IMPLICIT), IMPLICIT),
        ((J2K_LOSSLESS, JPEG, IMPLICIT), IMPLICIT),
        ((RLE, DEFLATED, BIG_ENDIAN), BIG_ENDIAN),
        ((JPEG, J2K, J2K_LOSSLESS), J2K_LOSSLESS),
        ((JPEG,), JPEG),
        (("1.2.840.113619.5.2", JPEG), JPEG),
    ],
)
def test_uncompressed_is_picked_before_lossless_before_lossy(offered: tuple[str, ...], expected: str) -> None:
    assert picked(*offered) == expected


@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES)
def test_each_transfer_syntax_is_taken_where_it_is_alone(syntax: str) -> None:
    assert picked(syntax) == syntax


@pytest.mark.parametrize("syntax", ["1.2.840.113619.5.2", "1.2.840.10008.1.2.4.94"])
def test_a_syntax_whose_bytes_cannot_be_read_is_not_taken(syntax: str) -> None:
    assert picked(syntax) is None


def test_each_transfer_syntax_stands_once_and_is_one() -> None:
    assert len(set(TRANSFER_SYNTAXES)) == len(TRANSFER_SYNTAXES) == len(UNCOMPRESSED + LOSSLESS + LOSSY)
    assert all(UID(syntax).is_transfer_syntax for syntax in TRANSFER_SYNTAXES)


def test_the_syntaxes_called_lossless_are_so_by_name() -> None:
    names = [UID(syntax).name for syntax in LOSSY]
    assert not [name for name in names if "Lossless" in name and "Lossy" not in name]


def test_all_storage_classes_of_patients_are_storage() -> None:
    known = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
    assert len(known) > 128
    assert {service_of(uid) for uid in known} == {"store"}


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.5.1.4.1.1.6",  # Ultrasound Image Storage, retired
        "1.2.840.10008.5.1.4.1.1.12.77",  # retired, without a name
        "1.2.840.10008.5.1.4.1.1.999.1",  # newer than any dictionary
        "1.2.840.113619.4.26",  # private
        "1.3.12.2.1107.5.9.1",  # private: Siemens CSA
    ],
)
def test_retired_future_and_private_classes_are_storage(uid: str) -> None:
    assert service_of(uid) == "store"


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.1.20.2",  # Storage Commitment Pull Model (retired)
        "1.2.840.10008.1.3.10",  # Media Storage Directory
        "1.2.840.10008.5.1.4.1.2.3.1",  # Patient/Study Only FIND (retired)
        "1.2.840.10008.3.1.2.3.4",  # MPPS Retrieve
        "1.2.840.10008.4.2",  # the service class itself
        "1.2.840.10008.5.1.4.38.1",  # Hanging Protocol: belongs to no patient
        "1.2.840.10008.5.1.4.1.1.201.2",  # Inventory FIND
        "1.2.840.10008.999",
    ],
)
def test_other_services_are_not_storage(uid: str) -> None:
    assert service_of(uid) is None


def test_storage_commitment_is_a_service_of_its_own() -> None:
    assert service_of("1.2.840.10008.1.20.1") == "commit"


def test_queries_are_a_service_of_their_own_in_uncompressed_syntaxes() -> None:
    assert QUERY_RETRIEVE
    for uid in QUERY_RETRIEVE:
        (supported,) = supported_contexts([build_context(uid, [JPEG, IMPLICIT])], (SERVICE_CLASSES[uid],))
        assert supported.transfer_syntax == [IMPLICIT]


def test_storage_contexts_may_be_inverted_for_those_who_may_fetch() -> None:
    roles = {CT: (False, True)}
    (supported,) = supported_contexts([build_context(CT, [EXPLICIT])], ("get",), roles)
    assert (supported.scu_role, supported.scp_role) == (False, True)
    (both,) = supported_contexts([build_context(CT, [EXPLICIT])], ("get", "store"), {CT: (True, True)})
    assert (both.scu_role, both.scp_role) == (True, True)
    assert supported_contexts([build_context(CT, [EXPLICIT])], ("find",), roles) == []
    assert supported_contexts([build_context(CT, [EXPLICIT])], ("get",)) == []


def test_a_service_that_the_peer_may_not_use_is_not_supported() -> None:
    wishes = [build_context(VERIFICATION), build_context(CT)]
    assert [str(each.abstract_syntax) for each in supported_contexts(wishes, ("echo",))] == [VERIFICATION]


def test_one_class_in_several_contexts_is_supported_once_with_all_syntaxes() -> None:
    wishes = [build_context(CT, [JPEG]), build_context(CT, [IMPLICIT]), build_context(CT, [EXPLICIT])]
    (supported,) = supported_contexts(wishes, ("store",))
    assert [str(syntax) for syntax in supported.transfer_syntax] == [EXPLICIT, IMPLICIT, JPEG]


def test_a_class_that_pynetdicom_does_not_know_is_named_storage_to_it() -> None:
    private = "1.3.12.2.1107.5.9.1"
    items = storage_outside_dictionary([build_context(CT), build_context(private), build_context(VERIFICATION)])
    ours = dict.fromkeys(QUERY_RETRIEVE, QUERY_RETRIEVE_SERVICE_CLASS)
    named = {str(uid): str(item.service_class_uid) for uid, item in items.items()}
    assert named == {private: STORAGE_SERVICE_CLASS, **ours}
