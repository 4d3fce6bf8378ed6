"""Has the kernel begin to write a file's bytes to disk while its next ones are on their way."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

# Linux, sync_file_range(2)
_SYNC_FILE_RANGE_WRITE = 2


def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    function = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if function is not None:
        function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
        function.restype = ctypes.c_int
    return function


_begin = _sync_file_range()


def begin_writeback(descriptor: int) -> None:
    """Begin to write what the file holds; waiting for it, and hearing what failed, is left to `fdatasync`."""
    if _begin is not None:
        _begin(descriptor, 0, 0, _SYNC_FILE_RANGE_WRITE)
