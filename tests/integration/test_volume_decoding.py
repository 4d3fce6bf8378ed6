"""Compressed series decoded in processes with limits: the same voxels, and refusals where a decoder breaks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from pydicom.uid import UID

from inference.errors import UnsuitableStudy
from inference.pixel_process import PixelLimits, PixelProcess
from inference.volume import read_volume
from tests.builders.codecs import LOSSLESS, hostile_files
from tests.builders.series import asymmetric, folder_sources, make_enhanced, make_series, source, sources
from tests.builders.shared_data import shared_data

ARRAY = asymmetric((6, 32, 40)) % 3000 - 1000


@pytest.fixture(scope="module")
def decoder() -> Iterator[PixelProcess]:
    with PixelProcess() as made:
        yield made


@pytest.mark.parametrize("kind", ["classic", "enhanced"])
@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda uid: UID(uid).name)
def test_the_volume_is_the_same_as_decoded_here(syntax: str, kind: str, decoder: PixelProcess) -> None:
    made = make_series(ARRAY)
    volume = read_volume(sources([make_enhanced(made)] if kind == "enhanced" else made, syntax), decoder)
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array, ARRAY)


def test_signed_and_real_frames_are_the_same_as_decoded_here(decoder: PixelProcess) -> None:
    for parts in (("mr", "dicom2nifti_j2k_axial_4"), ("odd", "IM-0001-0001-0001.dcm"), ("odd", "GH1308.dcm")):
        read = folder_sources(shared_data(*parts))
        here, there = read_volume(read), read_volume(read, decoder)
        assert here.array.dtype == there.array.dtype
        assert np.array_equal(here.array, there.array)


@pytest.mark.parametrize("name", [name for name in hostile_files() if not name.startswith(("native", "no ", "7", "6"))])
def test_pixel_data_that_lie_are_refused(name: str, decoder: PixelProcess) -> None:
    part10, _ = hostile_files()[name]
    with pytest.raises(UnsuitableStudy):
        read_volume([source(part10, "1.2.3")], decoder)


def test_a_decoder_that_may_not_work_is_a_refusal() -> None:
    made = sources(make_series(ARRAY), LOSSLESS[-1])
    with (
        PixelProcess(limits=PixelLimits(memory_bytes=64 << 20)) as starved,
        pytest.raises(UnsuitableStudy, match="an image cannot be read"),
    ):
        read_volume(made, starved)
