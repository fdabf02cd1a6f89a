"""A slow bucket for all tests of this folder; each gets it fast, whole and counting from zero."""

import uuid
from collections.abc import Iterator

import fsspec
import pytest

from preprocess.storage import Location
from preprocess.store import Store
from tests.support.cohorts import TinyScan, write_store
from tests.support.slow_bucket.client import SlowBucket, slow_bucket


@pytest.fixture(scope="session")
def _slow_process() -> Iterator[SlowBucket]:
    with slow_bucket() as running:
        yield running
        fsspec.get_filesystem_class("gs").clear_instance_cache()


@pytest.fixture
def slow(_slow_process: SlowBucket) -> Iterator[SlowBucket]:
    _slow_process.reset()
    yield _slow_process
    _slow_process.go_away(0.0)
    _slow_process.set_faults([])
    _slow_process.set_speed(latency_s=0.0, jitter_s=0.0, bandwidth_bytes_per_s=None)


@pytest.fixture
def distant(slow: SlowBucket) -> Store:
    """A store of 24 volumes on the slow bucket, whose counters are at zero."""
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    slow.create(name)
    scans = [TinyScan(f"sub-{number}", "ses-01", 0.0, float(number)) for number in range(24)]
    store = write_store(Location(slow.url(name), slow.options), scans)
    store.layout("T1w")
    slow.reset()
    return store
