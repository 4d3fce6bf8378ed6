from __future__ import annotations

import pytest
from pydicom.pixels import get_decoder, get_encoder
from pydicom.uid import UID

from inference.syntaxes import (
    DECODERS,
    DEFLATED,
    ENCODERS,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    HTJ2K_LOSSLESS,
    IMPLICIT_LITTLE,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_LS,
    NATIVE,
    RLE,
    TARGETS,
    choose_syntax,
    targets_of,
)


@pytest.mark.parametrize("uid", sorted({*DECODERS, *ENCODERS, *NATIVE, *TARGETS}))
def test_every_listed_uid_is_a_transfer_syntax(uid: str) -> None:
    assert UID(uid).is_transfer_syntax


@pytest.mark.parametrize("uid", DECODERS)
def test_every_listed_decoder_is_installed(uid: str) -> None:
    assert DECODERS[uid] in get_decoder(UID(uid))._available


@pytest.mark.parametrize("uid", ENCODERS)
def test_every_listed_encoder_is_installed(uid: str) -> None:
    assert ENCODERS[uid] in get_encoder(UID(uid))._available


def test_what_is_accepted_as_stored_goes_as_stored() -> None:
    assert choose_syntax(JPEG_BASELINE, {EXPLICIT_LITTLE, JPEG_BASELINE}) == JPEG_BASELINE


def test_explicit_little_endian_comes_before_implicit_and_compressed() -> None:
    assert choose_syntax(HTJ2K_LOSSLESS, {RLE, IMPLICIT_LITTLE, EXPLICIT_LITTLE}) == EXPLICIT_LITTLE


def test_a_peer_that_takes_compressed_only_gets_lossless() -> None:
    assert choose_syntax(EXPLICIT_LITTLE, {JPEG_BASELINE, JPEG_2000_LOSSLESS, JPEG_LS}) == JPEG_LS


def test_a_peer_that_takes_lossy_only_gets_nothing() -> None:
    assert choose_syntax(EXPLICIT_LITTLE, {JPEG_BASELINE}) is None


def test_what_nobody_here_decodes_goes_as_stored_only() -> None:
    mpeg = "1.2.840.10008.1.2.4.102"
    assert targets_of(mpeg) == (mpeg,)
    assert choose_syntax(mpeg, {EXPLICIT_LITTLE}) is None


def test_uncompressed_forms_reach_each_other() -> None:
    assert set(targets_of(EXPLICIT_BIG)) >= {IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED}
