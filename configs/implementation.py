"""Which implementation this is, as DICOM asks of whoever speaks on the wire or writes a file."""

from __future__ import annotations

#: Same for every version. Source: PS3.7 D.3.3.2, PS3.10 7.1, PS3.5 B.2 (UUID derived UID).
IMPLEMENTATION_CLASS_UID = "2.25.152874961367397549912286392625276971217"
IMPLEMENTATION_VERSION_NAME = "DICOM_NODE"
