"""`make bench-results`: seconds to write segmentations and reports, beside plain highdicom in the same run."""

from __future__ import annotations

import argparse
import io
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Sequence

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from benchmarks.bodies import bodies
from benchmarks.wire import lines
from inference.findings import Findings, Segment
from inference.results.build import build_results, write_part10
from inference.results.evidence import Evidence
from inference.results.forms import CANONICAL, Form
from inference.results.references import stand_in
from inference.results.run import Run
from inference.results.seg import make_seg
from tests.builders.findings import NODE, ct_headers, lungs, make_run

ROWS = COLUMNS = 512


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-r", "--rounds", type=int, default=3)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--no-wire", action="store_true", help="leave out what needs a whole node")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    size = f"{ROWS}x{COLUMNS}x{arguments.slices}"
    print(f"{platform.machine()}, Python {platform.python_version()}; {size}, median (best)\n")
    evidence = Evidence.of(ct_headers(arguments.slices, rows=ROWS, columns=COLUMNS, slice_mm=1.25))
    run = make_run(evidence)
    print(f"{'work':<44}{'node s':>16}{'highdicom s':>18}{'ratio':>8}")
    for count in (1, 5, 20):
        findings = _findings(count, arguments.slices)
        for form in (Form("binary", "none"), Form("labelmap", "none")):
            ours = _timed(lambda f=findings, m=form: _ours(f.segments, evidence, run, m), arguments.rounds)
            theirs = _timed(lambda f=findings, m=form: _plain(f.segments, evidence, m), arguments.rounds)
            _line(f"segmentation, {form.outlines}, {count} segments", ours, theirs)
    findings = _findings(5, arguments.slices)
    _sets(findings, evidence, run, arguments.rounds)
    if not arguments.no_wire:
        print("\nfrom stored findings to the last object at storescp, through worker, queue and courier:")
        for line in lines(arguments.slices, arguments.rounds):
            print(line, flush=True)


def _sets(findings: Findings, evidence: Sequence[Dataset], run: Run, rounds: int) -> None:
    """Whole sets of five segments: built, encoded, read back bit for bit and through the gate."""
    for form in (Form("labelmap", "comprehensive-3d"), CANONICAL, Form("none", "comprehensive-3d")):
        times = _timed(lambda m=form: build_results(findings, evidence, run, NODE, m), rounds)
        _line(f"set {form}, checked", times, None)


def _findings(count: int, slices: int) -> Findings:
    return lungs(segments=bodies(count, slices, ROWS, COLUMNS), groups=())


def _plain(segments: Sequence[Segment], evidence: Sequence[Dataset], form: Form) -> bytes:
    """What a program writes that gives highdicom a label map of the whole series."""
    labels = np.zeros(segments[0].mask.shape, dtype=np.uint8)
    for number, segment in enumerate(segments, 1):
        labels[segment.mask] = number
    described = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=segment.label,
            segmented_property_category=hd.sr.CodedConcept(*_code(segment.category)),
            segmented_property_type=hd.sr.CodedConcept(*_code(segment.type)),
            algorithm_type="AUTOMATIC",
            algorithm_identification=hd.AlgorithmIdentificationSequence(
                name="bench", family=hd.sr.CodedConcept("123105", "DCM", "Histogram Analysis"), version="1"
            ),
        )
        for number, segment in enumerate(segments, 1)
    ]
    made = hd.seg.Segmentation(
        source_images=[_source(header) for header in evidence],
        pixel_array=labels,
        segmentation_type=form.outlines.upper(),
        segment_descriptions=described,
        series_instance_uid=hd.UID(),
        series_number=1,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="bench",
        manufacturer_model_name="bench",
        software_versions="1",
        device_serial_number="1",
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    return _written(made)


def _code(code: object) -> tuple[str, str, str]:
    return code.value, code.scheme, code.meaning  # type: ignore[attr-defined]


def _source(header: Dataset) -> Dataset:
    source = stand_in(header)
    for keyword in ("Rows", "Columns", "FrameOfReferenceUID", "PositionReferenceIndicator", "PixelSpacing"):
        setattr(source, keyword, header[keyword].value)
    for keyword in ("ImageOrientationPatient", "ImagePositionPatient", "SliceThickness"):
        setattr(source, keyword, header[keyword].value)
    return source


def _ours(segments: Sequence[Segment], evidence: Evidence, run: Run, form: Form) -> bytes:
    made = make_seg(segments, evidence, run, NODE, form)
    assert made is not None
    return write_part10(made)


def _written(seg: Dataset) -> bytes:
    target = io.BytesIO()
    seg.save_as(target, implicit_vr=False, little_endian=True, enforce_file_format=False)
    return target.getvalue()


def _timed(work: Callable[[], object], rounds: int) -> list[float]:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return times


def _line(what: str, ours: Sequence[float], theirs: Sequence[float] | None) -> None:
    said = f"{statistics.median(ours):.2f} ({min(ours):.2f})"
    other = f"{statistics.median(theirs):.2f} ({min(theirs):.2f})" if theirs else "-"
    ratio = f"{statistics.median(theirs) / statistics.median(ours):.1f}x" if theirs else "-"
    print(f"{what:<44}{said:>16}{other:>18}{ratio:>8}", flush=True)


if __name__ == "__main__":
    main()
