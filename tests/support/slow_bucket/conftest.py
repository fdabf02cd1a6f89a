"""A fresh bucket on the slow server for each test of this folder."""

import uuid

import pytest

from preprocess.storage import Location
from tests.support.slow_bucket.client import SlowBucket


@pytest.fixture
def bucket(slow: SlowBucket) -> str:
    """Name of a fresh bucket."""
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    slow.create(name)
    return name


@pytest.fixture
def location(slow: SlowBucket, bucket: str) -> Location:
    return Location(slow.url(bucket), slow.options)
