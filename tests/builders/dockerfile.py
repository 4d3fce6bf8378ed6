"""A Dockerfile and a compose file as values, where no container engine is at hand."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DOCKER = Path(__file__).parents[2] / "docker"


@dataclass(frozen=True)
class Instruction:
    """One instruction, its continuation lines joined."""

    name: str
    words: str

    @property
    def command(self) -> list[str]:
        """The command in its exec form; fails for a shell form."""
        return [str(word) for word in json.loads(self.words)]


def stages(path: Path) -> list[list[Instruction]]:
    """Read a Dockerfile, stage by stage."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    found: list[list[Instruction]] = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if not line.strip():
            continue
        name, _, words = line.partition(" ")
        if name == "FROM":
            found.append([])
        found[-1].append(Instruction(name, words.strip()))
    return found


def environ(stage: list[Instruction]) -> dict[str, str]:
    """Give what the ENV instructions of a stage set."""
    words = [word for each in stage if each.name == "ENV" for word in shlex.split(each.words)]
    return dict(word.split("=", 1) for word in words)


def compose() -> dict[str, Any]:
    """Read the compose file."""
    return dict(yaml.safe_load((DOCKER / "docker-compose.yml").read_text()))
