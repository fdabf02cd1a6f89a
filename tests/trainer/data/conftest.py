"""A store on the slow bucket for the tests of this folder."""

import uuid

import pytest

from preprocess.storage import Location
from preprocess.store import Store
from tests.support.cohorts import TinyScan, write_store
from tests.support.slow_bucket.client import SlowBucket


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
