"""A store on the slow bucket, and the readers' threads, for the tests of this folder."""

import threading
import uuid
from collections.abc import Callable

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


@pytest.fixture
def own_threads() -> Callable[[], list[str]]:
    """Tells the names of the readers' threads that this test began and that still live.

    Another test's reader may still wait for the collector: its threads are not this test's.
    """
    before = set(threading.enumerate())

    def living() -> list[str]:
        begun = [thread for thread in threading.enumerate() if thread not in before]
        return [thread.name for thread in begun if thread.name.startswith("interscan-read")]

    return living
