"""Certificates made when a test runs, by the openssl program: authorities, and what they sign."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: Path
    key: Path


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=30)


@dataclass(frozen=True)
class Authority:
    """Signs certificates."""

    folder: Path
    name: str

    @classmethod
    def make(cls, folder: Path, name: str = "Test CA") -> Authority:
        """Make an authority with a key of its own."""
        if shutil.which("openssl") is None:
            pytest.skip("the openssl program is not installed")
        made = cls(folder / name.replace(" ", "-"), name)
        made.folder.mkdir(parents=True)
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-keyout", str(made.folder / "ca.key"), "-out", str(made.ca)),
        )
        for file, content in (("index.txt", ""), ("index.txt.attr", "unique_subject = no\n"), ("serial", "01\n")):
            (made.folder / file).write_text(content)
        return made

    @property
    def ca(self) -> Path:
        """Its own certificate."""
        return self.folder / "ca.pem"

    def sign(self, name: str, *alternatives: str, expired: bool = False) -> Pair:
        """Make a certificate: common name, and subject alternative names such as `DNS:pacs` or `IP:127.0.0.1`."""
        stem = self.folder / f"{name}-{len(list(self.folder.glob('*.csr')))}"
        key, request, certificate = (stem.with_suffix(suffix) for suffix in (".key", ".csr", ".pem"))
        _openssl(
            *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-subj", f"/CN={name}", "-keyout", str(key), "-out", str(request)),
        )
        config = self.folder / "ca.cnf"
        names = f"subjectAltName = {','.join(alternatives)}\n" if alternatives else ""
        config.write_text(
            f"[ca]\ndefault_ca = here\n[here]\ndatabase = {self.folder}/index.txt\nserial = {self.folder}/serial\n"
            f"new_certs_dir = {self.folder}\ncertificate = {self.ca}\nprivate_key = {self.folder}/ca.key\n"
            "default_md = sha256\npolicy = any\nx509_extensions = leaf\n[any]\ncommonName = supplied\n"
            f"[leaf]\nbasicConstraints = CA:FALSE\n{names}"
        )
        times = ("20200101000000Z", "20200102000000Z") if expired else ("20200101000000Z", "20491231000000Z")
        _openssl(
            *("ca", "-batch", "-notext", "-config", str(config), "-startdate", times[0], "-enddate", times[1]),
            *("-in", str(request), "-out", str(certificate)),
        )
        return Pair(certificate, key)
