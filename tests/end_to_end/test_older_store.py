"""A store of an older transform version: it opens, verifies and trains, and takes no newer rows."""

import json
from pathlib import Path

import pytest
import zarr

from interscan.cli import run
from preprocess.recipe import TRANSFORM_VERSION, VolumeRecipe
from preprocess.store import Store
from tests.support.images import head_file, tree, write_bids

SMALL = ("--set", "grid=[24, 24, 24]", "--set", "spacing_mm=8")
RECIPE = VolumeRecipe(grid=(24, 24, 24), spacing_mm=8.0)


def dated_back(store: Path, version: int) -> None:
    """The same rows under the fingerprint that a version gave them: in store.json and in the arrays' own notes."""
    first = RECIPE.fingerprint(transform_version=version)
    path = store / "store.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "fingerprint": first}))
    zarr.open_array(store / "volumes.zarr" / "T1w", mode="r+").attrs["fingerprint"] = first


@pytest.mark.parametrize("version", range(1, TRANSFORM_VERSION))
def test_a_store_of_an_older_version_is_read_and_refuses_newer_rows(
    version: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    days = {"01": 0.0, "02": 200.0}
    raw, store = tmp_path / "raw", tmp_path / "store"
    people = {f"{n:02d}": {s: head_file(1 - 0.01 * n, seed=10 * n + int(s)) for s in days} for n in range(6)}
    write_bids(raw, people, days)
    again = ["preprocess", str(raw), str(store), *SMALL, "--workers", "0"]
    assert run(again) == 0
    dated_back(store, version)
    assert Store.open(store).manifest.fingerprint != RECIPE.fingerprint()
    assert run(["verify", str(store)]) == 0
    training = ["train", "simclr", "--store", str(store), "--run", str(tmp_path / "run")]
    assert run([*training, "--set", "optim.epochs=1", "--set", "data.batch_size=4", "--set", "precision=float32"]) == 0
    before = tree(store)
    write_bids(raw, {"07": {"01": head_file(seed=99)}}, {"01": 0.0})
    capsys.readouterr()
    assert run(again) == 3
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert (
        f"transform version {version}, this program makes them by version {TRANSFORM_VERSION}; keep that store" in line
    )
    assert tree(store) == before
