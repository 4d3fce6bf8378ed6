"""`make gallery`."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

from tests.gallery.write import write_gallery

warnings.simplefilter("ignore")
sys.stdout.write(f"Look at {write_gallery(Path(sys.argv[1]))}\n")
