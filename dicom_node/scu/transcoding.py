"""Instances in another transfer syntax than they are kept in, for peers that do not take that one."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import BinaryIO, Protocol, cast

from inference.pixel_process import PixelProcess
from inference.syntaxes import EXPLICIT_LITTLE, IMPLICIT_LITTLE, NATIVE, targets_of
from inference.transcode import transcode
from storage.part10 import pass_file_meta

_IN_MEMORY = 16 << 20


class Transcoder(Protocol):
    """Gives instances in other syntaxes, without loss."""

    def targets(self, transfer_syntax_uid: str) -> Sequence[str]:
        """Name the syntaxes that an instance kept in this one can be given in, best first, without its own."""
        ...

    def transcode(self, part10: BinaryIO, transfer_syntax_uid: str, target: str) -> BinaryIO:
        """Give the data set of a DICOM file in another syntax, from its first byte; seekable, to be closed.

        Raises
        ------
        NodeError
            It cannot be given so.
        """
        ...


class NativeTranscoder:
    """Uncompressed instances in the other uncompressed syntaxes; nothing is decoded."""

    def targets(self, transfer_syntax_uid: str) -> Sequence[str]:
        """Name the syntaxes that an instance kept in this one can be given in."""
        if transfer_syntax_uid not in NATIVE:
            return ()
        return tuple(target for target in (EXPLICIT_LITTLE, IMPLICIT_LITTLE) if target != transfer_syntax_uid)

    def transcode(self, part10: BinaryIO, _: str, target: str) -> BinaryIO:
        """Give the data set in another syntax: an uncompressed one, or one that its owner prefers.

        Raises
        ------
        CannotTranscode, UnreadablePixels
        """
        # The caller closes it.
        out = cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY))  # noqa: SIM115
        try:
            transcode(part10, target, out)
            out.seek(0)
            pass_file_meta(out)
        except BaseException:
            out.close()
            raise
        return out


class PixelTranscoder:
    """Everything that can be had without loss, by child processes with limits: instances come from anywhere."""

    def __init__(self, pixels: PixelProcess) -> None:
        self._pixels = pixels

    def targets(self, transfer_syntax_uid: str) -> Sequence[str]:
        """Name the syntaxes that an instance kept in this one can be given in."""
        return targets_of(transfer_syntax_uid)[1:]

    def transcode(self, part10: BinaryIO, transfer_syntax_uid: str, target: str) -> BinaryIO:
        """Give the data set in another syntax.

        Raises
        ------
        CannotTranscode, UnreadablePixels, PixelWorkStopped
        """
        made = self._pixels.transcode(part10, transfer_syntax_uid, [target]).file
        pass_file_meta(made)
        return made
