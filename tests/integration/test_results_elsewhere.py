"""The same run gives the same bytes in another process and another time zone."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from inference.results.forms import Form
from tests.builders.findings import ct_headers, in_many_scripts, lungs, make_run, marked, pictures, refused
from tests.builders.grids import grid_header, outlined, ramp
from tests.builders.result_sets import built

ROOT = Path(__file__).resolve().parents[2]
FORMS = (
    *("binary+comprehensive", "labelmap+enhanced", "none+basic-text"),
    *("capture+none", "none+summary", "none+pdf"),
)
DIGESTS = """
import hashlib, warnings
from inference.results.build import build_results, encode
from tests.builders.findings import NODE, ct_headers, in_many_scripts, lungs, make_run, refused
headers = ct_headers()
for findings in (lungs(), refused(), in_many_scripts()):
    for result in build_results(findings, headers, make_run(headers), NODE):
        print(hashlib.sha256(encode(result)).hexdigest())
from inference.results.forms import Form
from tests.builders.findings import marked, pictures
from tests.builders.grids import grid_header, outlined, ramp
image = grid_header("DX")
for form in {forms}:
    for used, findings, shown in ((headers, marked(), pictures()), ((image,), outlined(image), ramp(image))):
        for result in build_results(findings, used, make_run(used), NODE, Form.of(form), shown):
            print(hashlib.sha256(encode(result)).hexdigest())
""".replace("{forms}", repr(FORMS))


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
    headers, image = ct_headers(), grid_header("DX")
    sources = ((headers, marked(), pictures()), ((image,), outlined(image), ramp(image)))
    for form in FORMS:
        for used, findings, shown in sources:
            made = built(findings, evidence=used, run=make_run(used), form=Form.of(form), shown=shown)
            here += [hashlib.sha256(result.part10).hexdigest() for result in made.results]
    assert digests_elsewhere("Pacific/Auckland", "1") == here
    assert digests_elsewhere("America/St_Johns", "2") == here
