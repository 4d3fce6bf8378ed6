"""Our objects against their definitions, by tools and readers that others made."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset, dcmread

from inference.findings import Findings
from inference.results.build import build_list, build_rejection
from inference.results.forms import Form
from inference.results.key_objects import Rejection
from tests.builders.findings import (
    NODE,
    ct_headers,
    in_many_scripts,
    lungs,
    make_run,
    marked,
    pictures,
    refused,
    second_run,
    write,
)
from tests.builders.grids import KINDS, grid_header, outlined, ramp
from tests.builders.multi_frame import frames_of_one_image
from tests.builders.result_sets import ResultSet, built, lung_set, texts
from tests.builders.shared_data import shared_data


def tool(name: str, package: str) -> str:
    """Find a tool, or skip the test with the package that brings it."""
    # Python packages install tools of the same names that are other programs.
    found = shutil.which(name, path="/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install {package}")
    return found


def revised() -> ResultSet:
    run = make_run()
    return built(lungs(), run=second_run(run, built(lungs(), run=run).sr))


def turned() -> ResultSet:
    return built(lungs(), evidence=ct_headers(row_direction=(0, 1, 0), column_direction=(0, 0, -1)))


SETS: dict[str, Callable[[], ResultSet]] = {
    "lungs": lung_set,
    "refusal": lambda: built(refused()),
    "revision": revised,
    "many scripts": lambda: built(in_many_scripts()),
    "sagittal": turned,
    "one outline": lambda: built(lungs(segments=lungs().segments[:1])),
    "marks": lambda: built(marked()),
    "enhanced": lambda: built(lungs(), evidence=frames_of_one_image(shuffled=True)),
}
#: The other forms of the same findings.
FORMS = (
    "binary+comprehensive",
    "binary+enhanced",
    "none+comprehensive-3d",
    "none+basic-text",
    "none+pdf",
    "none+summary",
    "capture+comprehensive",
)


@pytest.mark.parametrize("kind", SETS)
def test_dciodvfy_finds_no_error(kind: str, tmp_path: Path) -> None:
    dciodvfy = tool("dciodvfy", "dicom3tools")
    for result in SETS[kind]().results:
        path = write(tmp_path, result.kind, result.part10)
        done = subprocess.run([dciodvfy, path], capture_output=True, text=True, check=False)
        told = done.stdout + done.stderr
        assert [line for line in told.splitlines() if line.startswith("Error")] == []


def errors_of(path: Path) -> list[str]:
    """What dciodvfy calls an error."""
    done = subprocess.run([tool("dciodvfy", "dicom3tools"), path], capture_output=True, text=True, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


@pytest.mark.parametrize("findings", [marked(), refused(), in_many_scripts()], ids=["marks", "refusal", "scripts"])
@pytest.mark.parametrize("form", FORMS)
def test_dciodvfy_finds_no_error_in_any_form(form: str, findings: Findings, tmp_path: Path) -> None:
    for result in built(findings, form=Form.of(form), shown=pictures()).results:
        assert errors_of(write(tmp_path, result.kind, result.part10)) == []


def test_dciodvfy_finds_in_a_label_map_only_that_it_predates_the_class(tmp_path: Path) -> None:
    made = built(lungs(), form=Form.of("labelmap+comprehensive-3d"))
    assert all("not segmentation" in error for error in errors_of(write(tmp_path, "sr", made.part10("sr"))))
    assert all("Information Object" in error for error in errors_of(write(tmp_path, "seg", made.part10("seg"))))


def test_highdicom_reads_a_label_map_bit_for_bit(tmp_path: Path) -> None:
    made = built(lungs(), form=Form.of("labelmap+none"))
    seg = hd.seg.segread(write(tmp_path, "seg", made.part10("seg")))
    read = seg.get_pixels_by_source_instance(
        [header.SOPInstanceUID for header in made.evidence],
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )
    for number, segment in enumerate(lungs().segments):
        assert np.array_equal(read[..., number].astype(np.bool_), segment.mask)


def test_dciodvfy_finds_no_error_in_key_object_selections(tmp_path: Path) -> None:
    made = built(lungs())
    objects = [result.dataset for result in made.results]
    source, run = made.evidence[0], make_run(made.evidence)
    for selection in (
        build_list(made.results, source, run, NODE),
        build_rejection(objects, Rejection.PATIENT_SAFETY, "The images were of another patient.", source, run, NODE),
    ):
        assert errors_of(write(tmp_path, "key", selection.part10)) == []


def test_dsrdump_prints_the_report_as_text(tmp_path: Path) -> None:
    path = write(tmp_path, "text", built(marked(), form=Form.of("none+basic-text")).part10("text"))
    done = subprocess.run([tool("dsrdump", "dcmtk"), "+Pl", "-q", path], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Nodule: present." in done.stdout


def test_dsrdump_prints_a_list_of_results(tmp_path: Path) -> None:
    made = built(marked())
    path = write(tmp_path, "list", build_list(made.results, made.evidence[0], make_run(), NODE).part10)
    done = subprocess.run([tool("dsrdump", "dcmtk"), "+Pl", "-q", path], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Of Interest" in done.stdout


def test_pdftotext_reads_every_sentence_of_the_document(tmp_path: Path) -> None:
    pdftotext = tool("pdftotext", "poppler-utils")
    document = built(marked(), form=Form.of("none+pdf"), shown=pictures()).of_kind("pdf")
    path = tmp_path / "report.pdf"
    path.write_bytes(document.EncapsulatedDocument[: document.EncapsulatedDocumentLength])
    done = subprocess.run([pdftotext, "-layout", path, "-"], capture_output=True, text=True, check=True)
    told = " ".join(done.stdout.split())
    for sentence in (
        "not for diagnosis",
        "Test Quiet",
        "T-0001",
        "Length 7.0 mm.",
        "A second.",
        "Volume 0.02 L.",
        "classical-lung 1.0",
    ):
        assert sentence in told


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("form", ["binary+comprehensive-3d", *FORMS])
@pytest.mark.parametrize("kind", KINDS)
def test_dciodvfy_finds_no_error_in_results_on_single_images(kind: str, form: str, tmp_path: Path) -> None:
    header = grid_header(kind)
    made = built(outlined(header), evidence=(header,), run=make_run((header,)), form=Form.of(form), shown=ramp(header))
    for result in made.results:
        assert errors_of(write(tmp_path, result.kind, result.part10)) == []


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "file",
    [
        ("cxr", "nih_pa_no_finding.dcm"),
        ("cxr", "nema_RG1_thorax_J2KI.dcm"),
        ("cxr", "gdcm_CR-MONO1-10-chest.dcm"),
        ("derm", "intraoral_photo_jpegext_8bit.dcm"),
    ],
    ids=lambda file: file[1],
)
def test_dciodvfy_finds_no_error_in_results_on_real_single_images(file: tuple[str, str], tmp_path: Path) -> None:
    header = dcmread(shared_data(*file), stop_before_pixels=True)
    run = make_run((header,), study_instance_uid=header.StudyInstanceUID)
    # One source's Patient's Age is none (AS of two letters): what is the patient's is copied as it is.
    theirs = [error for error in errors_of(shared_data(*file)) if "Patient's Age" in error or "invalid data" in error]
    for result in built(outlined(header), evidence=(header,), run=run).results:
        found = errors_of(write(tmp_path, result.kind, result.part10))
        assert [error for error in found if error not in theirs] == []


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "series",
    [
        ("ct_chest", "philips_64x5mm_kernelB"),
        ("ct_chest", "siemens_30x8mm_B40f"),
        ("ct_abdomen", "acrin_flt_37x4.25mm"),
        ("ct_abdomen", "dcmqi_liver_ct_3slice"),
        ("mr", "tcga_lihc_haste_cor_30"),
    ],
    ids=lambda series: series[1],
)
def test_dciodvfy_finds_no_error_in_results_on_real_scans(series: tuple[str, str], tmp_path: Path) -> None:
    dciodvfy = tool("dciodvfy", "dicom3tools")
    headers = [dcmread(path, stop_before_pixels=True) for path in sorted(shared_data(*series).iterdir())]
    headers.sort(key=lambda header: float(header.get("SliceLocation", header.InstanceNumber)))
    mask = np.zeros((len(headers), headers[0].Rows, headers[0].Columns), dtype=np.bool_)
    mask[1:, 20:60, 20:50] = True
    findings = replace(lungs(), segments=(replace(lungs().segments[0], mask=mask),))
    run = make_run(headers, study_instance_uid=headers[0].StudyInstanceUID)
    for result in built(findings, evidence=headers, run=run).results:
        path = write(tmp_path, result.kind, result.part10)
        done = subprocess.run([dciodvfy, path], capture_output=True, text=True, check=False)
        assert [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")] == []


@pytest.mark.parametrize("kind", SETS)
def test_dsrdump_prints_every_sentence(kind: str, tmp_path: Path) -> None:
    dsrdump = tool("dsrdump", "dcmtk")
    result = SETS[kind]()
    path = write(tmp_path, "sr", result.part10("sr"))
    done = subprocess.run([dsrdump, "+Pl", "-Ec", "-q", path], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    told = done.stdout.decode("utf-8", errors="replace").replace("&quot;", '"')
    for sentence in texts(result.sr):
        assert sentence.split("\n")[0].replace('"', "") in told.replace('\\"', "").replace('"', "")


def test_dcmdump_reads_both_objects(tmp_path: Path) -> None:
    dcmdump = tool("dcmdump", "dcmtk")
    for result in lung_set().results:
        path = write(tmp_path, result.kind, result.part10)
        done = subprocess.run([dcmdump, "-q", path], capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("kind", SETS)
def test_highdicom_reads_the_report(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path, "sr", SETS[kind]().part10("sr"))
    report = hd.sr.srread(path)
    assert report.content[0].name.value == "126000"
    measured = report.content.get_volumetric_roi_measurement_groups()
    assert all(group.referenced_segment is not None for group in measured)
    assert all(np.isfinite(m.value) for group in measured for m in group.get_measurements())


def test_highdicom_reads_the_masks_bit_for_bit(tmp_path: Path) -> None:
    result = lung_set()
    seg = hd.seg.segread(write(tmp_path, "seg", result.part10("seg")))
    read = seg.get_pixels_by_source_instance(
        [header.SOPInstanceUID for header in result.evidence],
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )
    for number, segment in enumerate(lungs().segments):
        assert np.array_equal(read[..., number].astype(np.bool_), segment.mask)


def test_library_of_known_errors_is_caught_by_dciodvfy(tmp_path: Path) -> None:
    """The control: a tool that finds no error anywhere would prove nothing."""
    dciodvfy = tool("dciodvfy", "dicom3tools")
    broken: Dataset = lung_set().sr
    del broken.CompletionFlag
    path = tmp_path / "broken.dcm"
    broken.save_as(path)
    done = subprocess.run([dciodvfy, path], capture_output=True, text=True, check=False)
    assert "Error" in done.stdout + done.stderr
