"""Reconstruction kernels: smooth or sharp, as far as the makers' names tell."""

from __future__ import annotations

import re
from typing import Literal

from pydicom import Dataset

Sharpness = Literal["smooth", "sharp", "unknown"]

#: Manufacturer (by the beginning of its name) → patterns of smooth and of sharp kernels.
#: Source: the makers' naming: Siemens counts sharpness from 10 to 99 (lung kernels from 50), GE and Philips use names
#: and letters, Canon/Toshiba FC 01-19 for body, 30-39 and 80-89 for bone, 50-59 for lung.
_KERNELS: tuple[tuple[str, str, str], ...] = (
    ("SIEMENS", r"[A-Z]{1,2}[1-4]\d[A-Z]*.*", r"[A-Z]{1,2}[5-9]\d[A-Z]*.*"),
    ("GE", r"STANDARD|SOFT.*|STND.*", r"LUNG|BONE.*|EDGE|ULTRA|DETAIL|CHST"),
    ("PHILIPS", r"A|B|SA|SB|I?BRAIN.*|STANDARD|SMOOTH", r"C|D|E|L|SC|YA|YB|YC|YD|YE|Y-.*|LUNG|SHARP|BONE|DETAIL"),
    ("CANON", r"FC(0\d|1\d).*", r"FC([358]\d).*"),
    ("TOSHIBA", r"FC(0\d|1\d).*", r"FC([358]\d).*"),
)


def kernel_sharpness(header: Dataset) -> Sharpness:
    """Tell whether the reconstruction kernel is known to be smooth or sharp."""
    manufacturer = str(header.get("Manufacturer") or "").upper()
    kernel = _names(header)[0].strip().upper() if _names(header) else ""
    for maker, smooth, sharp in _KERNELS:
        if manufacturer.startswith(maker):
            if re.fullmatch(sharp, kernel):
                return "sharp"
            return "smooth" if re.fullmatch(smooth, kernel) else "unknown"
    return "unknown"


def kernel_name(header: Dataset) -> str:
    """The kernel as the scanner calls it."""
    return "/".join(_names(header)) or "unknown"


def _names(header: Dataset) -> list[str]:
    value = header.get("ConvolutionKernel") or ""
    return [value] if isinstance(value, str) and value else [str(each) for each in value]
