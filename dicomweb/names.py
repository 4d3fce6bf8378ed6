"""What paths may name: anything else is a bad request before it reaches storage."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

#: Source: PS3.5 9.1.
UID_PATTERN = r"[0-9.]{1,64}"
Uid = Annotated[str, Path(pattern=f"^{UID_PATTERN}$")]
DeliveryId = Annotated[str, Path(pattern=r"^[^\x00-\x1f]{1,255}$")]
