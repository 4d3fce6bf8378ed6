"""The engines of this installation, by the names that routes use."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from configs.engines import EngineSettings
from inference.engines.lung import ClassicalLung
from inference.engines.protocol import Engine

#: How each engine is made.
_MAKERS: dict[str, Callable[[EngineSettings], Engine]] = {
    "classical-lung": lambda _: ClassicalLung(),
}


def engines(settings: Mapping[str, EngineSettings]) -> dict[str, Engine]:
    """Make the engines that are installed and enabled."""
    return {name: _MAKERS[name](section) for name, section in settings.items() if section.enabled and name in _MAKERS}
