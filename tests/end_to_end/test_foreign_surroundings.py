"""The main verbs as an unknown user: read-only tree, no home, a small disk for temporary files, no stdout, locale C."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.cohorts import recipe_toml, tiny_recipe

ROOT = Path(__file__).resolve().parents[2]
UID = 54321
"""Nobody's: without an entry in passwd."""
ROOM = "6m"
"""Of the folder for temporary files; numba's cache, a few uploads and TensorBoard's events must share it."""
STORE_RECIPE = """grid = [16, 16, 16]
spacing_mm = 12.0
[quality]
max_spacing_mm = 12.0
"""


@dataclass(frozen=True)
class Stranger:
    """A user whom the machine does not know, at home nowhere.

    Attributes:
        place: the one folder that is theirs.
        tree: the source, which they may read.
        temporary: for temporary files; small where the machine let us make it so.
        is_small: whether it is.
        python: an interpreter that they may run.
    """

    place: Path
    tree: Path
    temporary: Path
    is_small: bool
    python: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            # An interpreter below somebody's home is closed to others; the machine's own finds the packages here.
            "PYTHONPATH": os.pathsep.join((str(self.tree), sysconfig.get_path("purelib"))),
            "HOME": "/nonexistent",
            "TMPDIR": str(self.temporary),
            "LC_ALL": "C",
            "OMP_NUM_THREADS": "1",
        }

    def start(self, *arguments: str, **streams: int | None) -> "subprocess.Popen[bytes]":
        command = [self.python, "-m", "interscan", *arguments]
        who = {"user": UID, "group": UID, "extra_groups": []}
        return subprocess.Popen(command, cwd=self.place, env=self.environment, **who, **streams)  # type: ignore[call-overload]

    def run(self, *arguments: str) -> str:
        """Run a verb with its stdout closed; what it said on stderr."""
        command = ["sh", "-c", 'exec "$@" >&-', "sh", self.python, "-m", "interscan", *arguments]
        done = subprocess.run(
            command, cwd=self.place, env=self.environment, user=UID, group=UID, extra_groups=[],
            stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
        said = done.stderr.decode("ascii", "strict")
        assert done.returncode == 0, said
        assert "Traceback" not in said
        return said


@pytest.fixture(scope="module")
def stranger() -> Iterator[Stranger]:
    if os.geteuid() != 0:
        pytest.skip("only root may become another user")
    # pytest's own folders are closed to other users.
    place = Path(tempfile.mkdtemp(prefix="foreign-"))
    place.chmod(0o755)
    try:
        tree = place / "tree"
        for part in ("preprocess", "trainer", "app", "interscan"):
            shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
        for path in (tree, *tree.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        own, temporary = place / "own", place / "tmp"
        own.mkdir()
        os.chown(own, UID, UID)
        temporary.mkdir()
        mounting = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={ROOM},uid={UID}", "none", str(temporary)], capture_output=True
        )
        is_small = mounting.returncode == 0
        if not is_small:
            os.chown(temporary, UID, UID)
        try:
            own_pythons = (sys.executable, shutil.which(f"python3.{sys.version_info.minor}", path=os.defpath))
            strangers = (Stranger(own, tree, temporary, is_small, python) for python in own_pythons if python)
            found = next(filter(_can_run, strangers), None)
            if found is None:
                pytest.skip(f"other users may run neither {sys.executable} nor another Python of this version")
            yield found
        finally:
            if is_small:
                subprocess.run(["umount", str(temporary)], check=True)
    finally:
        shutil.rmtree(place)


def _can_run(stranger: Stranger) -> bool:
    try:
        probe = subprocess.run(
            [stranger.python, "-c", "import torch, interscan; print(interscan.__file__)"],
            cwd=stranger.place, env=stranger.environment, user=UID, group=UID, extra_groups=[],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except PermissionError:
        return False
    return probe.returncode == 0 and probe.stdout.startswith(str(stranger.tree))


@pytest.mark.timeout(1200)  # every verb of the road, each a program of its own
def test_the_whole_road_works_for_a_stranger(stranger: Stranger) -> None:
    own = stranger.place
    (own / "store.toml").write_text(STORE_RECIPE, encoding="utf-8")
    recipe = tiny_recipe(optim={"epochs": 1}, split={"validation": 0.2, "test": 0.5})
    (own / "tiny.toml").write_text(recipe_toml(recipe), encoding="utf-8")

    stranger.run("synth", "brain", "cohort", "--subjects", "10", "--spacing-mm", "8", "--json")
    stranger.run("preprocess", "cohort", "store", "--recipe", "store.toml", "--workers", "2", "--json")
    stranger.run("verify", "store", "--json")
    stranger.run("plan", "store", "tiny.toml", "--json")
    stranger.run("train", "tiny.toml", "--store", "store", "--run", "run", "--json")
    stranger.run("evaluate", "run", "--json")
    stranger.run("export", "run", "artefact", "--json")
    stranger.run("embed", "artefact", "store", "embeddings.parquet", "--json")
    scans = sorted(str(path) for path in (own / "cohort").rglob("sub-*_T1w.nii.gz"))
    stranger.run("predict", "artefact", scans[0], scans[1], "--json")

    assert json.loads((own / "store" / "store.json").read_text())["num_kept"] == len(scans)
    # UMAP ran, and kept its compiled code where it could.
    assert list((stranger.temporary / f"interscan-{UID}" / "numba").rglob("*.nbi"))
    assert b"<html" in (own / "run" / "evaluation" / "report.html").read_bytes()[:200]
    assert pq.read_table(own / "embeddings.parquet").num_rows == len(scans)
    mine = {path for path in own.rglob("*") if path.name not in ("store.toml", "tiny.toml")}
    assert {path.stat().st_uid for path in mine} == {UID}

    serving = stranger.start("serve", "artefact", "--port", "0", stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        assert serving.stderr is not None
        address = serving.stderr.readline().decode("ascii").split(" ")[0]
        assert serving.stderr.readline() == b"ready: tiny 1\n"
        with urllib.request.urlopen(_upload(address, scans[0], scans[1])) as response:
            answer = json.load(response)
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        serving.send_signal(signal.SIGTERM)
        said = serving.communicate(timeout=60)[1].decode("ascii")
    finally:
        serving.kill()
        serving.wait()
    assert (serving.returncode, "Traceback" in said) == (0, False)


def test_what_is_left_in_the_folder_for_temporary_files_is_closed_to_others(stranger: Stranger) -> None:
    kept = list(stranger.temporary.iterdir())
    assert [path.name for path in kept] in ([], [f"interscan-{UID}"])
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o700 for path in kept)


def test_the_folder_for_temporary_files_was_small(stranger: Stranger) -> None:
    if not stranger.is_small:
        pytest.skip("this machine lets nobody mount a small disk; the road ran with a large folder")
    assert shutil.disk_usage(stranger.temporary).total <= 8 * 2**20


def _upload(address: str, earlier: str, later: str) -> urllib.request.Request:
    boundary = "----two-scans"
    body = b""
    for name, path in (("earlier", earlier), ("later", later)):
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.nii.gz"\r\n\r\n'
        body += head.encode() + Path(path).read_bytes() + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return urllib.request.Request(f"{address}/v1/progression", data=body, headers=headers)
