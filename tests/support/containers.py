"""What tests ask of running containers: readiness, answers, memory, lines of the log, a few lines of Python inside."""

import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.engine import HARDENED, Engine

TARGETS = ("app", "trainer", "preprocess")
KEY = "a-key-of-the-tests-0123456789"
BUCKET = (
    *(
        "--network",
        "interscan-tests",
        "--env",
        "FSSPEC_GS_TOKEN=anon",
        "--env",
        "FSSPEC_GS_ENDPOINT_URL=http://gcs:4443",
    ),
    *("--env", "FSSPEC_GS_PROJECT=test", "--env", "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT=false"),
)


def open_to_all(folder: Path) -> None:
    """Let any user read what lies below, and every folder above it."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for parent in folder.parents:
        if parent.owner() == "root" and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)


def ask(url: str, *, data: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    request = urllib.request.Request(url, data=data, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


def wait_until_ready(engine: Engine, container: str, url: str, seconds: float = 90.0) -> float:
    """Seconds until /readyz answers 200."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        try:
            if ask(f"{url}/readyz")[0] == 200:
                return time.monotonic() - started
        except (urllib.error.URLError, ConnectionError, OSError):
            pass
        time.sleep(0.1)
    raise AssertionError(f"not ready: {engine.log(container)}")


def upload(url: str, earlier: bytes, later: bytes) -> tuple[int, Any]:
    """A pair as a form, as a browser or curl would send it."""
    border = "----scan"
    parts = b"".join(
        f'--{border}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.nii.gz"\r\n\r\n'.encode()
        + data
        + b"\r\n"
        for name, data in (("earlier", earlier), ("later", later))
    )
    headers = {"Content-Type": f"multipart/form-data; boundary={border}", "Authorization": f"Bearer {KEY}"}
    return ask(f"{url}/v1/progression", data=parts + f"--{border}--\r\n".encode(), headers=headers)


def memory_mib(engine: Engine, container: str) -> float:
    told = engine.run("stats", "--no-stream", "--format", "{{.MemUsage}}", container).stdout.split("/")[0].strip()
    units = {"KiB": 1 / 1024, "MiB": 1.0, "GiB": 1024.0}
    return float(told[:-3]) * units[told[-3:]]


def wait_for_line(engine: Engine, container: str, text: str, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while text not in engine.log(container):
        assert time.monotonic() < until, engine.log(container)
        state = engine.run("inspect", "--format", "{{.State.Running}}", container).stdout.strip()
        assert state == "true", engine.log(container)
        time.sleep(0.1)


def python(engine: Engine, code: str, image: str = "interscan-preprocess") -> str:
    """What a few lines print inside an image that reaches the bucket."""
    done = engine.run("run", "--rm", *HARDENED, *BUCKET, "--entrypoint", "/opt/interscan/bin/python", image, "-c", code)
    return done.stdout.strip()
