"""The demo: pairs chosen by the truth alone, and the whole road in a small size."""

import json
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from interscan.demo import choose_pairs
from preprocess.errors import UsageError
from tests.support.artefacts import write_artefact

TRUTH = """subject_id\tsession_id\tday\ttrajectory\tatrophy\tmmse_true\tmmse\tscanner\trescan_of\tventricle_mm3
sub-1\tses-01\t0\tstable\t0.1\t27\t27\ta\tn/a\t1
sub-1\tses-02\t300\tstable\t0.1\t27\t26\ta\tn/a\t1
sub-2\tses-02\t200\tdeclining\t0.2\t25\t25\ta\tn/a\t1
sub-2\tses-03\t500\tdeclining\t0.4\t20\t20\ta\tn/a\t1
sub-2\tses-01\t0\tdeclining\t0.1\t28\t28\ta\tn/a\t1
sub-2\tses-03r\t500\tdeclining\t0.4\t20\t19\ta\tses-03\t1
sub-3\tses-01\t0\tdeclining\t0.1\t28\t28\ta\tn/a\t1
sub-3\tses-02\t90\tdeclining\t0.1\t28\t22\ta\tn/a\t1
"""


@pytest.fixture
def truth(tmp_path):
    path = tmp_path / "truth.tsv"
    path.write_text(TRUTH)
    return path


def test_the_pairs_are_first_and_last_visit_by_day_without_rescans(truth):
    pairs = choose_pairs(truth, frozenset({"sub-1", "sub-2", "sub-3"}))
    declining = pairs["declining"]
    assert (declining.subject_id, declining.earlier, declining.later) == ("sub-2", "ses-01", "ses-03")
    assert (declining.gap_days, declining.true_change, declining.score_change) == (500.0, -8.0, -8.0)
    assert declining.image("ses-03") == "sub-2/ses-03/anat/sub-2_ses-03_T1w.nii.gz"
    stable = pairs["stable"]
    assert (stable.subject_id, stable.true_change, stable.score_change) == ("sub-1", 0.0, -1.0)


def test_only_held_out_subjects_are_chosen(truth):
    assert choose_pairs(truth, frozenset({"sub-1", "sub-3"}))["declining"].subject_id == "sub-3"


def test_a_held_out_part_without_a_stable_subject_is_refused_with_the_remedy(truth):
    with pytest.raises(UsageError, match="none of the 1 held-out subjects is stable; bring more --subjects"):
        choose_pairs(truth, frozenset({"sub-2"}))


@pytest.mark.timeout(900)
def test_the_demo_goes_all_the_way_and_prints_one_json_object(tmp_path):
    command = [sys.executable, "-m", "interscan", "demo", str(tmp_path / "demo"), "--subjects", "20", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert result["volumes_per_s"] > 0
    assert 0 < result["change_error_over_chance"] < 1.5
    assert 0 <= result["macro_f1"] <= 1
    low, high = result["macro_f1_interval"]
    assert low <= result["macro_f1"] <= high
    assert result["log_loss"] > 0
    assert result["same_scanner_macro_f1"] is not None
    for name in ("declining", "stable"):
        pair = result[f"{name}_pair"]
        assert pair["progression"] in pair["probabilities"]
        assert pair["decision"] in {*pair["probabilities"], "undecided"}
        assert max(pair["probabilities"].values()) < 1
        assert sum(pair["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert pair["caution"]
    report = tmp_path / "demo" / "run" / "evaluation" / "report.html"
    assert result["report"] == str(report)
    assert "<html" in report.read_text()[:200]

    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr[-2000:]
    second = json.loads(again.stdout)
    # Nothing is done twice, and the finished model answers as before.
    assert second["volumes_per_s"] == result["volumes_per_s"]
    assert second["declining_pair"] == result["declining_pair"]


DEMO = """
import sys, time
from pathlib import Path
from interscan.demo import _serving
with _serving(Path(sys.argv[1]), allow_prefix=Path(sys.argv[1])) as address:
    print(address, flush=True)
    time.sleep(600)
"""


def answers(address):
    try:
        with urllib.request.urlopen(f"{address}/livez", timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_service_of_a_demo_that_was_killed_ends_with_it(tmp_path, number):
    artefact = write_artefact(tmp_path / "models" / "tiny")
    with subprocess.Popen([sys.executable, "-c", DEMO, str(artefact)], stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        address = demo.stdout.readline().strip()
        assert answers(address)
        demo.send_signal(number)
        demo.wait(60)
    until = time.monotonic() + 60
    while answers(address):
        assert time.monotonic() < until
        time.sleep(0.1)
