"""The version of the node, as its distribution says it."""

from __future__ import annotations

from importlib.metadata import version

VERSION = version("dicom-node")
