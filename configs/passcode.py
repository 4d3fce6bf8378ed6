"""Passcodes that peers give, kept as salted hashes."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

_FORM = re.compile(r"scrypt\$(?P<salt>[0-9a-f]{32})\$(?P<digest>[0-9a-f]{64})")
#: Cost: about 15 ms and 4 MB for each look, so that a stolen list is dear and a flood of callers is not.
_COST, _BLOCK, _LANES = 1 << 12, 8, 1


def hash_passcode(passcode: str, *, salt: bytes | None = None) -> str:
    """Give what stands in `peers.yaml` for a passcode."""
    salt = secrets.token_bytes(16) if salt is None else salt
    return f"scrypt${salt.hex()}${_digest(passcode.encode(), salt).hex()}"


def is_hash(text: str) -> bool:
    """Tell whether a text is what `hash_passcode` gives."""
    return _FORM.fullmatch(text) is not None


def matches(passcode: bytes, hashed: str) -> bool:
    """Tell whether a passcode is the one that was hashed; what is no hash matches nothing."""
    found = _FORM.fullmatch(hashed)
    if found is None:
        return False
    return hmac.compare_digest(_digest(passcode, bytes.fromhex(found["salt"])).hex(), found["digest"])


def _digest(passcode: bytes, salt: bytes) -> bytes:
    return hashlib.scrypt(passcode, salt=salt, n=_COST, r=_BLOCK, p=_LANES, dklen=32)
