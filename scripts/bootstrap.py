"""Make `.venv` and install the node into it, with pinned versions. Standard library only.

Usage: python3 scripts/bootstrap.py [EXTRA ...]

Uses uv where it is on PATH, else pip. Does nothing where the same, or more, has been installed already.
Two of them at once wait for each other.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
OLDEST = (3, 11)


def main(extras: list[str]) -> int:
    """Install the base and the named extras."""
    if sys.version_info < OLDEST:
        return use_newer_python()
    if is_installed(extras):
        return 0
    with (ROOT / ".bootstrap.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return 0 if is_installed(extras) else install_all(extras)


def is_installed(extras: list[str]) -> bool:
    """Tell whether these parts stand in `.venv` as wanted now, by themselves or among others."""
    wanted = fingerprint()
    for stamp in VENV.glob(".installed-*") if PYTHON.exists() else ():
        there = set(stamp.name.removeprefix(".installed-").split("-"))
        if there >= {"base", *extras} and stamp.read_text() == wanted:
            return True
    return False


def install_all(extras: list[str]) -> int:
    """Make `.venv` where it is missing, and install."""
    began = time.monotonic()
    if not PYTHON.exists():
        make_venv()
    say(f"Installing {'base' if not extras else 'base, ' + ', '.join(extras)} into .venv …")
    target = ".[" + ",".join(extras) + "]" if extras else "."
    install(["-e", target, "-c", "constraints.txt"])
    stamp = VENV / f".installed-{'-'.join(['base', *sorted(extras)])}"
    stamp.write_text(fingerprint())
    say(f"Installed in {time.monotonic() - began:.0f} s.")
    return 0


def use_newer_python() -> int:
    """Start again under a newer interpreter, if there is one."""
    for name in ("python3.14", "python3.13", "python3.12", "python3.11"):
        path = shutil.which(name)
        if path:
            os.execv(path, [path, *sys.argv])  # noqa: S606 (no shell)
    say(f"Python {OLDEST[0]}.{OLDEST[1]} or newer is needed; this is {sys.version.split()[0]}.")
    return 1


def make_venv() -> None:
    """Create the virtual environment."""
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    except subprocess.CalledProcessError:
        say("No virtual environment could be made. On Debian and Ubuntu: apt-get install python3-venv")
        raise SystemExit(1) from None


def install(what: list[str]) -> None:
    """Run uv or pip; their own output is shown only when they fail."""
    uv = shutil.which("uv")
    environ = dict(os.environ)
    if uv:
        # uv does not read pip's configuration.
        if "PIP_FIND_LINKS" in environ:
            environ.setdefault("UV_FIND_LINKS", environ["PIP_FIND_LINKS"])
        command = [uv, "pip", "install", "--python", str(PYTHON), "--compile-bytecode", *what]
    else:
        command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", *what]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        say(done.stdout + done.stderr)
        say("The installation failed; see above.")
        raise SystemExit(done.returncode)


def fingerprint() -> str:
    """Digest of what decides the installation."""
    digest = hashlib.sha256(sys.version.encode())
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
