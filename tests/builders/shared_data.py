"""Files that nobody here made, outside the repository; tests that want them are skipped without."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def shared_data(*parts: str) -> Path:
    """Give a file or folder of the shared test data, or skip the test."""
    root = Path(os.environ.get("DICOM_NODE_TEST_DATA") or _BESIDE)
    path = root.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"no shared test data at {path} (set DICOM_NODE_TEST_DATA)")
    return path
