"""A real browser without a window, driven through its DevTools protocol.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_DEADLINE_S = 60.0
_KEYS = {"Enter": {"windowsVirtualKeyCode": 13, "text": "\r"}, "Tab": {"windowsVirtualKeyCode": 9}}


@contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    """Start chromium, or skip the test where there is none.

    Args:
        profile: Folder that the browser may fill.
    """
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not on the PATH")
    from websockets.sync.client import connect

    flags = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *(f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank"),
    ]
    log = (profile.parent / f"{profile.name}.log").open("wb")
    process = subprocess.Popen([program, *flags], stdout=log, stderr=log)
    try:
        with connect(_wait_for_address(profile, process), max_size=None) as socket:
            browser = Browser(socket)
            yield browser
            browser.command("Browser.close")
        process.wait(timeout=_DEADLINE_S)
    finally:
        process.kill()
        process.wait()
        log.close()


class Browser:
    """One tab; what goes wrong on its page is in `problems`."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._sent = 0
        self._session: str | None = None
        self.problems: list[str] = []
        """Exceptions, errors on the console, and what the content security policy refused."""
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Page"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **params: Any) -> Any:
        """Send a command and return its result."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": params}
        self._socket.send(json.dumps(message | ({"sessionId": self._session} if self._session else {})))
        while True:
            reply = json.loads(self._socket.recv(timeout=_DEADLINE_S))
            if reply.get("id") == self._sent:
                assert "error" not in reply, f"{method}: {reply['error']}"
                return reply["result"]
            self._note(reply)

    def open(self, url: str, width: int = 1200, height: int = 900, scheme: str = "light") -> None:
        """Load a page in a window of this size and colour scheme."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.command(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )
        self.command("Page.navigate", url="about:blank")
        self.command("Page.navigate", url=url)
        self.wait_for("location.href !== 'about:blank' && document.readyState === 'complete'")

    def run(self, code: str) -> Any:
        """Return the value of a JavaScript expression."""
        reply = self.command("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in reply, f"{code}: {reply['exceptionDetails']}"
        return reply["result"].get("value")

    def wait_for(self, code: str) -> None:
        """Wait until a JavaScript expression is true."""
        deadline = time.monotonic() + _DEADLINE_S
        while not self.run(f"!!({code})"):
            assert time.monotonic() < deadline, f"never true: {code}"
            time.sleep(0.02)

    def click(self, selector: str) -> None:
        """Click the middle of an element with the mouse."""
        found = f"document.querySelector({json.dumps(selector)})"
        x, y = self.run(
            f"(() => {{ {found}.scrollIntoView({{block: 'center', inline: 'center'}}); "
            f"const box = {found}.getBoundingClientRect(); "
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.command("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def hover(self, x: float, y: float) -> None:
        """Move the mouse to a place in the window, in pixels."""
        self.command("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def type(self, text: str) -> None:
        """Type into the element that has the focus."""
        for letter in text:
            self.command("Input.dispatchKeyEvent", type="char", text=letter)

    def press(self, key: str) -> None:
        """Press a key that writes nothing, such as `Enter` or `Tab`."""
        for kind in ("keyDown", "keyUp"):
            self.command("Input.dispatchKeyEvent", type=kind, key=key, code=key, **_KEYS[key])

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Save what the window shows, or the whole page, as PNG."""
        shot = self.command("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.problems.append(str(params["exceptionDetails"]))
        elif event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(params["entry"]["text"])
        elif event.get("method") == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.problems.append(str(params["args"]))


def _wait_for_address(profile: Path, process: subprocess.Popen[bytes]) -> str:
    file, deadline = profile / "DevToolsActivePort", time.monotonic() + _DEADLINE_S
    while not (file.is_file() and file.read_text().count("\n") >= 1):
        assert process.poll() is None, "chromium ended by itself"
        assert time.monotonic() < deadline, "chromium did not open its debugging port"
        time.sleep(0.05)
    port, path = file.read_text().splitlines()
    return f"ws://127.0.0.1:{port}{path}"
