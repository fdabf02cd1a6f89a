"""One bucket's process for all tests of this folder; each test gets it fast, whole and counting from zero."""

import uuid
from collections.abc import Iterator

import fsspec
import pytest

from preprocess.storage import Location
from tests.support.slow_bucket.client import SlowBucket, slow_bucket


@pytest.fixture(scope="session")
def _process() -> Iterator[SlowBucket]:
    with slow_bucket() as running:
        yield running
        fsspec.get_filesystem_class("gs").clear_instance_cache()


@pytest.fixture
def slow(_process: SlowBucket) -> Iterator[SlowBucket]:
    """The running bucket, as fast as it can, without faults, counting from zero."""
    _process.reset()
    yield _process
    _process.go_away(0.0)
    _process.set_faults([])
    _process.set_speed(latency_s=0.0, jitter_s=0.0, bandwidth_bytes_per_s=None)


@pytest.fixture
def bucket(slow: SlowBucket) -> str:
    """Name of a fresh bucket."""
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    slow.create(name)
    return name


@pytest.fixture
def location(slow: SlowBucket, bucket: str) -> Location:
    return Location(slow.url(bucket), slow.options)
