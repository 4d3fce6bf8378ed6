"""Exit status 0 while the node answers that it is ready."""

import os
import sys
import urllib.error
import urllib.request

port = os.environ.get("DICOM_NODE_HTTP__PORT", "8080")
try:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=4) as answer:
        sys.exit(0 if answer.status == 200 else 1)
except (urllib.error.URLError, OSError):
    sys.exit(1)
