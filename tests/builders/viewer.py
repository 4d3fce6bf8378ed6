"""A package that looks like the viewer's, small; and the real one where it was fetched."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from dicomweb.viewer.package import MENDED

SCRIPT, WORKER = "app.bundle.0123456789abcdef.js", "8097.bundle.fedcba9876543210.js"
FILES = {
    "package/LICENSE": b"The MIT License (MIT)",
    "package/package.json": b"{}",
    "package/dist/index.html": b'<html><script defer src="/' + SCRIPT.encode() + b'"></script>'
    b'<link href="/app.bundle.css" rel="stylesheet"></html>',
    f"package/dist/{SCRIPT}": b'__webpack_require__.p = "/";\n' + b"// a viewer\n" * 200,
    f"package/dist/{WORKER}": b'__webpack_require__.p = "/";\n' + b"\n".join(before for before, _ in MENDED),
    "package/dist/app.bundle.css": b"@font-face { src: url(/a.woff2) }",
    "package/dist/a.woff2": b"letters",
    "package/dist/app.bundle.js.map": b"{}",
    "package/dist/ort/ort.js": b"",
    "package/dist/sw.js": b"importScripts('https://elsewhere.example/')",
    "package/dist/init-service-worker.js": b"importScripts('https://elsewhere.example/')",
    "package/dist/app-config.js": b"window.config = { elsewhere: true }",
    "package/dist/assets/favicon.ico": b"icon",
}


def make_package(path: Path, files: dict[str, bytes] | None = None) -> Path:
    """Write an npm package's file."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in (FILES if files is None else files).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path
