"""The same run gives the same bytes in another process and another time zone."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from tests.builders.findings import in_many_scripts, lungs, refused
from tests.builders.result_sets import built

ROOT = Path(__file__).resolve().parents[2]
DIGESTS = """
import hashlib, warnings
from inference.results.build import build_results, encode
from tests.builders.findings import NODE, ct_headers, in_many_scripts, lungs, make_run, refused
headers = ct_headers()
for findings in (lungs(), refused(), in_many_scripts()):
    for result in build_results(findings, headers, make_run(headers), NODE):
        print(hashlib.sha256(encode(result)).hexdigest())
"""


def digests_elsewhere(zone: str, seed: str) -> list[str]:
    environment = {**os.environ, "TZ": zone, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", DIGESTS], capture_output=True, text=True, check=True, env=environment, cwd=ROOT
    )
    return done.stdout.split()


def test_two_processes_in_two_time_zones_give_identical_bytes() -> None:
    here = []
    for findings in (lungs(), refused(), in_many_scripts()):
        here += [hashlib.sha256(result.part10).hexdigest() for result in built(findings).results]
    assert digests_elsewhere("Pacific/Auckland", "1") == here
    assert digests_elsewhere("America/St_Johns", "2") == here
