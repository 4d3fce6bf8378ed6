"""The root of every foreseen failure."""

from __future__ import annotations

import re
from typing import Any


class NodeError(Exception):
    """A failure that the node foresees; anything else is a bug of ours.

    Parameters
    ----------
    message
        What happened and what to do, without patient data; the class's docstring stands in for it.
    facts
        Ids that belong to the failure (UIDs, AE titles, paths), kept as attributes in `facts`.
    """

    def __init__(self, message: str | None = None, **facts: Any) -> None:
        super().__init__(message or type(self).summary())
        self.facts = facts

    @classmethod
    def summary(cls) -> str:
        """First line of the class's docstring: the default message."""
        return (cls.__doc__ or cls.__name__).strip().splitlines()[0]

    @property
    def code(self) -> str:
        """Name of the failure in snake_case, as logs and JSON answers carry it."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(self).__name__).lower()


class ConfigError(NodeError):
    """The node cannot start as it is configured."""
