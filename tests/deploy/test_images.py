"""The three images, built and run for real: sizes, refusals, hardening, stopping and going on, the road by compose.

`make test-deploy`; needs root and Debian's docker.io, mmdebstrap and docker-compose, and says so when they are
missing. What it measured stands in .engine/figures.json afterwards.
"""

import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.artefacts import write_artefact
from tests.support.bucket import free_port
from tests.support.engine import (
    HARDENED,
    ROOT,
    Engine,
    base_name,
    build,
    compose,
    make_base,
    make_emulator,
    missing,
    record,
    running_engine,
)
from tests.support.images import head_file

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(1200)]
TARGETS = ("app", "trainer", "preprocess")
KEY = "a-key-of-the-tests-0123456789"
MAX_PACKED_BYTES = 350_000_000
MAX_UNPACKED_BYTES = 1_000_000_000
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


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    reason = missing()
    if reason:
        pytest.skip(reason)
    with running_engine(ROOT / ".engine") as running:
        make_base(running, base_name())
        yield running
        record(running)


@pytest.fixture(scope="module")
def images(engine: Engine) -> dict[str, float]:
    """Seconds that each target took to build."""
    seconds = {target: build(engine, target) for target in TARGETS}
    engine.figures["build_s"] = seconds
    return seconds


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight phantoms with three visits each, as BIDS, readable by any user."""
    folder = tmp_path_factory.mktemp("scans") / "bids"
    from preprocess.sources.synthetic.brain import write_brain_cohort

    write_brain_cohort(folder, num_subjects=8, num_visits=3, seed=5, spacing_mm=3.0, workers=0)
    open_to_all(folder.parent)
    return folder


@pytest.fixture(scope="module")
def bucket(engine: Engine, images: dict[str, float]) -> Iterator[None]:
    """The emulator under the name `gcs` in a network of its own, with one bucket, `interscan`."""
    make_emulator(engine)
    engine.run("network", "create", "interscan-tests")
    running = engine.run(
        "run",
        "--detach",
        "--network",
        "interscan-tests",
        "--network-alias",
        "gcs",
        "--volume",
        f"{ROOT / 'deploy' / 'buckets'}:/data:ro",
        "fsouza/fake-gcs-server:1.55.1",
        "-scheme=http",
        "-backend=memory",
        "-data=/data",
        "-port=4443",
        "-public-host=gcs:4443",
        "-external-url=http://gcs:4443",
        "-log-level=warn",
    ).stdout.strip()
    yield
    engine.run("rm", "--force", running)
    engine.run("network", "rm", "interscan-tests", check=False)


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


def test_the_service_fits_the_sizes_that_are_promised(engine: Engine, images: dict[str, float]) -> None:
    sizes = {target: engine.image_bytes(f"interscan-{target}") for target in TARGETS}
    engine.figures["unpacked_bytes"] = {target: unpacked for target, (unpacked, _) in sizes.items()}
    engine.figures["packed_bytes"] = {target: packed for target, (_, packed) in sizes.items()}
    unpacked, packed = sizes["app"]
    assert unpacked <= MAX_UNPACKED_BYTES
    assert packed <= MAX_PACKED_BYTES


def test_an_unchanged_tree_is_not_built_again_and_a_changed_line_copies_the_program_only(
    engine: Engine, images: dict[str, float], tmp_path: Path
) -> None:
    def layers() -> list[str]:
        told = engine.run("image", "inspect", "--format", "{{json .RootFS.Layers}}", "interscan-app").stdout
        found: list[str] = json.loads(told)
        return found

    before = layers()
    engine.figures["build_unchanged_s"] = build(engine, "app")
    assert layers() == before
    context = tmp_path / "source"
    shutil.copytree(ROOT, context, ignore=shutil.ignore_patterns(".engine", ".venv", ".git", "demo", "__pycache__"))
    with (context / "app" / "main.py").open("a", encoding="utf-8") as file:
        file.write("\n# One line more.\n")
    engine.figures["build_one_line_s"] = build(engine, "app", context)
    after = layers()
    # The environment's layer, nearly a gigabyte, is the same; the program's is another one.
    assert sum(one != other for one, other in zip(before, after, strict=True)) == 1
    build(engine, "app")


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_answers_for_help_as_any_user_in_a_read_only_root(
    engine: Engine, images: dict[str, float], target: str
) -> None:
    done = engine.run("run", "--rm", "--network", "none", *HARDENED, f"interscan-{target}", "--help")
    assert "Usage: interscan COMMAND" in done.stdout
    assert done.stderr == ""
    version = engine.run("run", "--rm", "--network", "none", *HARDENED, f"interscan-{target}", "--version").stdout
    assert version.strip() == "0.1.0"


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_as_nobody_by_exec_with_labels(engine: Engine, images: dict[str, float], target: str) -> None:
    told = json.loads(engine.run("image", "inspect", f"interscan-{target}").stdout)[0]["Config"]
    assert told["User"] == "65532:65532"
    assert told["Entrypoint"] == ["/opt/interscan/bin/python", "-m", "interscan"]
    assert told["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert ("Healthcheck" in told) == (target == "app")


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_holds_no_installer_and_no_tests(engine: Engine, images: dict[str, float], target: str) -> None:
    code = (
        "import pathlib, sys\np = pathlib.Path(sys.prefix)\n"
        "print(*p.glob('lib/python*/site-packages/pip'), *p.glob('**/torch/test'))"
    )
    done = engine.run("run", "--rm", "--entrypoint", "/opt/interscan/bin/python", f"interscan-{target}", "-c", code)
    assert done.stdout.strip() == ""


def test_a_verb_whose_extra_is_not_there_says_which_image_has_it(engine: Engine, images: dict[str, float]) -> None:
    done = engine.run("run", "--rm", *HARDENED, "interscan-app", "evaluate", "/tmp/run", check=False)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "interscan[train]" in done.stderr


def test_the_service_refuses_to_be_reached_without_keys(engine: Engine, images: dict[str, float]) -> None:
    done = engine.run("run", "--rm", "--network", "none", *HARDENED, "interscan-app", "serve", "/model", check=False)
    assert done.returncode == 2
    assert "INTERSCAN_API_KEYS" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_hardened_service_answers_a_pair_and_stops_cleanly(
    engine: Engine, images: dict[str, float], tmp_path: Path
) -> None:
    model = write_artefact(tmp_path / "model")
    open_to_all(tmp_path)
    port = free_port()
    started = engine.container(
        "interscan-app",
        "serve",
        "/model",
        options=(
            "--network",
            "host",
            "--env",
            f"PORT={port}",
            "--env",
            f"INTERSCAN_API_KEYS={KEY}",
            "--volume",
            f"{model}:/model:ro",
        ),
    )
    url = f"http://127.0.0.1:{port}"
    engine.figures["app_ready_s"] = wait_until_ready(engine, started, url)
    engine.figures["app_memory_mib"] = memory_mib(engine, started)
    status, answer = upload(url, head_file(1.0), head_file(0.9, seed=1))
    assert status == 200, answer
    assert answer["progression"] in ("improved", "stable", "declined", "undecided")
    assert ask(f"{url}/v1/models")[0] == 401
    health = engine.run("exec", started, "/opt/interscan/bin/python", "-m", "app.healthcheck", check=False)
    assert health.returncode == 0
    code, seconds = engine.stop(started)
    engine.figures["app_stop_s"] = seconds
    assert code == 0
    engine.run("rm", started)


def test_preprocess_fills_the_bucket_is_stopped_and_goes_on_to_the_same_bytes(
    engine: Engine, bucket: None, cohort: Path
) -> None:
    scans = ("--volume", f"{cohort}:/scans:ro")
    command = ("preprocess", "/scans", "gs://interscan/store", "--workers", "2")
    first = engine.container("interscan-preprocess", *command, options=(*BUCKET, *scans))
    wait_for_line(engine, first, "preprocess:")
    code, seconds = engine.stop(first)
    engine.figures["preprocess_stop_s"] = seconds
    assert code == 130, engine.log(first)
    assert "Traceback" not in engine.log(first)
    second = engine.container("interscan-preprocess", *command, options=(*BUCKET, *scans))
    assert engine.wait(second) == 0, engine.log(second)
    other = engine.container(
        "interscan-preprocess", "preprocess", "/scans", "gs://interscan/in-one-go", options=(*BUCKET, *scans)
    )
    assert engine.wait(other) == 0, engine.log(other)
    code_equal = (
        "import fsspec\nfs = fsspec.filesystem('gs')\n"
        "def tree(root): return {p[len(root):]: fs.cat_file(p) for p in fs.find(root)}\n"
        "a, b = tree('interscan/store'), tree('interscan/in-one-go')\n"
        "print(len(a), sorted(set(a) ^ set(b)), [n for n in a if n in b and a[n] != b[n]])"
    )
    told = python(engine, code_equal)
    assert told.split(" ", 1)[1] == "[] []", told
    assert int(told.split(" ", 1)[0]) > 24
    verified = engine.run("run", "--rm", *HARDENED, *BUCKET, "interscan-preprocess", "verify", "gs://interscan/store")
    assert "0 damaged or missing" in verified.stdout


def test_training_from_the_bucket_is_stopped_and_goes_on_to_the_same_weights(engine: Engine, bucket: None) -> None:
    command = (
        "train",
        "demo",
        "--store",
        "gs://interscan/store",
        "--set",
        "optim.epochs=6",
        "--set",
        "precision=float32",
    )
    threads = ("--env", "OMP_NUM_THREADS=1")
    whole = engine.container(
        "interscan-trainer", *command, "--run", "gs://interscan/whole", options=(*BUCKET, *threads)
    )
    assert engine.wait(whole) == 0, engine.log(whole)
    first = engine.container(
        "interscan-trainer", *command, "--run", "gs://interscan/stopped", options=(*BUCKET, *threads)
    )
    wait_for_line(engine, first, "train:")
    code, seconds = engine.stop(first)
    engine.figures["train_stop_s"] = seconds
    assert code == 130, engine.log(first)
    second = engine.container(
        "interscan-trainer", *command, "--run", "gs://interscan/stopped", options=(*BUCKET, *threads)
    )
    assert engine.wait(second) == 0, engine.log(second)
    code_equal = (
        "import fsspec, io, torch\nfs = fsspec.filesystem('gs')\n"
        "def load(n): return torch.load(io.BytesIO(fs.cat_file(f'interscan/{n}/model.pt')), weights_only=True)\n"
        "a, b = load('whole'), load('stopped')\n"
        "def flat(v, p=''):\n"
        "    if isinstance(v, dict):\n        for k in v: yield from flat(v[k], f'{p}.{k}')\n"
        "    elif isinstance(v, torch.Tensor): yield p, v\n"
        "a, b = dict(flat(a)), dict(flat(b))\n"
        "print(len(a) > 4, a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a))"
    )
    assert python(engine, code_equal, "interscan-trainer") == "True True"


def test_compose_goes_from_nothing_to_an_answer_for_a_pair_over_gs(
    engine: Engine, images: dict[str, float], cohort: Path
) -> None:
    make_emulator(engine)
    port = free_port()
    settings = {"SCANS": str(cohort), "INTERSCAN_API_KEYS": KEY, "APP_PORT": str(port)}
    started = time.monotonic()
    try:
        compose(engine, "up", "--detach", "app", **settings)
        engine.figures["compose_up_s"] = time.monotonic() - started
        url = f"http://127.0.0.1:{port}"
        app = compose(engine, "ps", "--quiet", "app", **settings).stdout.strip()
        wait_until_ready(engine, app, url)
        names = [f"sub-001/ses-{visit:02d}/anat/sub-001_ses-{visit:02d}_T1w.nii.gz" for visit in (1, 2)]
        assert all((cohort / name).exists() for name in names)
        copy = "import fsspec\nfs = fsspec.filesystem('gs')\n" + "\n".join(
            f"fs.pipe_file('interscan/scans/{place}.nii.gz', open('/scans/{name}', 'rb').read())"
            for place, name in enumerate(names)
        )
        engine.run(
            "run",
            "--rm",
            *HARDENED,
            *BUCKET[2:],
            "--network",
            "interscan_default",
            "--volume",
            f"{cohort}:/scans:ro",
            "--entrypoint",
            "/opt/interscan/bin/python",
            "interscan-preprocess",
            "-c",
            copy,
        )
        question = {
            "earlier_uri": "gs://interscan/scans/0.nii.gz",
            "later_uri": "gs://interscan/scans/1.nii.gz",
            "gap_days": 365,
        }
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
        status, answer = ask(f"{url}/v1/progression", data=json.dumps(question).encode(), headers=headers)
        engine.figures["compose_answer_s"] = time.monotonic() - started
        assert status == 200, answer
        assert answer["progression"] in ("improved", "stable", "declined", "undecided")
    finally:
        logs = compose(engine, "logs", "--no-color", check=False, **settings)
        (engine.folder / "compose.log").write_text(logs.stdout, encoding="utf-8")
        compose(engine, "down", "--volumes", check=False, **settings)


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
