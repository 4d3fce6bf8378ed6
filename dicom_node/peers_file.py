"""Changes to `peers.yaml` that keep what an administrator wrote around them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from configs.errors import ConfigError
from configs.load import read_peers

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def add_peer(path: Path, name: str, entry: Mapping[str, object]) -> str:
    """Append one peer and give the YAML that was written.

    Raises
    ------
    ConfigError
        The name is taken or no name, or the entry is wrong; the file is as it was.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name for a peer: use letters, digits, '_', '.', '-'")
    former = path.read_text(encoding="utf-8") if path.exists() else ""
    if name in (read_peers(path) if path.exists() else {}):
        raise ConfigError(f"{path.name}: {name} is on the list already; remove it first")
    body = yaml.safe_dump({name: dict(entry)}, sort_keys=False, default_flow_style=None, width=200)
    block = "".join(f"  {line}\n" for line in body.splitlines())
    lines = former.splitlines(keepends=True)
    start = next(
        (number for number, line in enumerate(lines) if re.match(r"peers:\s*(\{\s*\}\s*)?(#.*)?$", line)), None
    )
    if start is None:
        if re.search(r"^peers:", former, re.MULTILINE):
            raise ConfigError(f"{path.name}: the list is written in one line; write one peer per block to add more")
        _replace(path, former.rstrip("\n") + "\n\npeers:\n" + block, former)
        return block
    lines[start] = "peers:\n"
    end = next((n for n in range(start + 1, len(lines)) if re.match(r"[^\s#]", lines[n])), len(lines))
    head = "".join(lines[:end]).rstrip("\n") + "\n"
    _replace(path, head + "\n" + block + "".join(lines[end:]), former)
    return block


def remove_peer(path: Path, name: str) -> None:
    """Take one peer's block out.

    Raises
    ------
    ConfigError
        There is no such peer, or the list without it would be wrong.
    """
    former = path.read_text(encoding="utf-8")
    if name not in read_peers(path):
        raise ConfigError(f"{path.name}: there is no peer {name!r}")
    lines = former.splitlines(keepends=True)
    start = next((n for n, line in enumerate(lines) if re.match(rf"\s+['\"]?{re.escape(name)}['\"]?:", line)), None)
    if start is None:
        raise ConfigError(f"{path.name}: the entry of {name} cannot be told apart; take it out by hand")
    indent = len(lines[start]) - len(lines[start].lstrip())
    end = start + 1
    while end < len(lines) and (not lines[end].strip() or len(lines[end]) - len(lines[end].lstrip()) > indent):
        end += 1
    _replace(path, "".join(lines[:start] + lines[end:]), former)
    if name in read_peers(path):
        _write(path, former)
        raise ConfigError(f"{path.name}: the entry of {name} cannot be told apart; take it out by hand")


def _replace(path: Path, text: str, former: str) -> None:
    """Write the new list; where it is wrong, the former stands again."""
    _write(path, text)
    try:
        read_peers(path)
    except ConfigError:
        _write(path, former)
        raise


def _write(path: Path, text: str) -> None:
    beside = path.with_suffix(".yaml.new")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
