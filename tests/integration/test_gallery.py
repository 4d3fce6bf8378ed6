"""The gallery of results: a small form of it, with every kind of object."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from pydicom import dcmread

from inference.results.forms import CLASSES
from tests.gallery.sources import SOURCES
from tests.gallery.write import write_gallery


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["skin", "legacy-converted"])
def test_gallery_has_one_of_each_kind_and_pictures_that_show_something(kind: str, tmp_path: Path) -> None:
    page = write_gallery(tmp_path, [kind]).read_text(encoding="utf-8")

    objects = [dcmread(path, stop_before_pixels=True) for path in tmp_path.glob("*.dcm")]
    wanted = {uid for classes, _ in CLASSES.values() for uid in classes}
    assert {str(each.SOPClassUID) for each in objects} == wanted
    linked = set(re.findall(r'(?:src|href)="([^"]+)"', page))
    assert linked == {path.name for path in tmp_path.iterdir()} - {"index.html"}
    for picture in tmp_path.glob("*.png"):
        assert len(Image.open(picture).convert("RGB").getcolors(1 << 24) or ()) > 50


def test_gallery_has_five_kinds_of_source() -> None:
    assert len(SOURCES) == 5
