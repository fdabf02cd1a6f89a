"""A cohort done in shards is the cohort done at once, byte for byte, whatever the order and whoever was killed."""

import itertools
import os
import shutil
from pathlib import Path

import pytest

from preprocess.engine import update
from preprocess.errors import StoreError, UsageError
from preprocess.lease import SHARD, STORE, held
from preprocess.shards import Shard, commit_shards, read_shard, run_shard
from preprocess.sources import list_scans
from preprocess.sources.listing import Listing
from preprocess.storage import Location
from tests.support.images import RECIPE, head_file, tree, write_bids


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty visits, of which one is damaged: three tasks."""
    subjects = {
        f"{n:02d}": {"01": head_file(1 - n / 99, seed=n), "02": head_file(0.9 - n / 99, seed=n)} for n in range(10)
    }
    subjects["04"]["02"] = subjects["04"]["02"][:-60]
    return write_bids(tmp_path_factory.mktemp("raw") / "bids", subjects, {"01": 0, "02": 365})


@pytest.fixture
def listing(raw: Path) -> Listing:
    return list_scans(str(raw), ("T1w",))


@pytest.fixture(scope="module")
def at_once(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    store = tmp_path_factory.mktemp("whole") / "s"
    update(list_scans(str(raw), ("T1w",)), Location(store), RECIPE, workers=0)
    return tree(store)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_shards_in_any_order_give_the_bytes_of_one_run(
    listing: Listing, at_once: dict[str, bytes], tmp_path: Path, order: tuple[int, ...]
) -> None:
    store = Location(tmp_path / "s")
    for index in order:
        run_shard(listing, store, RECIPE, Shard(index, 3), workers=0)

    _, manifest = commit_shards(listing, store, RECIPE)

    assert (manifest.num_found, manifest.num_kept) == (20, 19)
    assert tree(tmp_path / "s") == at_once


def test_more_shards_than_tasks_are_as_good(listing: Listing, at_once: dict[str, bytes], tmp_path: Path) -> None:
    store = Location(tmp_path / "s")
    for index in range(7):
        run_shard(listing, store, RECIPE, Shard(index, 7), workers=0)

    commit_shards(listing, store, RECIPE)

    assert tree(tmp_path / "s") == at_once


def test_a_shard_that_was_killed_is_named_by_the_commit_and_goes_on(
    listing: Listing, at_once: dict[str, bytes], tmp_path: Path
) -> None:
    store = Location(tmp_path / "s")

    def killed(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_shard(listing, store, RECIPE, Shard(0, 2), workers=0, progress=killed)
    run_shard(listing, store, RECIPE, Shard(1, 2), workers=0)
    with pytest.raises(
        StoreError, match=r"1 of 3 tasks are not written \(task 2; shard I of N does .* run their shards"
    ):
        commit_shards(listing, store, RECIPE)
    assert not (tmp_path / "s" / "store.json").exists()

    seen: list[tuple[int, int]] = []
    run_shard(listing, store, RECIPE, Shard(0, 2), workers=0, progress=lambda *reported: seen.append(reported))
    commit_shards(listing, store, RECIPE)

    assert seen == [(12, 12)]  # eight scans were there: one task of four was left
    assert tree(tmp_path / "s") == at_once


def test_a_commit_repeated_changes_nothing(listing: Listing, at_once: dict[str, bytes], tmp_path: Path) -> None:
    store = Location(tmp_path / "s")
    run_shard(listing, store, RECIPE, Shard(0, 1), workers=0)
    commit_shards(listing, store, RECIPE)
    commit_shards(listing, store, RECIPE)
    run_shard(listing, store, RECIPE, Shard(0, 1), workers=0)
    commit_shards(listing, store, RECIPE)

    assert tree(tmp_path / "s") == at_once


def test_the_same_shard_twice_at_once_is_refused_and_another_is_not(listing: Listing, tmp_path: Path) -> None:
    store = Location(tmp_path / "s")
    with held(store.child(".work/shards/0-of-2"), SHARD):
        with pytest.raises(StoreError, match="writes this shard of a store since"):
            run_shard(listing, store, RECIPE, Shard(0, 2), workers=0)
        with pytest.raises(StoreError, match="writes this shard of a store since"):
            commit_shards(listing, store, RECIPE)
        with pytest.raises(StoreError, match="writes this shard of a store since"):
            update(listing, store, RECIPE, workers=0)
        run_shard(listing, store, RECIPE, Shard(1, 2), workers=0)


def test_no_shard_begins_while_a_whole_run_writes(listing: Listing, tmp_path: Path) -> None:
    store = Location(tmp_path / "s")
    with held(store, STORE), pytest.raises(StoreError, match="writes this store since"):
        run_shard(listing, store, RECIPE, Shard(0, 2), workers=0)


def test_a_source_that_has_changed_since_is_not_committed(raw: Path, tmp_path: Path) -> None:
    shutil.copytree(raw, tmp_path / "raw")
    store = Location(tmp_path / "s")
    run_shard(list_scans(str(tmp_path / "raw"), ("T1w",)), store, RECIPE, Shard(0, 1), workers=0)
    write_bids(tmp_path / "raw", {"77": {"01": head_file(0.7, seed=77)}})

    with pytest.raises(StoreError, match=r"3 of 3 tasks are not written"):
        commit_shards(list_scans(str(tmp_path / "raw"), ("T1w",)), store, RECIPE)


def test_shards_over_a_bucket_give_the_same_bytes(listing: Listing, at_once: dict[str, bytes], bucket: str) -> None:
    store = Location(f"{bucket}/s")
    for index in (1, 0):
        run_shard(listing, store, RECIPE, Shard(index, 2), workers=0)

    commit_shards(listing, store, RECIPE)

    assert {name: store.read(name) for name in store.names()} == at_once


@pytest.mark.parametrize(
    ("text", "environ", "shard"),
    [
        ("0/32", {}, Shard(0, 32)),
        ("31/32", {}, Shard(31, 32)),
        ("auto", {"BATCH_TASK_INDEX": "4", "BATCH_TASK_COUNT": "9"}, Shard(4, 9)),
        ("auto", {"CLOUD_RUN_TASK_INDEX": "0", "CLOUD_RUN_TASK_COUNT": "1"}, Shard(0, 1)),
        ("auto", {"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "3"}, Shard(2, 3)),
        ("auto", {"JOB_COMPLETION_INDEX": "2", "INTERSCAN_SHARDS": "3"}, Shard(2, 3)),
    ],
)
def test_a_shard_is_read_from_the_command_line_or_the_platform(
    text: str, environ: dict[str, str], shard: Shard
) -> None:
    assert read_shard(text, environ) == shard


@pytest.mark.parametrize("text", ["", "3", "1/", "/2", "a/b", "2/2", "-1/2", "0/0", "1.0/2", "auto"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        read_shard(text, {"JOB_COMPLETION_INDEX": "1"})


def test_the_environment_of_this_machine_is_no_shard() -> None:
    assert not {"BATCH_TASK_INDEX", "CLOUD_RUN_TASK_INDEX"} & set(os.environ)
