"""Chromium without a window, driven over the WebDriver protocol (W3C) with `urllib` alone."""

import base64
import contextlib
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars"),
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""Key of references to elements, by the standard."""


def missing():
    """Returns what is not installed; empty if tests can run."""
    if shutil.which("chromedriver") is None:
        return "chromedriver is not installed"
    if not any(map(shutil.which, BROWSERS)):
        return "Chromium is not installed"
    return ""


class Browser:
    """One session."""

    def __init__(self, address):
        self._address = address
        binary = next(filter(None, map(shutil.which, BROWSERS)))
        options = {
            "goog:chromeOptions": {"args": [*FLAGS], "binary": binary},
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        session = self._send("POST", "/session", {"capabilities": {"alwaysMatch": options}})
        self._address += f"/session/{session['sessionId']}"

    def _send(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._address + path, data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from error

    def open(self, path):
        self._send("POST", "/url", {"url": Path(path).absolute().as_uri()})

    def run(self, script, *arguments):
        """Returns what the body of a function returns, in the page."""
        return self._send("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, script, seconds=20.0):
        """Waits until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(f"return Boolean({script})"):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.05)

    def find(self, selector):
        found = self._send("POST", "/element", {"using": "css selector", "value": selector})
        return found[ELEMENT]

    def click(self, selector):
        self._send("POST", f"/element/{self.find(selector)}/click", {})

    def text(self, selector):
        return self._send("GET", f"/element/{self.find(selector)}/text")

    def press(self, *keys):
        """Presses keys one after the other, wherever the focus is."""
        steps = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._act({"type": "key", "id": "keyboard", "actions": steps})

    def drag(self, selector, by, pointer="mouse"):
        """Presses in the middle of an element, moves by pixels (x, y), and lets go."""
        element = {ELEMENT: self.find(selector)}
        move = {"type": "pointerMove", "duration": 50}
        steps = [
            move | {"origin": element, "x": 0, "y": 0},
            {"type": "pointerDown", "button": 0},
            move | {"origin": "pointer", "x": by[0], "y": by[1]},
            {"type": "pointerUp", "button": 0},
        ]
        parameters = {"pointerType": pointer}
        self._act({"type": "pointer", "id": pointer, "parameters": parameters, "actions": steps})

    def point(self, selector, offset, pointer="mouse", *, press=False):
        """Moves to pixels from the middle of an element, and presses there if asked to."""
        element = {ELEMENT: self.find(selector)}
        steps = [{"type": "pointerMove", "origin": element, "x": offset[0], "y": offset[1]}]
        if press:
            steps += [{"type": kind, "button": 0} for kind in ("pointerDown", "pointerUp")]
        parameters = {"pointerType": pointer}
        self._act({"type": "pointer", "id": pointer, "parameters": parameters, "actions": steps})

    def _act(self, actions):
        self._send("POST", "/actions", {"actions": [actions]})

    def chromium(self, command, **parameters):
        """Sends a command of Chromium's own protocol."""
        body = {"cmd": command, "params": parameters}
        return self._send("POST", "/goog/cdp/execute", body)

    def screen(self, width, height, *, dark=False, still=False):
        """Emulates a screen."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.chromium("Emulation.setDeviceMetricsOverride", **size)
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"},
        ]
        self.chromium("Emulation.setEmulatedMedia", features=features)

    def picture(self):
        """Returns the whole page as PNG."""
        shot = self.chromium("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    def complaints(self):
        """Returns the errors on the browser's console."""
        entries = self._send("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def close(self):
        self._send("DELETE", "")


@contextlib.contextmanager
def browse():
    """Starts a browser and ends it."""
    port_line = "started successfully on port "
    with subprocess.Popen(
        ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as driver:
        try:
            said = next(line for line in driver.stdout if port_line in line)
            port = int(said.split(port_line)[1].rstrip(".\n"))
            browser = Browser(f"http://127.0.0.1:{port}")
            try:
                yield browser
            finally:
                browser.close()
        finally:
            driver.terminate()
