"""Sizes and place of the small MedVersa model; loads no model runtime."""

from __future__ import annotations

import json
from pathlib import Path

from inference.engines.medversa.sizes import sizes_from

VECTORS = Path(__file__).parent.parent / "vectors" / "medversa"
SMALL = sizes_from(json.loads((VECTORS / "config.json").read_text()))
