"""Settings of the engines, under the names that routes use."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveFloat

from configs.section import Section


class EngineSettings(Section):
    """One engine's settings in `engines.yaml`."""

    enabled: bool = True
    device: Literal["cpu"] = "cpu"
    deadline_s: PositiveFloat = 900.0
    """Seconds after which a job of this engine has failed."""
