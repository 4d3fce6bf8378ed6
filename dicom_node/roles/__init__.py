"""The roles of the node, each composed in a process of its own."""

from __future__ import annotations

#: In the order in which they start; `chat` only where the node runs a language model itself.
ROLES = ("receiver", "web", "worker", "courier", "chat")
