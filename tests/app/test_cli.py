"""The verbs serve, predict and embed, called as the command line calls them."""

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from app.cli import embed, predict, serve
from app.registry import load_artefact
from interscan.cli import run
from preprocess.dicom_zip import pack
from preprocess.errors import ArtefactError, ScanError, StoreError, UsageError
from preprocess.index import IndexRecord
from preprocess.recipe import VolumeRecipe
from preprocess.storage import Location
from preprocess.writer import commit, open_rows, prepare_arrays, write_row
from tests.support.artefacts import PICTURES, RECIPE, WIDTH, decision_part, write_artefact, write_severity_artefact
from tests.support.heads import head_nifti
from tests.support.series import files_of, slices, write_series
from tests.support.service import post_pair

SMALL, LARGE = head_nifti(15, seed=1), head_nifti(22, seed=2)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "one.nii.gz").write_bytes(SMALL)
    (tmp_path / "two.nii.gz").write_bytes(LARGE)
    return str(tmp_path / "one.nii.gz"), str(tmp_path / "two.nii.gz")


def write_store(uri: str, num_rows: int, recipe: VolumeRecipe = RECIPE) -> np.ndarray:
    """A store whose row 1 is absent; gives all rows (N, ...) of the recipe's modality."""
    location, modality = Location(uri), recipe.modalities[0]
    shape = (num_rows, *(recipe.row_shape(modality) or ()))
    volumes = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    prepare_arrays(location, recipe, [modality], num_rows)
    array = open_rows(location, modality)
    records = []
    for row, volume in enumerate(volumes):
        is_present = row != 1
        if is_present:
            write_row(array, uri, row, volume)
        records.append(
            IndexRecord(
                row=row,
                modality=modality,
                subject_id=f"sub-{row // 2}",
                session_id=f"ses-{row % 2}",
                run="",
                day=100.0 * (row % 2),
                present=is_present,
                site="",
                scanner="",
                spacing_mm=(12.0,) * 3,
                affine=tuple(np.eye(4).ravel()),
                source_uri=f"/raw/{row}.nii",
                source_sha256="",
                source_bytes=0,
                content_sha256=hashlib.sha256(volume.tobytes()).hexdigest() if is_present else "",
                outcomes={"mmse": 20.0 + row},
            )
        )
    commit(location, recipe, records)
    return volumes


def test_predict_prints_the_object_that_the_service_answers(client, artefact, pair, capsys):
    assert predict(str(artefact), *pair, gap_days=30, json=True) == 0

    assert json.loads(capsys.readouterr().out) == post_pair(client, SMALL, LARGE, gap_days="30").json()


def test_predict_reads_a_bucket_and_prints_text_for_a_person(artefact, pair, capsys):
    fsspec.filesystem("memory").pipe_file("/cli-test/one.nii.gz", SMALL)

    assert predict(str(artefact), "memory://cli-test/one.nii.gz", pair[1]) == 0

    out = capsys.readouterr().out
    assert out.startswith("undecided\n  reasons        within_noise, few_noise_pairs, no_prediction_set\n")
    assert "For research only" in out


def test_predict_takes_a_zip_or_the_folder_of_a_series_alike(artefact, tmp_path, capsys):
    sets = slices()
    write_series(tmp_path / "folder" / "inner", sets)
    (tmp_path / "scan.zip").write_bytes(pack(files_of(sets)))
    (tmp_path / "slice.dcm").write_bytes(files_of(sets[:1])[0])

    assert predict(str(artefact), str(tmp_path / "folder"), str(tmp_path / "scan.zip"), json=True) == 0

    answer = json.loads(capsys.readouterr().out)
    assert answer["earlier"]["sha256"] == answer["later"]["sha256"]
    with pytest.raises(ScanError, match="later: one slice of a series; give the folder or a zip of the series"):
        predict(str(artefact), str(tmp_path / "scan.zip"), str(tmp_path / "slice.dcm"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="0 files of 22 bytes in all, expected 1 to 10000 files"):
        predict(str(artefact), str(tmp_path / "scan.zip"), str(tmp_path / "empty"))


def test_predict_names_a_missing_file_and_the_scan_that_is_none(artefact, pair, tmp_path):
    (tmp_path / "page.nii.gz").write_bytes(b"<html>")

    with pytest.raises(UsageError, match=r"nothing\.nii: no such file"):
        predict(str(artefact), pair[0], str(tmp_path / "nothing.nii"))
    with pytest.raises(ScanError, match="later: a web page"):
        predict(str(artefact), pair[0], str(tmp_path / "page.nii.gz"))
    with pytest.raises(UsageError, match="exchange the two scans"):
        predict(str(artefact), *pair, gap_days=-1)


def test_predict_with_days_tells_a_trajectory_as_json_and_as_text(pair, tmp_path, capsys):
    line = str(write_artefact(tmp_path / "line", decision=decision_part(), judges=True))
    (tmp_path / "three.nii.gz").write_bytes(head_nifti(25, seed=3))
    scans = (*pair, str(tmp_path / "three.nii.gz"))

    assert predict(line, *scans, days="0, 365,730", age=71, json=True) == 0
    answer = json.loads(capsys.readouterr().out)
    assert predict(line, *scans, days="0,365,730") == 0
    text = capsys.readouterr().out

    assert (answer["decision"], answer["span_days"], answer["age"]) == ("declined", 730, 71)
    assert [step["predicted_change"]["points"] < 0 for step in answer["steps"]] == [True, True]
    assert text.startswith("declined over 730 days, 3 scans\n  reasons        none\n  possible       declined\n")
    assert f"  a year         {answer['annual_change']['points_per_year']:+.1f} points of mmse a year" in text


def test_a_first_day_before_day_0_is_no_option(pair, tmp_path, capsys):
    line = str(write_artefact(tmp_path / "line", decision=decision_part(), judges=True))
    assert run(["predict", line, *pair, "--days", "-30,335", "--json"]) == 0
    assert [visit["day"] for visit in json.loads(capsys.readouterr().out)["visits"]] == [-30, 335]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"days": "0"}, "1 day for 2 scans; give one day for each scan"),
        ({"days": "0,soon"}, "--days: 'soon' is not a number of days"),
        ({"days": "20200305,20210305"}, "no dates"),
        ({"days": "0,1", "age": -2}, "age -2 is not between 0 and 120"),
        ({"days": "0,1", "gap_days": 1}, "--gap-days is of a pair of scans, --days of a trajectory"),
        ({"days": "0,1", "map_out": "map.nii"}, "--map is of a pair of scans, --days of a trajectory"),
        ({"age": 71}, "--age without --days; give the day of each scan"),
    ],
)
def test_predict_refuses_what_makes_no_trajectory_before_anything_is_loaded(pair, options, message):
    with pytest.raises(UsageError, match=message) as caught:
        predict("nowhere", *pair, **options)
    assert "\n" not in str(caught.value)


def test_predict_of_three_scans_asks_for_their_days_and_names_one_that_is_missing(pair, tmp_path):
    with pytest.raises(UsageError, match="3 scans without --days; give the day of each scan, for example"):
        predict("nowhere", *pair, pair[0])
    with pytest.raises(UsageError, match=r"gone\.nii: no such file; give scan 3 as \.nii"):
        predict("nowhere", *pair, str(tmp_path / "gone.nii"), days="0,1,2")


def test_predict_with_days_refuses_a_model_that_tells_no_points(artefact, pair):
    with pytest.raises(ArtefactError, match="tells no change in points of the score, so there is no line"):
        predict(str(artefact), *pair, days="0,1")


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_embed_writes_one_embedding_for_each_present_row(artefact, tmp_path, capsys, batch_size):
    volumes = write_store(str(tmp_path / "store"), 7)
    out = tmp_path / "new" / "embeddings.parquet"

    assert embed(str(artefact), str(tmp_path / "store"), str(out), batch_size=batch_size, json=True) == 0

    table = pq.read_table(out)
    rows = [0, 2, 3, 4, 5, 6]
    assert table["row"].to_pylist() == rows
    assert table["cohort"].to_pylist() == [""] * 6
    assert table["subject_id"].to_pylist() == ["sub-0", "sub-1", "sub-1", "sub-2", "sub-2", "sub-3"]
    assert table["outcome.mmse"].to_pylist() == [20.0 + row for row in rows]
    assert str(table.schema.field("embedding").type) == "list<element: float>"
    engine = load_artefact(str(artefact)).engine
    for row, embedding in zip(rows, table["embedding"].to_pylist(), strict=True):
        np.testing.assert_allclose(embedding, engine.embed(volumes[row][None])[0], rtol=1e-5)
    result = json.loads(capsys.readouterr().out)
    assert (result["num_rows"], result["width"], result["fingerprint"]) == (6, WIDTH, RECIPE.fingerprint())


@pytest.mark.parametrize("recipe", [RECIPE, PICTURES])
def test_embed_adds_the_severity_that_the_program_gives(tmp_path, recipe):
    rows = write_store(str(tmp_path / "store"), 6, recipe)
    severe = str(write_severity_artefact(tmp_path / "far", recipe=recipe))

    assert embed(severe, str(tmp_path / "store"), str(tmp_path / "e.parquet"), batch_size=2) == 0

    table = pq.read_table(tmp_path / "e.parquet")
    assert str(table.schema.field("severity").type) == "float"
    engine = load_artefact(severe).engine
    np.testing.assert_allclose(table["severity"].to_pylist(), engine.severity(rows[[0, 2, 3, 4, 5]]), atol=1e-6)


def test_embed_with_an_artefact_of_progression_has_no_severity(artefact, tmp_path):
    write_store(str(tmp_path / "store"), 3)

    embed(str(artefact), str(tmp_path / "store"), str(tmp_path / "e.parquet"))

    assert "severity" not in pq.read_table(tmp_path / "e.parquet").column_names


def test_predict_with_an_artefact_of_severity_names_embed(pair, tmp_path):
    severe = write_severity_artefact(tmp_path / "far")

    with pytest.raises(ArtefactError, match=r"far: an artefact of kind severity.*use interscan embed") as caught:
        predict(str(severe), *pair)
    assert "\n" not in str(caught.value)


def test_embed_writes_to_a_bucket(artefact, tmp_path):
    write_store(str(tmp_path / "store"), 3)

    assert embed(str(artefact), str(tmp_path / "store"), "memory://cli-test/out/e.parquet") == 0

    data = fsspec.filesystem("memory").cat_file("/cli-test/out/e.parquet")
    assert len(pq.read_table(io.BytesIO(data))) == 2


def test_embed_refuses_a_store_of_another_preprocessing_with_both_fingerprints(artefact, tmp_path):
    other = RECIPE.model_copy(update={"spacing_mm": 11.0})
    write_store(str(tmp_path / "store"), 2, other)

    with pytest.raises(StoreError, match=f"{other.fingerprint()}.*{RECIPE.fingerprint()}"):
        embed(str(artefact), str(tmp_path / "store"), str(tmp_path / "e.parquet"))
    assert not (tmp_path / "e.parquet").exists()


def test_embed_stops_at_a_damaged_row_and_writes_nothing(artefact, tmp_path):
    write_store(str(tmp_path / "store"), 3)
    chunk = next((tmp_path / "store" / "volumes.zarr" / "T1w" / "c" / "2").rglob("0"))
    while chunk.is_dir():
        chunk = chunk / "0"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)

    with pytest.raises(StoreError, match="row 2 of T1w"):
        embed(str(artefact), str(tmp_path / "store"), str(tmp_path / "e.parquet"))
    assert not (tmp_path / "e.parquet").exists()


@pytest.mark.parametrize("out", ["folder/", "gs://bucket.parquet"])
def test_embed_wants_a_file_to_write(artefact, out):
    with pytest.raises(UsageError, match="not a file"):
        embed(str(artefact), "nowhere", out)


def test_serve_refuses_what_would_be_unsafe_or_empty(artefact):
    with pytest.raises(UsageError, match="no API key"):
        serve(str(artefact), host="0.0.0.0")
    with pytest.raises(UsageError, match="nothing to serve"):
        serve()
    with pytest.raises(UsageError, match="https"):
        serve(str(artefact), allow_prefix=("https://host/",))


def test_serve_on_a_taken_port_is_one_line(artefact):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port}: address already in use; choose another") as caught:
            serve(str(artefact), port=port)
    assert "\n" not in str(caught.value)


def wait_until_ready(address: str) -> dict[str, object]:
    """What /readyz says once it is 200; models may be loaded before scans can be decoded."""
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"{address}/readyz") as response:
                return dict(json.load(response))
        except urllib.error.HTTPError as error:
            error.close()
        time.sleep(0.1)
    raise AssertionError("never ready")


def embed_over(address: str) -> int:
    """The status of an upload."""
    body = b'--b\r\nContent-Disposition: form-data; name="scan"; filename="x"\r\n\r\n' + head_nifti() + b"\r\n--b--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    with urllib.request.urlopen(urllib.request.Request(f"{address}/v1/embeddings", body, kind)) as response:
        return int(response.status)


def test_a_served_artefact_answers_over_a_real_socket_and_stops_cleanly(artefact):
    command = "from interscan.cli import main; main()"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [sys.executable, "-c", command, "serve", str(artefact), "--port", "0"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # the tests themselves may run under nohup
    )
    assert server.stderr is not None
    try:
        address = re.match(r"(http://127\.0\.0\.1:\d+) ", server.stderr.readline())
        assert address
        assert server.stderr.readline() == "ready: tiny 1\n"
        assert wait_until_ready(address[1])["status"] == "ready"
        # As a terminal does that closes: to every process of the group, the decoding ones too.
        os.killpg(server.pid, signal.SIGHUP)
        assert server.stderr.readline() == (
            "SIGHUP: nothing is reloaded, the service goes on; end it by SIGTERM or Ctrl-C\n"
        )
        assert embed_over(address[1]) == 200
        server.send_signal(signal.SIGTERM)
        out, err = server.communicate(timeout=60)
    finally:
        server.kill()
        server.wait()
    assert "Traceback" not in out + err
    assert out == ""
