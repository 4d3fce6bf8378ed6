"""Headless Chromium, driven over its DevTools protocol: what a person at a screen would see and do."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import numpy as np
import numpy.typing as npt
from PIL import Image
from websockets.sync.client import connect

PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


def browser_program() -> str | None:
    """Give the browser that this machine has."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    """One browser with one page, 1600x1000; it ends with the context."""

    def __init__(self, folder: Path, program: str) -> None:
        self._profile = folder / "profile"
        self._process = subprocess.Popen(
            [
                program,
                "--headless=new",
                "--no-sandbox",  # tests run as root in containers
                "--disable-dev-shm-usage",
                "--use-angle=swiftshader",
                "--enable-unsafe-swiftshader",
                "--ignore-gpu-blocklist",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-extensions",
                "--hide-scrollbars",
                "--window-size=1600,1000",
                "--remote-debugging-port=0",
                f"--user-data-dir={self._profile}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._numbers = itertools.count(1)
        self.requests: dict[str, dict[str, Any]] = {}
        """Request id → url, method, status, and when it was sent (monotonic seconds of the browser)."""
        self.complaints: list[str] = []
        """What the page or the browser complained of: errors, refused loads."""
        self.spoken: list[str] = []
        """Errors and warnings that the page wrote to its console."""
        self._stack = contextlib.ExitStack()
        try:
            self._socket = self._stack.enter_context(connect(self._page_address(), max_size=None, compression=None))
            for domain in ("Page", "Runtime", "Network", "Log"):
                self.do(f"{domain}.enable")
            self.do("Emulation.setDeviceMetricsOverride", width=1600, height=1000, deviceScaleFactor=1, mobile=False)
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(Exception):
            self.do("Browser.close")
            self._process.wait(10)
        self._end()

    def _end(self) -> None:
        self._stack.close()
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)  # its helpers too: it leads their group
        self._process.wait()

    def _page_address(self) -> str:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, IndexError, StopIteration, httpx.HTTPError, ValueError):
                port = int((self._profile / "DevToolsActivePort").read_text().split()[0])
                targets = httpx.get(f"http://127.0.0.1:{port}/json/list").json()
                return str(next(each["webSocketDebuggerUrl"] for each in targets if each["type"] == "page"))
            time.sleep(0.05)
        raise AssertionError("the browser does not start")

    def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and take its answer; events that come before it are noted."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            said = json.loads(self._socket.recv(timeout=60))
            if said.get("id") == number:
                assert "error" not in said, said
                return dict(said["result"])
            self._note(said.get("method", ""), said.get("params", {}))

    def _note(self, method: str, said: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            request = said["request"]
            self.requests[said["requestId"]] = {
                "url": request["url"],
                "method": request["method"],
                "headers": request["headers"],
                "at": said["timestamp"],
                "status": None,
            }
        elif method == "Network.responseReceived" and said["requestId"] in self.requests:
            self.requests[said["requestId"]]["status"] = said["response"]["status"]
        elif method == "Network.loadingFinished" and said["requestId"] in self.requests:
            self.requests[said["requestId"]]["done"] = said["timestamp"]
        elif method == "Log.entryAdded" and said["entry"]["level"] == "error":
            self.complaints.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
            words = [str(each.get("value", each.get("description", ""))) for each in said["args"]]
            self.spoken.append(" ".join(words)[:2000])
        elif method == "Runtime.exceptionThrown":
            details = said["exceptionDetails"]
            self.complaints.append(str(details.get("exception", {}).get("description") or details["text"])[:500])

    def open(self, url: str) -> None:
        """Go to a page; nothing is waited for."""
        self.do("Page.navigate", url=url)

    def value(self, script: str) -> Any:
        """Evaluate an expression in the page."""
        said = self.do("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def wait_for(self, script: str, *, within_s: float, what: str) -> Any:
        """Evaluate until it is true; give what it was."""
        deadline = time.monotonic() + within_s
        while True:
            with contextlib.suppress(AssertionError):  # the page is being replaced
                if found := self.value(script):
                    return found
            assert time.monotonic() < deadline, f"not within {within_s} s: {what}; {self._state()}"
            time.sleep(0.05)

    def _state(self) -> str:
        """Where the page is and what it says, for who reads why a wait was in vain."""
        with contextlib.suppress(AssertionError):
            return f"at {self.value('location.href')} it says {self.text()[:1500]!r}; {self.complaints[-5:]}"
        return f"the page is being replaced; {self.complaints[-5:]}"

    def text(self) -> str:
        """What is to be read on the page."""
        return str(self.value("document.body.innerText"))

    def place_of(self, script: str) -> tuple[float, float, float, float]:
        """Left, top, width, height of the element that an expression gives, in pixels of the picture."""
        box = self.value(
            f"(() => {{ const r = ({script}).getBoundingClientRect(); return [r.x, r.y, r.width, r.height] }})()"
        )
        return box[0], box[1], box[2], box[3]

    def click(self, x: float, y: float, *, count: int = 1) -> None:
        """Press and release the left button."""
        self.do("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for number in range(1, count + 1):
            for kind in ("mousePressed", "mouseReleased"):
                self.do("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=number)

    def click_on(self, script: str, *, count: int = 1) -> None:
        """Click the middle of an element."""
        left, top, width, height = self.place_of(script)
        self.click(left + width / 2, top + height / 2, count=count)

    def picture(self) -> bytes:
        """Give the page as PNG."""
        return base64.b64decode(self.do("Page.captureScreenshot", format="png")["data"])

    def pixels(self) -> npt.NDArray[np.uint8]:
        """Give the page as (rows, columns, 3)."""
        return np.asarray(Image.open(BytesIO(self.picture())).convert("RGB"))
