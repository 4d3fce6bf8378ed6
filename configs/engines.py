"""Settings of the engines, under the names that routes use."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, PositiveFloat

from configs.section import Section

#: Engines that routes may name; one that is not installed leaves its studies waiting.
ENGINE_NAMES = ("classical-lung", "classical-tissue", "classical-skin", "medversa")


def check_engine_name(name: str) -> str:
    """Refuse a name that no engine has; `remote-<name>` is free."""
    if name not in ENGINE_NAMES and not (name.startswith("remote-") and len(name) > len("remote-")):
        raise ValueError(f"unknown engine {name!r}; there are {', '.join(ENGINE_NAMES)} and remote-<name>")
    return name


EngineName = Annotated[str, AfterValidator(check_engine_name)]


class EngineSettings(Section):
    """One engine's settings in `engines.yaml`."""

    enabled: bool = True
    device: Literal["cpu"] = "cpu"
    deadline_s: PositiveFloat = 900.0
    """Seconds after which a job of this engine has failed."""
