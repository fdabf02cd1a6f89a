"""One reader for a whole run: what stays in memory or on disk is requested from the store once."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from preprocess.errors import UsageError
from preprocess.store import Store
from tests.support.cohorts import MODALITY, default_scans, write_store
from tests.support.loops import EXACT
from tests.support.visits import ARRAYS, write_visits
from trainer.data.cohort import read_visits
from trainer.data.stream import StreamOptions, VolumeStream
from trainer.fit.supply import Supply, SupplyOptions

BATCHES = [np.array([[0, 1], [3, 4]]), np.array([[6, 7], [9, 10]])]
ALL_THERE = np.ones((4, 1), dtype=np.bool_)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return write_store(tmp_path / "store", default_scans(num_subjects=4, odd=False, rescans=False))


def two_epochs(supply: Supply) -> tuple[list[np.ndarray], list[int]]:
    """Every volume handed over in two epochs, and the requests of each."""
    volumes, requests = [], []
    for _ in range(2):
        with supply.stream(BATCHES, [ALL_THERE] * 2) as stream:
            volumes.extend(batch.stored[MODALITY].unflatten(0, (2, 2)).numpy().copy() for batch in stream)
        requests.append(stream.counts.requests)
    return volumes, requests


def expected(store: Store) -> list[np.ndarray]:
    return [np.stack([[store.read(row, MODALITY) for row in pair] for pair in batch.tolist()]) for batch in BATCHES] * 2


@pytest.mark.parametrize(
    ("keeps", "cached", "requests"), [(True, False, [8, 0]), (False, True, [8, 0]), (False, False, [8, 8])]
)
def test_the_second_epoch_asks_only_for_what_was_not_kept(
    store: Store, tmp_path: Path, keeps: bool, cached: bool, requests: list[int]
) -> None:
    options = SupplyOptions(cache_folder=tmp_path / "cache" if cached else None, keep_resident=keeps)
    with Supply(store, (MODALITY,), num_volumes=12, options=options, compute=EXACT) as supply:
        volumes, requested = two_epochs(supply)
    assert requested == requests
    np.testing.assert_array_equal(np.stack(volumes), np.stack(expected(store)))


def test_a_cohort_larger_than_the_budget_is_not_kept_in_part(store: Store) -> None:
    room = 11 * store.layout(MODALITY).num_bytes * 2
    options = SupplyOptions(budget_bytes=room)
    with Supply(store, (MODALITY,), num_volumes=23, options=options, compute=EXACT) as supply:
        assert two_epochs(supply)[1] == [8, 8]
    with Supply(store, (MODALITY,), num_volumes=22, options=options, compute=EXACT) as supply:
        assert two_epochs(supply)[1] == [8, 0]


def test_a_budget_below_two_batches_names_the_option_that_raises_it(store: Store) -> None:
    options = SupplyOptions(budget_bytes=1000)
    with (
        Supply(store, (MODALITY,), num_volumes=12, options=options, compute=EXACT) as supply,
        pytest.raises(UsageError, match="--budget-gb"),
    ):
        supply.stream(BATCHES, [ALL_THERE] * 2)


@pytest.mark.parametrize("keeps", [True, False])
def test_visits_are_kept_as_scans_are_each_modality_by_its_own_reader(tmp_path: Path, keeps: bool) -> None:
    store = write_visits(tmp_path / "visits")
    cohort = read_visits(store, tuple(ARRAYS), "impaired")
    assert cohort.present_NM is not None
    options = SupplyOptions(keep_resident=keeps)
    requested = []
    with Supply(store, tuple(ARRAYS), num_volumes=len(cohort), options=options, compute=EXACT) as supply:
        assert list(supply.readers) == list(ARRAYS)
        for _ in range(2):
            with supply.stream([cohort.rows_N], [cohort.present_NM]) as stream:
                (batch,) = list(stream)
            requested.append(stream.counts.requests)
            assert [len(one) for one in batch.stored.values()] == cohort.present_NM.sum(axis=0).tolist()
    whole = int(cohort.present_NM.sum())
    assert requested == [whole, 0 if keeps else whole]


def test_what_stays_on_the_device_is_not_kept_in_memory_besides(store: Store) -> None:
    singles = [np.array([[row]]) for row in range(12)]
    options = SupplyOptions(device_bytes=10**6)
    hits = []
    with Supply(store, (MODALITY,), num_volumes=12, in_flight=1, options=options, compute=EXACT) as supply:
        for _ in range(2):
            with supply.stream(singles, [ALL_THERE[:1]] * 12) as stream:
                read = np.stack([batch.stored[MODALITY].numpy().copy() for batch in stream])
            hits.append(stream.counts.device_hits)
            np.testing.assert_array_equal(read[:, 0], np.stack([store.read(row, MODALITY) for row in range(12)]))
        # Past the device, from the machine's memory: only what was read ahead in the first two steps.
        with VolumeStream(
            store, MODALITY, singles, StreamOptions(in_flight=1), reader=supply.readers[MODALITY]
        ) as stream:
            assert len(list(stream)) == 12
    assert hits == [0, 12]
    assert 0 < stream.counts.reads.resident_hits <= 6


@pytest.mark.parametrize("resident", ["auto", "host", "none"])
def test_the_recipe_says_whether_volumes_stay_in_memory(
    store: Store, resident: Literal["auto", "host", "none"]
) -> None:
    options = SupplyOptions()
    with Supply(store, (MODALITY,), num_volumes=12, resident=resident, options=options, compute=EXACT) as supply:
        assert two_epochs(supply)[1] == ([8, 8] if resident == "none" else [8, 0])
        assert supply.readers[MODALITY].on_device is None  # a CPU's memory is the machine's


def test_visits_whose_epochs_are_one_batch_are_kept_after_two_of_them(tmp_path: Path) -> None:
    store = write_visits(tmp_path / "visits")
    cohort = read_visits(store, tuple(ARRAYS), "impaired")
    assert cohort.present_NM is not None
    options = SupplyOptions(device_bytes=10**6)
    seen = []
    with Supply(store, tuple(ARRAYS), num_volumes=len(cohort), options=options, compute=EXACT) as supply:
        for _ in range(3):
            with supply.stream([cohort.rows_N], [cohort.present_NM]) as stream:
                for batch in stream:
                    expected = [store.read(int(row), "SC") for row in cohort.rows_N[cohort.present_NM[:, 0]]]
                    np.testing.assert_array_equal(batch.stored["SC"].numpy(), np.stack(expected))
            seen.append((stream.counts.requests, stream.counts.device_hits))
    whole = int(cohort.present_NM.sum())
    # The second epoch comes from the machine's memory, as it was not decided before.
    assert seen == [(whole, 0), (0, 0), (0, whole)]
