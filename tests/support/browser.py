"""Open a page in a headless Chromium: measure it, photograph it, and see what it fetches.

The browser is driven through two pipes, with the DevTools protocol, so that no port is opened.
"""

import base64
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

# Chromium reads commands from descriptor 3 and writes to descriptor 4.
_LAUNCHER = """\
import fcntl, os, sys
ends = [fcntl.fcntl(int(text), fcntl.F_DUPFD, 10) for text in sys.argv[1:3]]
os.dup2(ends[0], 3)
os.dup2(ends[1], 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""
_PATIENCE = 60.0  # seconds for one answer, on a machine that is busy


def find_browser() -> str | None:
    """Return the path of a Chromium, or None."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


class Page:
    """Page of a headless Chromium.

    Attributes:
        requests: Addresses of everything that was fetched, the pages themselves included.
        messages: Texts of errors on the browser's console.
    """

    def __init__(self, to_browser: int, from_browser: int):
        self.requests: list[str] = []
        self.messages: list[str] = []
        self._to, self._from = to_browser, from_browser
        self._read, self._count, self._session = b"", 0, None
        self._loaded = False
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def open(
        self, path: pathlib.Path, width: int, *, dark: bool = False, scripts: bool = True
    ) -> None:
        """Open a file in a window of some width, and wait until it has loaded."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self._loaded = False
        self._call("Page.navigate", url=path.resolve().as_uri())
        while not self._loaded:
            self._receive()

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, which must be plain."""
        result = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def screenshot(self, path: pathlib.Path) -> None:
        """Photograph the whole page, below the window, too."""
        picture = self._call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))

    def print(self, path: pathlib.Path) -> None:
        """Print the page to a PDF file."""
        printed = self._call("Page.printToPDF", printBackground=False)
        path.write_bytes(base64.b64decode(printed["data"]))

    def key(self, name: str, code: int) -> None:
        """Press a key and let it go."""
        text = {"text": "\r"} if name == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self._call(
                "Input.dispatchKeyEvent",
                **{"type": kind, "key": name, "code": name, "windowsVirtualKeyCode": code, **text},
            )

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            received = self._receive()
            if received.get("id") == self._count:
                assert "error" not in received, received
                return received["result"]

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + _PATIENCE
        while b"\0" not in self._read:
            assert time.monotonic() < end, "the browser doesn't answer"
            part = os.read(self._from, 1 << 16)
            assert part, "the browser has ended"
            self._read += part
        text, self._read = self._read.split(b"\0", 1)
        message = json.loads(text)
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(message["params"]["request"]["url"])
        if message.get("method") == "Log.entryAdded":
            self.messages.append(message["params"]["entry"]["text"])
        if message.get("method") == "Runtime.exceptionThrown":
            self.messages.append(message["params"]["exceptionDetails"]["text"])
        self._loaded |= message.get("method") == "Page.loadEventFired"
        return message


@contextlib.contextmanager
def browser_page(browser: str) -> Iterator[Page]:
    """Start a browser with an empty page, and end it afterwards.

    Args:
        browser: Path of a Chromium.
    """
    (in_end, to_browser), (from_browser, out_end) = os.pipe(), os.pipe()
    # The browser's last processes may still write to its folder while it is removed.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCHER, str(in_end), str(out_end), browser]
            + ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
            + ["--remote-debugging-pipe", "--no-first-run", "--disable-background-networking"]
            + [f"--user-data-dir={profile}"],
            pass_fds=(in_end, out_end),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(in_end)
        os.close(out_end)
        try:
            yield Page(to_browser, from_browser)
        finally:
            os.close(to_browser)  # the browser ends when its pipe does
            os.close(from_browser)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
