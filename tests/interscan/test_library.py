"""Stores, artefacts and answers for programs: what is given is checked, and wrong input is one line with its remedy."""

import json
import math
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from app.cli import predict
from interscan import grid_to_scan, load_artefact, open_store, predict_pair, predict_trajectory
from preprocess.errors import ArtefactError, ScanError, StorageError, StoreError, UsageError
from preprocess.readers import read_nifti
from preprocess.recipe import VolumeRecipe
from preprocess.transforms import to_volume
from tests.support.artefacts import RECIPE, decision_part, write_artefact, write_severity_artefact
from tests.support.cohorts import write_store
from tests.support.heads import head_nifti

ROOT = Path(__file__).resolve().parents[2]
SMALL, LARGE = head_nifti(15, seed=1), head_nifti(22, seed=2)


@pytest.fixture(scope="module")
def artefact(tmp_path_factory):
    return load_artefact(write_artefact(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture
def pair(tmp_path):
    (tmp_path / "one.nii.gz").write_bytes(SMALL)
    (tmp_path / "two.nii.gz").write_bytes(LARGE)
    return tmp_path / "one.nii.gz", tmp_path / "two.nii.gz"


def stored(data: bytes, recipe: VolumeRecipe = RECIPE) -> np.ndarray:
    """The volume that the batch job would store for a file."""
    return to_volume(read_nifti(data, name="scan"), recipe, name="scan").voxels_CDHW


@pytest.mark.parametrize("scheme", ["path", "text", "memory"])
def test_a_store_opens_by_path_text_or_url(tmp_path, scheme):
    location = "memory://interscan-library/store" if scheme == "memory" else tmp_path / "store"
    written = write_store(str(location))

    opened = open_store(str(location) if scheme == "text" else location)

    assert opened.manifest == written.manifest
    np.testing.assert_array_equal(opened.read(0, "T1w"), written.read(0, "T1w"))


def test_options_reach_the_file_system(tmp_path):
    write_store(tmp_path / "store")
    assert open_store(tmp_path / "store", options={"auto_mkdir": True}).location.fs.auto_mkdir


@pytest.mark.parametrize(
    ("location", "error", "words"),
    [
        ("nowhere", StoreError, "not a finished store; run interscan preprocess into it"),
        ("ftpp://nowhere", StorageError, "use a local path, gs://, s3://"),
    ],
)
def test_what_is_no_store_is_refused_in_one_line(tmp_path, monkeypatch, location, error, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=words) as caught:
        open_store(location)
    assert "\n" not in str(caught.value)


def test_an_artefact_loads_by_path_or_text_and_only_whole(tmp_path):
    folder = write_artefact(tmp_path / "tiny", version="7")
    assert load_artefact(folder).manifest.version == load_artefact(str(folder)).manifest.version == "7"

    (folder / "golden.npz").write_bytes(b"altered")
    with pytest.raises(ArtefactError, match=r"golden\.npz: SHA-256"):
        load_artefact(folder)


def test_files_give_the_answer_of_the_command_line_by_path_text_or_url(artefact, tmp_path, pair, capsys):
    predict(str(write_artefact(tmp_path / "again")), str(pair[0]), str(pair[1]), gap_days=30, json=True)
    printed = json.loads(capsys.readouterr().out)

    for earlier, later in (pair, map(str, pair), (f"file://{pair[0]}", f"file://{pair[1]}")):
        answer = predict_pair(artefact, earlier, later, gap_days=30)
        assert answer.model_dump(mode="json") == printed


def test_arrays_of_the_models_own_grid_give_the_answer_of_the_files_they_were_made_of(artefact, pair):
    of_files = predict_pair(artefact, *pair)

    for earlier, later in (
        (stored(SMALL), stored(LARGE)),
        (torch.from_numpy(stored(SMALL)), np.asfortranarray(stored(LARGE))),
        (pair[0], stored(LARGE)),
    ):
        of_arrays = predict_pair(artefact, earlier, later)
        assert of_arrays.probabilities == of_files.probabilities
        assert of_arrays.change == of_files.change


def test_an_array_against_itself_is_stable_by_definition_and_said_to_be_the_same(artefact):
    answer = predict_pair(artefact, stored(SMALL), stored(SMALL))

    assert answer.progression == "stable"
    assert answer.is_same_scan
    assert answer.caution[0].startswith("Both scans are the same file or array: ")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (
            np.zeros((16, 16, 16), np.uint8),
            r"earlier has shape \(16, 16, 16\) and dtype uint8; the model takes \(1, 16",
        ),
        (np.zeros((1, 181, 217, 181), np.float64), r"shape \(1, 181, 217, 181\) .* open_store\(\.\.\.\)\.read\(row"),
        (np.zeros((1, 16, 16, 16), np.float32), "dtype float32; the model takes .* and uint8: channels, then right"),
        (np.zeros((0,), np.uint8), r"shape \(0,\)"),
        (nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), "earlier is of type Nifti1Image; give a stored"),
        ([[0]], "earlier is of type list"),
        (None, "earlier is of type NoneType"),
    ],
    ids=["no channel", "raw scan", "dtype", "empty", "nibabel", "list", "none"],
)
def test_what_is_no_stored_volume_of_the_model_is_refused_with_what_it_takes(artefact, array, words):
    with pytest.raises(UsageError, match=words) as caught:
        predict_pair(artefact, array, stored(LARGE))
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=r"^later "):
        predict_pair(artefact, stored(SMALL), array)


@pytest.mark.parametrize("value", [-0.5, 900.0, math.nan])
def test_a_float_volume_outside_its_range_is_refused_with_both_values(tmp_path, value):
    recipe = RECIPE.model_copy(update={"dtype": "float32"})
    changes = {
        "inputs": {
            "modality": "T1w",
            "volume_recipe": recipe.model_dump(mode="json"),
            "fingerprint": recipe.fingerprint(),
        }
    }
    artefact = load_artefact(write_artefact(tmp_path / "float", changes=changes))
    whole = stored(LARGE, recipe)
    broken = whole.copy()
    broken[0, 0, 0, 0] = value

    assert predict_pair(artefact, whole, stored(SMALL, recipe)).change.distance > 0
    with pytest.raises(UsageError, match=f"earlier holds values from .*{'nan' if math.isnan(value) else f'{value:g}'}"):
        predict_pair(artefact, broken, whole)


def test_a_missing_file_is_named_with_the_scan_it_should_be(artefact, pair):
    with pytest.raises(UsageError, match=r"none\.nii\.gz: no such file; give the later scan as \.nii or \.nii\.gz"):
        predict_pair(artefact, pair[0], pair[0].parent / "none.nii.gz")


def test_a_place_in_the_stead_of_a_loaded_artefact_is_refused_with_what_to_give(artefact, pair):
    with pytest.raises(UsageError, match="artefact is of type str; give what load_artefact returns"):
        predict_pair("model", *pair)


def test_a_file_that_is_no_scan_is_refused_with_its_finding(artefact, pair):
    pair[1].write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(ScanError, match="later") as caught:
        predict_pair(artefact, *pair)
    assert caught.value.finding.code == "not_nifti"


@pytest.mark.parametrize("gap_days", [-1, math.nan, math.inf])
def test_a_gap_that_is_no_number_of_days_is_refused(artefact, pair, gap_days):
    with pytest.raises(UsageError, match=f"gap_days is {gap_days:g}; it must be a number of days, 0 or more"):
        predict_pair(artefact, *pair, gap_days=gap_days)


def test_a_model_that_compares_no_pairs_says_so(tmp_path, pair):
    far = load_artefact(write_severity_artefact(tmp_path / "far"))
    with pytest.raises(ArtefactError, match=r"far 1: an artefact of kind severity, and predict_pair compares"):
        predict_pair(far, *pair)


def test_a_trajectory_from_files_and_arrays_is_that_of_the_command_line(tmp_path, pair, capsys):
    folder = write_artefact(tmp_path / "line", decision=decision_part(), judges=True)
    predict(str(folder), str(pair[0]), str(pair[1]), days="0,365", age=70, json=True)
    printed = json.loads(capsys.readouterr().out)
    line = load_artefact(folder)

    assert predict_trajectory(line, pair, [0, 365], age=70).model_dump(mode="json") == printed
    of_arrays = predict_trajectory(line, [stored(SMALL), stored(LARGE)], [0, 365])
    assert of_arrays.annual_change is not None
    assert of_arrays.annual_change.model_dump() == printed["annual_change"]


@pytest.mark.parametrize(
    ("scans", "days", "words"),
    [
        (1, [0], "1 scan; a trajectory takes 2 to 16"),
        (17, range(17), "17 scans; a trajectory takes 2 to 16"),
        (2, [0, 1, 2], "3 days for 2 scans"),
        (2, [0, math.inf], "day inf is not between"),
    ],
)
def test_visits_that_make_no_trajectory_are_refused(artefact, scans, days, words):
    with pytest.raises(UsageError, match=words):
        predict_trajectory(artefact, ["none.nii"] * scans, days)


def test_a_missing_visit_is_named_by_its_position(tmp_path, pair, artefact):
    line = load_artefact(write_artefact(tmp_path / "line", decision=decision_part(), judges=True))
    with pytest.raises(UsageError, match=r"none\.nii: no such file; give scan 2 as \.nii or \.nii\.gz"):
        predict_trajectory(line, [pair[0], "none.nii"], [0, 1])
    with pytest.raises(ArtefactError, match="tiny 1: tells no change in points"):
        predict_trajectory(artefact, pair, [0, 1])


@pytest.mark.parametrize(
    "call", ["load_artefact('x')", "predict_pair(None, 'a', 'b')", "predict_trajectory(None, [], [])"]
)
def test_without_the_extra_serve_the_answer_is_what_to_install(call):
    program = (
        "import sys\n"
        "sys.modules['fastapi'] = sys.modules['starlette'] = None\n"
        "from interscan import InterscanError, load_artefact, predict_pair, predict_trajectory\n"
        f"try: {call}\n"
        "except InterscanError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert "of the extra 'serve'; pip install 'interscan[serve]'" in done.stdout
    assert done.stdout.count("\n") == 1


def test_files_and_arrays_are_not_mixed_where_visits_are_registered_together(tmp_path):
    recipe = RECIPE.model_copy(update={"registration": "subject"})
    inputs = {"modality": "T1w", "volume_recipe": recipe.model_dump(mode="json"), "fingerprint": recipe.fingerprint()}
    model = load_artefact(write_artefact(tmp_path / "together", changes={"inputs": inputs}))
    (tmp_path / "one.nii.gz").write_bytes(SMALL)
    with pytest.raises(UsageError, match="give either files or stored volumes, not both"):
        predict_pair(model, tmp_path / "one.nii.gz", stored(LARGE))


def test_a_row_without_a_volume_has_no_way_back(tmp_path):
    write_store(tmp_path / "store")
    store = open_store(tmp_path / "store")
    with pytest.raises(StoreError, match=r"row 99 holds no volume of T1w; `records` lists which rows do"):
        grid_to_scan(store, 99, "T1w")
