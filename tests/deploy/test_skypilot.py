"""SkyPilot's own parser takes the job's file and refuses wrong ones; it lives in an environment of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.engine import ROOT

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]
JOB = ROOT / "deploy" / "skypilot" / "train.yaml"
VERSION = "0.14.1"
READ = """
import json, sys, sky
found = sky.Task.from_yaml(sys.argv[1])
print(json.dumps([[str(one.region), one.use_spot, one.accelerators, one.job_recovery] for one in found.resources]))
"""


@pytest.fixture(scope="module")
def python() -> Path:
    """An interpreter that has SkyPilot, whose requirements do not fit beside ours."""
    folder = ROOT / ".engine" / f"skypilot-{VERSION}"
    uv = [sys.executable, "-m", "uv", "--quiet"]
    if not (folder / "done").exists():
        subprocess.run([*uv, "venv", "--clear", "--python", sys.executable, str(folder)], check=True)
        wanted = ["--python", str(folder / "bin" / "python"), f"skypilot=={VERSION}"]
        subprocess.run([*uv, "pip", "install", *wanted], check=True)
        (folder / "done").touch()
    return folder / "bin" / "python"


def read(python: Path, job: Path, home: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(python), "-c", READ, str(job)],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_job_is_read_as_a_spot_a100_in_any_of_three_regions(python: Path, tmp_path: Path) -> None:
    done = read(python, JOB, tmp_path)
    assert done.returncode == 0, done.stderr
    for part in ('"us-east1", true, {"A100": 1}', '"us-central1", true, {"A100": 1}', '"europe-west4", true'):
        assert part in done.stdout
    assert done.stdout.count('"recover_on_exit_codes": [130, 143]') == 3


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("accelerators: A100:1", "accelerator: A100:1"),
        ("\nrun: |", "\nrunn: |"),
        ("use_spot: true", "use_spot: maybe"),
        ("max_restarts_on_errors: 3", "max_restarts_on_errors: many"),
        ("infra: gcp/europe-west4", "infra: gcq/europe-west4"),
    ],
)
def test_a_wrong_copy_is_refused(python: Path, tmp_path: Path, right: str, wrong: str) -> None:
    text = JOB.read_text(encoding="utf-8")
    assert right in text
    (tmp_path / "wrong.yaml").write_text(text.replace(right, wrong, 1), encoding="utf-8")
    done = read(python, tmp_path / "wrong.yaml", tmp_path)
    assert done.returncode != 0, done.stdout
