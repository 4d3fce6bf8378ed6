"""Real DICOM files beside the checkout, where this machine has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).parents[3] / "shared" / "data"


def shared_data(*parts: str) -> Path:
    """Give a file or folder of the shared data; skip the test where it is absent."""
    root = Path(os.environ.get("DICOM_NODE_TEST_DATA") or _BESIDE)
    path = root.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"real data are not on this machine (set DICOM_NODE_TEST_DATA): {'/'.join(parts)}")
    return path
