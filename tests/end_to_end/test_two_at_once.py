"""Two processes at one location: the second hears who holds it and leaves with 3, and nothing of the first is lost."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interscan.synthetic.brain.cohort import write_brain_cohort
from interscan.synthetic.lung.cohort import write_lung_cohort
from preprocess import lease
from preprocess.engine import preprocess, update
from preprocess.errors import ArtefactError, RunError, StorageError, StoreError, UsageError
from preprocess.lease import ARTEFACT, COHORT, CROSS_VALIDATION, LEASE_NAME, RUN, STORE, held
from preprocess.sources import list_scans
from preprocess.storage import Location
from preprocess.store import Store, verify_rows
from tests.support.cohorts import default_scans, recipe_toml, tiny_recipe, write_store
from tests.support.images import RECIPE, head_file, tree, write_bids
from trainer.data.splits import split_subjects
from trainer.evaluate.cross_validation import cross_validate
from trainer.evaluate.run import evaluate_run
from trainer.export.artefact import export_run
from trainer.fit.run import Run

ROOT = Path(__file__).parents[2]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "interscan", *map(str, arguments)]


def cohort(folder: Path, site: str, num_subjects: int = 3) -> Path:
    files = {f"{site}{n}": {"01": head_file(1 - n / 50, seed=n)} for n in range(num_subjects)}
    return write_bids(folder, files, {"01": 0})


@pytest.mark.parametrize("others", ["another cohort", "the same cohort"])
def test_of_two_runs_into_a_new_store_one_writes_and_the_other_is_refused(tmp_path: Path, others: str) -> None:
    first = cohort(tmp_path / "first", "a")
    second = first if others == "the same cohort" else cohort(tmp_path / "second", "b")
    settings = ["--set", "grid=[8, 8, 8]", "--set", "spacing_mm=24", "--set", "quality.max_spacing_mm=9"]
    runs = [
        subprocess.Popen(
            command("preprocess", source, tmp_path / "store", *settings, "--json"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )
        for source in (first, second)
    ]  # fmt: skip
    ended = [(*run.communicate(timeout=240), run.returncode) for run in runs]
    codes = sorted(code for _, _, code in ended)
    # They may also have come one after the other; then both are there.
    assert codes in ([0, 3], [0, 0])
    for out, err, code in ended:
        assert "Traceback" not in err
        if code == 3:
            assert out == ""
            assert " writes this store since " in err
            assert err.endswith("; wait until it ends, or use another location for the store\n")
    store = Store.open(tmp_path / "store")
    assert not [fault for fault in verify_rows(store) if fault]
    assert LEASE_NAME not in store.location.names()
    assert len(store.records) == (3 * codes.count(0) if others == "another cohort" else 3)


def test_what_the_second_does_after_the_first_is_what_it_would_have_done(tmp_path: Path) -> None:
    first, second = cohort(tmp_path / "first", "a"), cohort(tmp_path / "second", "b")
    store = Location(tmp_path / "store")
    listing = list_scans(str(second), RECIPE.modalities)
    with held(store, STORE) as leased:
        with pytest.raises(
            StoreError, match=rf"pid {os.getpid()} writes this store since .* another location for the store"
        ):
            update(listing, store, RECIPE, workers=0)
        assert leased.names() == [LEASE_NAME]
    assert not (tmp_path / "store").exists(), "a run that never began leaves no folder"
    preprocess(str(first), str(tmp_path / "store"), RECIPE, workers=0)
    preprocess(str(second), str(tmp_path / "store"), RECIPE, workers=0)
    assert {record.subject_id for record in Store.open(store).records} == {
        *(f"sub-a{n}" for n in range(3)), *(f"sub-b{n}" for n in range(3))
    }  # fmt: skip


@pytest.mark.bucket
def test_a_bucket_is_held_too_and_memory_by_this_process(tmp_path: Path, bucket: str) -> None:
    source = cohort(tmp_path / "first", "a")
    for uri in (f"{bucket}/store", f"memory://{tmp_path.name}/store"):
        with held(Location(uri), STORE), pytest.raises(StoreError, match="writes this store"):
            preprocess(str(source), uri, RECIPE, workers=0)
        preprocess(str(source), uri, RECIPE, workers=0)
        assert LEASE_NAME not in Location(uri).names()


def test_a_run_whose_store_was_taken_over_commits_nothing(tmp_path: Path) -> None:
    source, store = cohort(tmp_path / "first", "a"), Location(tmp_path / "store")

    def take_over(done: int, total: int) -> None:
        del done, total
        record = json.loads(store.read(LEASE_NAME))
        store.write(LEASE_NAME, json.dumps({**record, "token": "x", "host": "elsewhere", "machine": "m"}).encode())
        # Believed for a while after it was confirmed; this one is to ask.
        leases[0]._confirmed = -float("inf")

    leases: list[Any] = []
    listing = list_scans(str(source), RECIPE.modalities)

    class Watched(lease.Lease):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            leases.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease, "Lease", Watched)
        with pytest.raises(StoreError, match="this store was taken over by host elsewhere"):
            update(listing, store, RECIPE, workers=0, progress=take_over)
    assert not store.exists("store.json")
    assert not store.exists("index.parquet")
    assert json.loads(store.read(LEASE_NAME))["token"] == "x", "the other's lease stays"


def test_readers_open_a_store_that_is_being_written(tmp_path: Path) -> None:
    source = cohort(tmp_path / "first", "a")
    preprocess(str(source), str(tmp_path / "store"), RECIPE, workers=0)
    with held(Location(tmp_path / "store"), STORE):
        assert not [fault for fault in verify_rows(Store.open(tmp_path / "store")) if fault]


def write_brain(out: Path) -> None:
    write_brain_cohort(out, num_subjects=1, spacing_mm=8.0, workers=0)


def write_lung(out: Path) -> None:
    write_lung_cohort(out, num_subjects=1, num_visits=1, size_px=32, num_frames=8)


@pytest.mark.parametrize("write", [write_brain, write_lung])
def test_a_cohort_is_written_by_one(tmp_path: Path, write: Callable[[Path], None]) -> None:
    refused = pytest.raises(StorageError, match=r"writes this cohort since .* another folder for the cohort")
    with held(Location(tmp_path / "cohort"), COHORT), refused:
        write(tmp_path / "cohort")
    write(tmp_path / "cohort")
    assert not (tmp_path / "cohort" / LEASE_NAME).exists()


def test_of_two_cohorts_into_one_empty_folder_the_later_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first claims it after the second has looked, and before the second holds it."""
    plain = lease.Lease.acquire

    def acquire(late: lease.Lease) -> None:
        monkeypatch.setattr(lease.Lease, "acquire", plain)
        write_lung(tmp_path / "cohort")
        plain(late)

    monkeypatch.setattr(lease.Lease, "acquire", acquire)
    with pytest.raises(UsageError, match="holds a cohort of cohort lung, not brain; choose another folder"):
        write_brain(tmp_path / "cohort")
    assert not list((tmp_path / "cohort").rglob("*.nii.gz"))


def test_evaluation_cross_validation_and_artefact_are_written_by_one(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", default_scans())
    recipe = tiny_recipe()
    split = split_subjects(sorted({r.subject_id for r in store.records}), validation=0.2, test=0.25, seed=recipe.seed)
    run = Run.start(Location(tmp_path / "run"), recipe, store, split)
    with held(run.location, RUN, does="trains"), pytest.raises(RunError, match="trains this run since"):
        evaluate_run(run)
    with (
        held(Location(tmp_path / "cv"), CROSS_VALIDATION),
        pytest.raises(RunError, match="this cross-validation since"),
    ):
        cross_validate(recipe, store, Location(tmp_path / "cv"), num_folds=2, num_repeats=1, progress=lambda *_: None)
    with held(Location(tmp_path / "art"), ARTEFACT), pytest.raises(ArtefactError, match="writes this artefact since"):
        export_run(run, Location(tmp_path / "art"))
    assert tree(tmp_path / "run").keys() == {"run.json"}
    assert not (tmp_path / "cv").exists()
    assert not (tmp_path / "art").exists()


def test_the_second_training_hears_of_the_first_as_before(tmp_path: Path) -> None:
    write_store(tmp_path / "store", default_scans())
    (tmp_path / "tiny.toml").write_text(recipe_toml(tiny_recipe()))
    with held(Location(tmp_path / "run"), RUN, does="evaluates"):
        done = subprocess.run(
            command("train", tmp_path / "tiny.toml", "--store", tmp_path / "store", "--run", tmp_path / "run"),
            capture_output=True, text=True, check=False, cwd=ROOT,
        )  # fmt: skip
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith(f"interscan: {tmp_path}/run: host ")
    assert " evaluates this run since " in done.stderr
