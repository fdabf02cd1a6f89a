"""The probe reads a few rows, no more than stated, spread over what training reads, and times each."""

from pathlib import Path

import numpy as np
import pytest

from preprocess.errors import StoreError
from preprocess.storage import Location
from tests.support.cohorts import MODALITY, write_store
from tests.trainer.plan.conftest import SlowStore
from trainer.plan.probe import PROBE_ROWS, probe_rows


@pytest.mark.parametrize(("num_rows", "expected"), [(30, 8), (8, 8), (3, 3), (1, 1)])
def test_no_more_rows_are_read_than_stated(slow_store: SlowStore, num_rows: int, expected: int) -> None:
    store, fs = slow_store(0.0)
    rows = np.arange(num_rows)
    probe = probe_rows(store, MODALITY, rows)
    assert len(fs.requested) == len(set(fs.requested)) == expected <= PROBE_ROWS
    assert len(probe.latency_s) == len(probe.num_bytes) == len(probe.decode_s) == len(probe.fetch_cpu_s) == expected
    read = sorted(int(path.split("/c/")[1].split("/")[0]) for path in fs.requested)
    assert read[0] == 0
    assert read[-1] == num_rows - 1 or num_rows == 1


def test_sizes_are_those_of_the_objects_and_latency_holds_the_delay(slow_store: SlowStore) -> None:
    store, fs = slow_store(0.02)
    probe = probe_rows(store, MODALITY, np.arange(10), most=4)
    near = Location(store.location.uri)
    assert list(probe.num_bytes) == [len(near.fs.cat_file(path)) for path in fs.requested]
    assert probe.bytes_per_volume == pytest.approx(sum(probe.num_bytes) / 4)
    assert min(probe.latency_s) >= 0.02
    assert min(probe.decode_s) > 0
    assert min(probe.fetch_cpu_s) >= 0
    assert probe.is_async


def test_a_local_store_is_known_as_such(tmp_path: Path) -> None:
    probe = probe_rows(write_store(tmp_path), MODALITY, np.arange(3))
    assert probe.protocol == "file"
    assert not probe.is_async


def test_a_damaged_row_is_named(tmp_path: Path) -> None:
    store = write_store(tmp_path)
    store.location.write(store.layout(MODALITY).key(5), b"no volume")
    with pytest.raises(StoreError, match="row 5 of T1w"):
        probe_rows(store, MODALITY, np.array([5]))
