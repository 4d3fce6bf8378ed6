"""The roles of the node, each composed in a process of its own."""

from __future__ import annotations

#: In the order in which they start.
ROLES = ("receiver", "web", "worker", "courier")
