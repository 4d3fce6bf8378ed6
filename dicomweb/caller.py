"""Who asks, and what they may."""

from __future__ import annotations

from dataclasses import dataclass

from storage.keys import PERMISSIONS
from storage.records import EVERYTHING, StudyFilter

#: What anything on the node's own machine may do where `auth.local` is open (never delete, keys, settings, retract).
LOCAL_PERMISSIONS = frozenset({"read", "store", "predict", "chat", "console"})


@dataclass(frozen=True)
class Caller:
    """One authenticated asker."""

    name: str
    permissions: frozenset[str]
    visible: StudyFilter


LOCAL = Caller("local", LOCAL_PERMISSIONS, EVERYTHING)
ADMIN = Caller("admin", PERMISSIONS, EVERYTHING)
