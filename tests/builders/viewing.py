"""OHIF as a person uses it: the pages, what is to be read on them, and where pixels of an image are on the screen."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from dicomweb.viewer.package import is_installed
from tests.builders.browser import Browser, browser_program
from tests.builders.node import ROOT, wait_until

#: Where `make test` and `make test-viewer` lay the package out.
PACKAGE = ROOT / "build" / "viewer"
#: What was seen, to be looked at.
SEEN = ROOT / "build" / "viewer-seen"


def needed() -> tuple[Path, str]:
    """Give the viewer's folder and the browser; skip the test where one is absent."""
    program = browser_program()
    if program is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    if not is_installed(PACKAGE):
        pytest.skip(f"the viewer's package is not in {PACKAGE.relative_to(ROOT)} (make test-viewer fetches it)")
    return PACKAGE, program


class Ohif:
    """The viewer in a browser."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.browser = browser
        self.url = url

    def open_list(self) -> None:
        """Show the study list."""
        self.browser.open(f"{self.url}/viewer")
        self.read("Study List", within_s=60)
        self._confirm()

    def open_study(self, study_instance_uid: str, series_instance_uid: str = "") -> None:
        """Show a study as the console links to it."""
        first = f"&initialSeriesInstanceUID={series_instance_uid}" if series_instance_uid else ""
        self.browser.open(f"{self.url}/viewer/viewer?StudyInstanceUIDs={study_instance_uid}{first}")
        self._see(_one("viewport-pane"), what="a viewport")
        self._confirm()

    def _confirm(self) -> None:
        """Take note that the viewer is for investigational use; it asks once."""
        button = "[...document.querySelectorAll('button')].find(e => e.innerText.includes('Confirm and hide'))"
        if self.browser.value(f"!!({button})"):
            self.browser.click_on(button)

    def read(self, *words: str, within_s: float = 120) -> str:
        """Wait until all of these words stand on the page; give all its text."""
        said = f"{json.dumps(list(words))}.every(word => document.body.innerText.includes(word))"
        self.browser.wait_for(said, within_s=within_s, what=f"the page says {words}")
        return self.browser.text()

    def _see(self, element: str, *, what: str) -> None:
        self.browser.wait_for(f"!!({element})", within_s=60, what=what)

    def press(self, name: str) -> None:
        """Press the control of this name."""
        self._see(_one(name), what=f"there is {name}")
        self.browser.click_on(_one(name))

    def open_series(self, description: str) -> None:
        """Show a series of the study browser in the viewport."""
        entry = (
            "[...document.querySelectorAll('[data-cy^=study-browser-thumbnail]')]"
            f".find(e => e.innerText.includes({json.dumps(description)}))"
        )
        self._see(entry, what=f"the series {description} is listed")
        self.browser.click_on(entry, count=2)

    def image_shown(self) -> int | None:
        """Number of the image in the viewport, from 1; None: there is none yet."""
        shown = re.search(r"\((\d+)/\d+\)", self.browser.text())
        return int(shown[1]) if shown else None

    def scroll_to(self, number: int) -> None:
        """Turn the wheel until this image is shown."""
        left, top, width, height = self.viewport()

        def turn() -> bool:
            shown = self.image_shown()
            if shown is not None and shown != number:
                down = 100 if shown < number else -100
                at = {"x": left + width / 2, "y": top + height / 2}
                self.browser.do("Input.dispatchMouseEvent", type="mouseWheel", deltaX=0, deltaY=down, **at)
            return shown == number

        wait_until(turn, within_s=120, what=f"image {number} is shown")

    def viewport(self) -> tuple[float, float, float, float]:
        """Left, top, width, height of the canvas that shows images."""
        return self.browser.place_of("document.querySelector('canvas.cornerstone-canvas')")

    def shown_pixels(self, rows: int, columns: int) -> npt.NDArray[np.int64]:
        """Give what is drawn at the middle of each pixel of the image: (rows, columns, 3).

        The image fills the viewport, proportions kept, pixels being square.
        """
        screen = self.still().astype(np.int64)
        left, top, width, height = self.viewport()
        scale = min(width / columns, height / rows)
        x = left + width / 2 + (np.arange(columns) + 0.5 - columns / 2) * scale
        y = top + height / 2 + (np.arange(rows) + 0.5 - rows / 2) * scale
        return screen[np.clip(y.astype(int), 0, len(screen) - 1)][:, np.clip(x.astype(int), 0, screen.shape[1] - 1)]

    def still(self) -> npt.NDArray[np.uint8]:
        """Give the screen once it no longer changes."""
        before = self.browser.pixels()
        for _ in range(60):
            time.sleep(0.4)
            after = self.browser.pixels()
            if np.array_equal(before, after):
                break
            before = after
        return before

    def keep(self, name: str) -> None:
        """Keep a picture of what is seen, for people."""
        SEEN.mkdir(parents=True, exist_ok=True)
        (SEEN / f"{name}.png").write_bytes(self.browser.picture())

    def asked(self, part: str = "/dicom-web/") -> list[dict[str, Any]]:
        """Requests so far whose address has this part, in the order of asking."""
        self.browser.value("1")  # events up to now are read with the answer
        return sorted((each for each in self.browser.requests.values() if part in each["url"]), key=lambda r: r["at"])


def tinted(shown: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Tell which pixels are drawn in colour: images are grey."""
    return np.asarray(np.ptp(shown, axis=2) > 24)


def agreement(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    """Overlap of two masks as a share of their union."""
    return float((one & other).sum() / max(1, (one | other).sum()))


def _one(name: str) -> str:
    return f"document.querySelector('[data-cy={name}]')"
