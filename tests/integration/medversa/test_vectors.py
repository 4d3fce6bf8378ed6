"""The implementation computes what the reference computed: recorded numbers within tolerance, ids and masks exact."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from inference.engines.medversa import vectors
from tests.builders.medversa_sizes import VECTORS


def test_every_recorded_stage_is_within_tolerance(capsys: pytest.CaptureFixture[str]) -> None:
    status = vectors.main([str(VECTORS)])
    printed = capsys.readouterr().out
    assert status == 0, printed
    assert "FAIL" not in printed
    for stage in (
        "full size: names or shapes that differ",
        "case_2d_report: greedy ids",
        "case_2d_report: logits at each step",
        "case_2d_seg: mask pixels that differ",
        "case_3d_seg: mask pixels that differ",
        "case_2d_detect: box",
        "preprocess_ct: voxels",
        "postprocess_3d: resized",
    ):
        assert f"ok   {stage}" in printed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in VECTORS.iterdir():
        shutil.copyfile(path, tmp_path / path.name)
    return tmp_path


def test_another_scale_of_the_adapters_is_noticed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["llm"]["lora_alpha"] = 8
    (folder / "config.json").write_text(json.dumps(config))
    assert vectors.main([str(folder)]) == 1
    assert "FAIL case_2d_report: prompt states" in capsys.readouterr().out


def test_a_wrong_number_and_one_that_is_none_are_noticed_and_nothing_else(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, stage, place, wrong in (
        ("case_3d_seg", "mask_logits", (3, 4, 5), 1e3),
        ("preprocess_2d", "pixel_values", (0, 0, 0), np.nan),
    ):
        with np.load(folder / f"{name}.npz") as file:
            arrays = dict(file)
        arrays[stage][place] = wrong
        np.savez(folder / f"{name}.npz", **arrays)
    assert vectors.main([str(folder)]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert [line.split()[1] for line in failed] == ["preprocess_2d:", "case_3d_seg:"]
    assert "mask logits" in failed[1]


def test_a_missing_file_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "checkpoint.safetensors").unlink()
    assert vectors.main([str(folder)]) == 1
    assert "no weight file" in capsys.readouterr().out
