"""What the file system of a test's folder can do."""

from __future__ import annotations

import os
from pathlib import Path


def tells_what_is_in_memory(folder: Path) -> bool:
    """Tell whether a read that would wait can be told apart here: some file systems cannot (RWF_NOWAIT)."""
    probe = folder / "probe"
    probe.write_bytes(b"0123")
    descriptor = os.open(probe, os.O_RDONLY)
    try:
        return os.preadv(descriptor, [bytearray(4)], 0, os.RWF_NOWAIT) == 4
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
        probe.unlink()
