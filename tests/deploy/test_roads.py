"""Jobs in their images over a bucket: stopped, gone on with to the same bytes and weights; the road by compose."""

import json
import time
from pathlib import Path

import pytest

from tests.support.bucket import free_port
from tests.support.containers import BUCKET, KEY, ask, python, wait_for_line, wait_until_ready
from tests.support.engine import HARDENED, Engine, compose, make_emulator

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(1200)]


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
    # The default recipe calibrates on ten people or more.
    settings = {"SCANS": str(cohort), "INTERSCAN_API_KEYS": KEY, "APP_PORT": str(port), "RECIPE": "mse"}
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
