"""A segmentation that does not outline what was found never leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from pydicom import Dataset

from inference.errors import UnusableAnswer
from inference.findings import Findings
from inference.results.evidence import Evidence
from inference.results.forms import CANONICAL, Form
from inference.results.read_back import check_masks
from tests.builders.findings import ct_headers, lungs
from tests.builders.result_sets import built

FORMS = pytest.mark.parametrize("form", [CANONICAL, Form("labelmap", "comprehensive-3d")], ids=str)


def with_mask(change: Callable[[np.ndarray], None]) -> Findings:
    findings = lungs()
    first = findings.segments[0]
    mask = first.mask.copy()
    change(mask)
    return replace(findings, segments=(replace(first, mask=mask), *findings.segments[1:]))


@FORMS
def test_what_was_outlined_passes(form: Form) -> None:
    check_masks(lungs(), built(lungs(), form=form).seg, Evidence.of(ct_headers()))


@FORMS
def test_a_voxel_more_or_less_or_elsewhere_is_refused(form: Form) -> None:
    seg, evidence = built(lungs(), form=form).seg, Evidence.of(ct_headers())
    slice_, row, column = (int(each[0]) for each in np.nonzero(lungs().segments[0].mask))

    def less(mask: np.ndarray) -> None:
        mask[slice_, row, column] = False

    def more(mask: np.ndarray) -> None:
        mask[slice_, 0, 0] = True

    def slice_more(mask: np.ndarray) -> None:
        mask[0 if slice_ else -1, row, column] = True

    def moved(mask: np.ndarray) -> None:
        mask[:] = np.roll(mask, 1, axis=0)

    for change in (less, more, slice_more, moved):
        with pytest.raises(UnusableAnswer, match="was not encoded as it is"):
            check_masks(with_mask(change), seg, evidence)


@FORMS
def test_frames_in_another_order_than_they_say_are_refused(form: Form) -> None:
    evidence = Evidence.of(tuple(reversed(ct_headers())))
    with pytest.raises(UnusableAnswer, match="was not encoded as it is"):
        check_masks(lungs(), built(lungs(), form=form).seg, evidence)


@FORMS
def test_a_stray_voxel_and_a_missing_segment_are_refused(form: Form) -> None:
    seg: Dataset = built(lungs(), form=form).seg
    pixels = bytearray(seg.PixelData)
    pixels[0] = 1
    seg.PixelData = bytes(pixels)
    with pytest.raises(UnusableAnswer, match="was not encoded as it is"):
        check_masks(lungs(), seg, Evidence.of(ct_headers()))
    findings = lungs()
    added = replace(findings.segments[0], label="Another")
    more = replace(findings, segments=(*findings.segments, added))
    with pytest.raises(UnusableAnswer, match="'Another'"):
        check_masks(more, built(findings, form=form).seg, Evidence.of(ct_headers()))
