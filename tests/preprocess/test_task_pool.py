"""Tasks run as the memory allows: too large a scan is one finding, and the run goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from preprocess.engine import preprocess
from preprocess.scan_memory import WORKER_BYTES
from preprocess.store import Store
from tests.preprocess.test_scan_memory import promising
from tests.support.images import RECIPE, head_file, tree, write_bids

ROOT = Path(__file__).resolve().parents[2]
TINY = ("--set", "grid=[24,24,24]", "--set", "spacing_mm=8", "--json")
ON_A_SMALL_MACHINE = """
import json, resource, sys
import preprocess.engine
from interscan.cli import run
preprocess.engine.available_bytes = lambda: int(sys.argv[1])
if __name__ == "__main__":
    code = run(sys.argv[2:])
    here, below = (resource.getrusage(who).ru_maxrss * 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps({"code": code, "here": here, "below": below}))
"""


def run_small(tmp_path: Path, free_bytes: float, *arguments: object) -> tuple[dict[str, Any], dict[str, Any], str]:
    """The verb's own JSON, exit code and peaks of memory, and stderr, where so much memory is free."""
    program = tmp_path / "small.py"
    program.write_text(ON_A_SMALL_MACHINE)
    command = [sys.executable, program, int(free_bytes), "preprocess", *arguments, *TINY]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    return json.loads("\n".join(lines[:-1])), json.loads(lines[-1]), done.stderr


def test_a_header_that_promises_two_gigabytes_is_left_out_and_its_neighbours_are_kept(tmp_path: Path) -> None:
    huge = promising((512, 1024, 512), np.float64, num_bytes=2_300_000)
    raw = write_bids(tmp_path / "raw", {"01": {"01": head_file(), "02": huge, "03": head_file(seed=1)}})
    result, ended, stderr = run_small(tmp_path, 1e9, raw, tmp_path / "s", "--workers", "0")
    assert (ended["code"], result["kept"], result["left_out"]) == (1, 2, 1)
    assert "1 too large and left out, the largest sub-01_ses-02_T1w" in stderr
    # Its voxels alone would be 1.1 GB as float32.
    assert ended["here"] < 900e6
    records = Store.open(tmp_path / "s").records
    assert [[finding.code for finding in record.findings] for record in records] == [[], ["too_much_memory"], []]
    # Judged anew in the next run, and not read there either.
    again, ended, _ = run_small(tmp_path, 1e9, raw, tmp_path / "s", "--workers", "0")
    assert ended["here"] < 900e6
    assert again["left_out"] == 1


def test_fewer_workers_are_begun_where_memory_is_short_and_none_takes_more_than_was_said(tmp_path: Path) -> None:
    raw = write_bids(tmp_path / "raw", {f"{n:02d}": {"01": head_file(seed=n)} for n in range(18)})
    plan, _, _ = run_small(tmp_path, 16e9, raw, tmp_path / "s", "--workers", "3", "--dry-run")
    said = plan["memory"]["worker_bytes"]
    assert (plan["memory"]["workers"], plan["memory"]["at_once"]) == (3, 3)
    result, ended, stderr = run_small(tmp_path, 2.5 * said, raw, tmp_path / "s", "--workers", "3")
    assert (ended["code"], result["kept"]) == (0, 18)
    assert "so 2 are begun" in stderr
    assert WORKER_BYTES / 3 < ended["below"] < said
    preprocess(str(raw), str(tmp_path / "truth"), RECIPE, workers=0)
    assert tree(tmp_path / "s") == tree(tmp_path / "truth")
