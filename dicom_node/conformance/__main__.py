"""Write the conformance statement to the standard output."""

from __future__ import annotations

import sys

from dicom_node.conformance import statement

sys.stdout.write(statement())
