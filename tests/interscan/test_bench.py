"""The verb `bench` and what it runs: keys, counts and what is read; the times themselves decide nothing."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.cohort import MODALITY, draw_volumes, upload, write_cohort
from benchmarks.peers import ours, raw_gcsfs, zarr_blocks, zarr_one_by_one
from benchmarks.peers.job import Job, measure
from benchmarks.running import ROOT, CaseFailedError, median_ratio, run_module
from benchmarks.streaming import CASES, ONE_BY_ONE, OURS, RAW, SIMULATED, summarise, table
from interscan.bench import SHOWN, find_script
from interscan.cli import run
from preprocess.errors import UsageError
from preprocess.store import Store
from tests.support.slow_bucket.client import slow_bucket

EDGE, ROWS = 16, 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, ROWS, EDGE)
    return folder


@pytest.fixture(scope="module")
def bucket(folder):
    with slow_bucket() as slow:
        slow.create("volumes")
        upload(slow, "volumes", folder, "store", "npy")
        yield slow


@pytest.fixture
def job(bucket, folder):
    bucket.reset()
    return Job(bucket.endpoint, "volumes", str(folder), ROWS, 2 * ROWS + 3, batch=4, in_flight=8, edge=EDGE)


def test_the_cohort_is_the_same_in_the_store_and_in_the_npy_files(folder):
    store = Store.open(folder / "store")
    for row, drawn in enumerate(draw_volumes(ROWS, EDGE)):
        np.testing.assert_array_equal(store.read(row, MODALITY), drawn)
        np.testing.assert_array_equal(np.load(folder / "npy" / f"{row:06d}.npy"), drawn)


def test_a_cohort_that_is_there_is_not_made_again(folder):
    before = (folder / "store" / "store.json").stat().st_mtime_ns
    assert write_cohort(folder, ROWS, EDGE) > 0
    assert (folder / "store" / "store.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("reader", [ours, zarr_one_by_one])
def test_readers_that_keep_the_order_yield_the_rows_of_the_job(reader, job, folder):
    store = Store.open(folder / "store")
    for rows, batch in zip(job.batches_of_rows(), reader.open_batches(job), strict=True):
        np.testing.assert_array_equal(batch.numpy(), np.stack([store.read(row, MODALITY) for row in rows]))


def test_a_block_reader_covers_the_cohort_without_running_over_its_end(job, folder):
    store = Store.open(folder / "store")
    read = np.concatenate([batch.numpy() for batch in zarr_blocks.open_batches(replace(job, volumes=2 * ROWS))])
    expected = [store.read(row % ROWS, MODALITY) for row in range(2 * ROWS)]
    np.testing.assert_array_equal(read, np.stack(expected))


@pytest.mark.parametrize(("reader", "warming"), [(ours, 0), (raw_gcsfs, 8)])
def test_each_volume_is_one_request_and_is_counted_once(reader, warming, job, bucket):
    result = measure(reader.open_batches, job)
    chunks = {name: number for name, number in bucket.stats().media_by_object.items() if "/c/" in name}
    assert result["volumes"] == job.volumes == sum(chunks.values()) - warming
    assert len(chunks) == ROWS
    assert result["peak_rss_mb"] > 50
    assert result["cpu_s"] > 0
    assert 0 < result["open_s"] < result["first_batch_s"]


def test_simulated_steps_are_part_of_the_utilisation(job):
    result = measure(ours.open_batches, replace(job, step_s=0.002))
    assert 0 < result["au"] < 1
    # What was slept over all that passed; sleeping takes at least as long as it was set to.
    assert result["au"] >= 0.002 * result["volumes_per_s"]


def _figures(volumes_per_s, after_first_per_s):
    keys = ("first_batch_s", "cpu_s", "peak_rss_mb", "requests_per_volume", "au")
    return dict.fromkeys(keys, 1.0) | {
        "volumes": 100,
        "volumes_per_s": volumes_per_s,
        "after_first_per_s": after_first_per_s,
    }


def test_ratios_are_medians_of_the_ratios_within_a_round():
    rounds = {
        OURS: [_figures(100.0, 110.0), _figures(50.0, 55.0), _figures(90.0, 95.0)],
        RAW: [_figures(100.0, 0.0), _figures(100.0, 0.0), _figures(100.0, 0.0)],
        ONE_BY_ONE: [_figures(2.0, 2.0)] * 3,
        SIMULATED: [_figures(10.0, 11.0)] * 3,
        "tensorstore": [_figures(1.0, 10.0), _figures(1.0, 10.0), _figures(1.0, 45.0)],
    }
    result = summarise(rounds, {"LitData": "no --peers-python"})
    assert set(SHOWN["stream"]) <= set(result)
    assert result["ratio_to_raw"] == 0.9
    assert result["ratio_to_one_by_one"] == 45.0
    assert result["ratios_to_peers"] == {"tensorstore": 5.0}
    shown = table(result)
    assert "| LitData | skipped: no --peers-python |" in shown
    assert median_ratio([{"a": 6.0}], [{"b": 3.0}], keys=("a", "b")) == 2.0


def test_a_reader_that_fails_is_named_by_its_last_error():
    with pytest.raises(CaseFailedError, match="No module named"):
        run_module(sys.executable, "there_is_none", "{}")


def test_every_reader_has_its_module():
    assert {case.module for case in CASES.values()} <= {path.stem for path in (ROOT / "benchmarks/peers").glob("*.py")}


def test_without_a_checkout_the_verb_says_so(tmp_path):
    with pytest.raises(UsageError, match="run it in a checkout") as refused:
        find_script("stream", tmp_path)
    assert refused.value.exit_code == 2


def test_peers_are_for_streaming_only(capsys):
    assert run(["bench", "train", "--peers-python", "python", "--json"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "--peers-python" in said.err


@pytest.mark.parametrize("part", ["train", "preprocess", "serve", pytest.param("stream", marks=pytest.mark.slow)])
def test_the_verb_prints_the_keys_that_are_promised(part):
    done = subprocess.run(
        [sys.executable, "-m", "interscan", "bench", part, "--quick", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(SHOWN[part]) <= set(result)
    assert all(result[key] > 0 for key in SHOWN[part])
    if part == "stream":
        assert result["requests_per_volume"] == 1.0
        assert {name for name, case in result["cases"].items() if "skipped" in case} == {
            name for name, case in CASES.items() if case.is_peer
        }


@pytest.mark.slow
def test_the_published_pipeline_trains_on_the_same_scans_both_ways():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.published_pipeline", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    for case in ("loopback", "limited_to_100_mb_per_s"):
        assert result[case]["ratio"] > 0


SLOW = """
import signal, sys, time
from pathlib import Path
def end(*_):
    Path("ended").touch()
    sys.exit(1)
signal.signal(signal.SIGTERM, end)
Path("begun").touch()
time.sleep(600)
"""


def test_an_interrupted_bench_asks_its_script_to_end_what_it_started(tmp_path):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "slow.py").write_text(SLOW)
    program = (
        "import signal, sys; from pathlib import Path; from interscan.bench import _run; "
        # Ignored where the tests run behind an &; the command line installs its own.
        "signal.signal(signal.SIGINT, signal.default_int_handler); _run(Path(sys.argv[1]), [])"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "benchmarks" / "slow.py")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=ROOT) as bench:
        until = time.monotonic() + 60
        while not (tmp_path / "begun").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        bench.send_signal(signal.SIGINT)
        bench.communicate(timeout=60)
    assert bench.returncode != 0
    assert (tmp_path / "ended").exists()
