"""What a run was, as it is kept with its findings, and why a later run replaced an earlier one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from inference.engines.protocol import EngineDescription, SeriesNeeds
from inference.findings import Code


@dataclass(frozen=True)
class RunFacts:
    """What the answer of a run depends on."""

    engine: EngineDescription
    inputs: Mapping[str, str]
    """SOP Instance UID → SHA-256 of its data set."""
    series_instance_uids: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON values."""
        return {
            "engine": asdict(self.engine),
            "inputs": dict(self.inputs),
            "series_instance_uids": list(self.series_instance_uids),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> RunFacts:
        """Read what `to_json` gave."""
        engine = dict(raw["engine"])
        needs = dict(engine.pop("reads"))
        lists = {name: tuple(needs[name]) for name in ("modalities", "not_of") if name in needs}
        reads = SeriesNeeds(**{**needs, **lists})
        parameters = tuple((str(name), str(value)) for name, value in engine.pop("parameters"))
        description = EngineDescription(
            **{**engine, "family": Code(**engine["family"])}, reads=reads, parameters=parameters
        )
        return cls(description, dict(raw["inputs"]), tuple(raw["series_instance_uids"]))


def revision_reason(now: RunFacts, before: RunFacts) -> str:
    """Say what changed between two runs of the same engine and task, as a sentence for the report."""
    added = sum(uid not in before.inputs for uid in now.inputs)
    removed = sum(uid not in now.inputs for uid in before.inputs)
    changed = sum(before.inputs.get(uid, digest) != digest for uid, digest in now.inputs.items())
    said = []
    if not set(now.series_instance_uids) & set(before.series_instance_uids):
        said.append("Another series was chosen")
    else:
        said += [f"{_images(added)} arrived later"] if added else []
        said += [f"{_images(removed)} no longer counted"] if removed else []
    said += [f"{_images(changed)} corrected"] if changed else []
    if (now.engine.version, now.engine.digest) != (before.engine.version, before.engine.digest):
        said.append(f"{now.engine.name} {now.engine.version} replaced {before.engine.version}")
    text = ", ".join(said) or "Made anew with other settings"
    return f"{text}."


def _images(number: int) -> str:
    return "1 image" if number == 1 else f"{number} images"
