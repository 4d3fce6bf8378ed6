"""Transfer syntaxes: which can be read here, which can be written without loss, and which to choose.

Source: PS3.5 8.2 and Annex A; the codecs are those that the base installation pins.
"""

from __future__ import annotations

from collections.abc import Collection

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
RLE = "1.2.840.10008.1.2.5"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_LS_NEAR = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
JPEG_2000 = "1.2.840.10008.1.2.4.91"
HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"
HTJ2K_LOSSLESS_RPCL = "1.2.840.10008.1.2.4.202"
HTJ2K = "1.2.840.10008.1.2.4.203"
DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"

#: Pixels stand in them as they are.
NATIVE = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED, EXPLICIT_BIG})
#: Compressed ones that are read here, and the decoder that reads them. GDCM reads what nothing else does.
DECODERS = {
    RLE: "pylibjpeg",
    JPEG_BASELINE: "pillow",
    JPEG_EXTENDED: "pillow",  # of 8 bits; 12 bits have no decoder under a licence that the base may hold
    JPEG_LOSSLESS: "gdcm",
    JPEG_LOSSLESS_SV1: "gdcm",
    JPEG_LS: "pyjpegls",
    JPEG_LS_NEAR: "pyjpegls",
    JPEG_2000_LOSSLESS: "pylibjpeg",
    JPEG_2000: "pylibjpeg",
    HTJ2K_LOSSLESS: "pylibjpeg",
    HTJ2K_LOSSLESS_RPCL: "pylibjpeg",
    HTJ2K: "pylibjpeg",
}
#: Compressed ones that are written here, always without loss, and the encoder that writes them.
ENCODERS = {JPEG_LS: "pyjpegls", JPEG_2000_LOSSLESS: "pylibjpeg", RLE: "pylibjpeg"}
#: Written here for whoever asks for it by name, and read by few yet (PS3.5 A.4.13, since 2025).
ON_REQUEST = frozenset({DEFLATED_FRAMES})
#: Whose pixels have surely lost something: the discrete cosine transform is never exact.
SURELY_LOSSY = frozenset({JPEG_BASELINE, JPEG_EXTENDED})
#: What an instance may be written in, the best first: everybody reads Explicit VR Little Endian.
TARGETS = (EXPLICIT_LITTLE, IMPLICIT_LITTLE, JPEG_LS, JPEG_2000_LOSSLESS, RLE, DEFLATED, EXPLICIT_BIG)


def targets_of(stored: str) -> tuple[str, ...]:
    """Give the transfer syntaxes that an instance can be sent in without loss: as stored first, then the best.

    An instance without a decoder here can be sent as stored only.
    """
    if stored not in NATIVE and stored not in DECODERS:
        return (stored,)
    return (stored, *(target for target in TARGETS if target != stored))


def choose_syntax(stored: str, accepted: Collection[str]) -> str | None:
    """Give the transfer syntax to send in to somebody who accepts these; None: there is none without loss."""
    return next((target for target in targets_of(stored) if target in accepted), None)
