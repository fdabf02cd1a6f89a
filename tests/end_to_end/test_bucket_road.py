"""Every verb on gs://, over HTTP through gcsfs: preprocess, verify, train, stop, resume, evaluate, export, serve."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pytest

from interscan.cli import run
from tests.support.service import running

SMALL_VOLUMES = ("--set", "grid=[24, 24, 24]", "--set", "spacing_mm=8.0")
SMALL_TRAINING = ("--set", "optim.epochs=4", "--set", "data.batch_size=4", "--set", "precision=float32")


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    """Run a verb with --json; its result."""
    code = run([*arguments, "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    return json.loads(said.out)


@pytest.mark.bucket
def test_the_whole_road_runs_on_a_bucket_and_survives_a_stop(bucket: str, tmp_path: Path, capsys) -> None:
    cohort = tmp_path / "cohort"
    call(capsys, "synth", "brain", str(cohort), "--subjects", "16", "--spacing-mm", "3")
    scans = f"{bucket}/scans"
    fsspec.filesystem("gs").put(str(cohort), scans, recursive=True)
    store, training, artefact = f"{bucket}/store", f"{bucket}/runs/1", f"{bucket}/models/demo"

    stored = call(capsys, "preprocess", scans, store, *SMALL_VOLUMES)
    assert stored["kept"] == stored["found"] == 16 * 3 + 5  # every third subject has a rescan
    assert call(capsys, "verify", store)["faults"] == []
    again = call(capsys, "preprocess", scans, store, *SMALL_VOLUMES)
    assert again == stored

    command = [sys.executable, "-m", "interscan", "train", "mse", "--store", store, "--run", training, *SMALL_TRAINING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        pointer = f"{training}/checkpoints/latest.json"
        bucket_fs = fsspec.filesystem("gs")
        until = time.monotonic() + 120
        while not bucket_fs.exists(pointer) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
            bucket_fs.invalidate_cache()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    # The stop may come too late for a run this short; then it is simply finished.
    assert process.returncode in (0, 130), said
    if process.returncode == 130:
        assert "checkpoint written; run the same command again to go on" in said

    trained = call(capsys, "train", "mse", "--store", store, "--run", training, *SMALL_TRAINING)
    assert trained["last_epoch"]["epoch"] == 3
    assert trained["progression_head"]["num_train"] > 0
    log = [json.loads(line) for line in bucket_fs.cat_file(f"{training}/log.jsonl").splitlines()]
    assert [entry["epoch"] for entry in log] == [0, 1, 2, 3]

    evaluated = call(capsys, "evaluate", training)
    assert evaluated["report"].startswith(training)
    assert b"</html>" in bucket_fs.cat_file(evaluated["report"])
    exported = call(capsys, "export", training, artefact)
    assert set(exported["files"]) == {"model.ts", "embed.pt2", "compare.pt2", "golden.npz", "references.npz"}

    pair = [f"{scans}/sub-001/ses-0{visit}/anat/sub-001_ses-0{visit}_T1w.nii.gz" for visit in (1, 3)]
    predicted = call(capsys, "predict", artefact, *pair)
    embedded = call(capsys, "embed", artefact, store, f"{bucket}/embeddings.parquet")
    assert embedded["num_rows"] == stored["kept"]

    with running(artefact, allow_prefixes=(scans,)) as client:
        answered = client.post("/v1/progression", json={"earlier_uri": pair[0], "later_uri": pair[1]})
        assert answered.status_code == 200, answered.text
        assert answered.json()["probabilities"] == pytest.approx(predicted["probabilities"], abs=1e-6)
        elsewhere = client.post("/v1/embeddings", json={"uri": f"{bucket}/store/store.json"})
        assert elsewhere.status_code == 403


@pytest.mark.bucket
def test_a_bucket_that_is_not_there_is_one_line_and_exit_3(bucket: str, capsys) -> None:
    assert run(["verify", f"{bucket}-not/store"]) == 3
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no store.json" in said
