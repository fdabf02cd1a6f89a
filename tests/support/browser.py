"""Debian's chromium, a page in it that notes each mistake, and the service as a process that it talks to."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

READY_S = 120.0
_FLAGS = (
    # Tests run as root in containers, and without a graphics card: WebGL 2 by software.
    *("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
)


def find_chromium() -> str | None:
    """The program of the Debian package chromium, or of another chromium; None where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    return None


@contextmanager
def running_browser(program: str) -> Iterator[Browser]:
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=list(_FLAGS))
        yield browser
        browser.close()


@dataclass
class Opened:
    """A page, and what went wrong in it: errors of scripts, breaches of the CSP, requests that went elsewhere.

    Attributes:
        page: playwright's.
        address: of the service.
        faults: in words; a test that expects none looks here.
        requests: every URL that was asked for.
    """

    page: Page
    address: str
    faults: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def choose(self, *files: bytes, name: str = "scan.nii.gz") -> None:
        """Put files into the fields, one after another."""
        inputs = self.page.locator("#visits input[type=file]")
        for index, data in enumerate(files):
            inputs.nth(index).set_input_files({"name": name, "mimeType": "application/gzip", "buffer": data})

    def compare(self) -> None:
        self.page.click("#compare")

    def answered(self) -> str:
        """Wait for the answer; its text with the details'."""
        self.page.wait_for_selector("#answer:not([hidden])")
        return self.page.inner_text("#answer") + "\n" + self.page.inner_text("#details")

    def refused(self) -> str:
        """Wait for a problem; its text."""
        self.page.wait_for_selector("#problem .problem")
        return self.page.inner_text("#problem")

    def with_map(self) -> None:
        """Wait until both pictures and the map are drawn."""
        self.page.wait_for_selector(".mappart:not([hidden])")


@contextmanager
def opened(browser: Browser, address: str, *, path: str = "/", **context: Any) -> Iterator[Opened]:
    """Open the page.

    Args:
        browser: running.
        address: of the service.
        path: where the page lies.
        context: as playwright's `new_context` takes it.
    """
    settings = {"viewport": {"width": 1280, "height": 900}, "locale": "en-US"} | context
    inside = browser.new_context(**settings)
    page = inside.new_page()
    page.set_default_timeout(60_000)
    found = Opened(page, address)
    page.on("pageerror", lambda error: found.faults.append(f"script: {error}"))
    page.on("console", lambda line: found.faults.append(line.text) if "Security Policy" in line.text else None)
    page.on("request", lambda request: found.requests.append(request.url))
    page.goto(f"{address}{path}")
    yield found
    inside.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def served(*artefacts: Path, options: tuple[str, ...] = (), environment: dict[str, str] | None = None) -> Iterator[str]:
    """`interscan serve` as a process; its address once it is ready."""
    port = free_port()
    command = [sys.executable, "-m", "interscan", "serve", *map(str, artefacts), "--port", str(port), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        _wait(process, f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def _wait(process: "subprocess.Popen[bytes]", address: str) -> None:
    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        assert process.poll() is None, "the service ended"
        try:
            with urllib.request.urlopen(f"{address}/readyz", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise AssertionError(f"{address} was not ready within {READY_S:g} s")
