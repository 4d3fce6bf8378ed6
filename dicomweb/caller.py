"""Who asks, and what they may."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request

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


#: Gives the dependency that lets pass who has a permission.
Requires = Callable[[str], Callable[[Request], Awaitable[Caller]]]

LOCAL = Caller("local", LOCAL_PERMISSIONS, EVERYTHING)
ADMIN = Caller("admin", PERMISSIONS, EVERYTHING)
