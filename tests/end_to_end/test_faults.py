"""Faults of a bucket do not change what an epoch delivers, and cost no more requests than they broke."""

import os
import subprocess
import sys
import threading
import uuid

import numpy as np
import pytest

from preprocess.errors import StoreError
from preprocess.storage import Location
from preprocess.store import Store
from tests.support.cohorts import MODALITY, TinyScan, volume_of, write_store
from tests.support.slow_bucket.client import SlowBucket
from tests.support.slow_bucket.faults import Fault
from trainer.data.reader import RetryPolicy, VolumeReader
from trainer.data.stream import VolumeStream

SCANS = [TinyScan(f"sub-{number}", "ses-01", 0.0, float(number)) for number in range(40)]
TRUE = np.stack([volume_of(scan, "uint8") for scan in SCANS])
QUICK = RetryPolicy(first_pause_s=0.005, longest_pause_s=0.5, attempt_s=1.0)


@pytest.fixture
def store(slow: SlowBucket) -> Store:
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    slow.create(name)
    written = write_store(Location(slow.url(name), slow.options), SCANS)
    written.layout(MODALITY)
    slow.reset()
    return written


def epoch(store: Store, reader: VolumeReader, number: int) -> VolumeStream:
    """Read 5 batches of 8 in an order of this epoch and hold them against what was written."""
    batches = np.split(np.random.default_rng(number).permutation(40), 5)
    with VolumeStream(store, MODALITY, batches, reader=reader) as stream:
        for rows, voxels in zip(batches, stream, strict=True):
            np.testing.assert_array_equal(voxels.numpy(), TRUE[rows])
    return stream


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", status=503, probability=0.3),
        Fault("status", status=429, probability=0.3),
        Fault("reset", probability=0.3),
        Fault("truncate", probability=0.3),
        Fault("flip", count_per_object=1),
        Fault("stall", seconds=30.0, probability=0.05),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
def test_failing_requests_lose_nothing_and_cost_one_more_each(store: Store, slow: SlowBucket, fault: Fault) -> None:
    slow.set_faults([fault], seed=3)
    reader = VolumeReader(store, MODALITY, in_flight=16, retry=QUICK)
    counts = [epoch(store, reader, number).counts.reads for number in range(3)]
    slow.set_faults([])
    stats = slow.stats()
    num_faults = sum(stats.by_fault.values())
    assert num_faults > 2
    # A reset in the middle of a kept connection may break a request that the bucket never saw.
    assert 120 + num_faults <= stats.num_requests <= 120 + 1.1 * num_faults
    assert sum(each.failures for each in counts) >= num_faults
    slow.reset()
    epoch(store, reader, 9)
    assert slow.stats().num_requests == 40, "afterwards nothing is asked for twice"
    reader.close()


def test_an_outage_is_waited_for(store: Store, slow: SlowBucket) -> None:
    _survive(store, slow, seconds=5.0)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_long_outage_is_waited_for(store: Store, slow: SlowBucket) -> None:
    _survive(store, slow, seconds=30.0)


def _survive(store: Store, slow: SlowBucket, seconds: float) -> None:
    reader = VolumeReader(store, MODALITY, in_flight=4)
    slow.set_speed(latency_s=0.02)
    leaving = threading.Timer(0.1, slow.go_away, [seconds])
    leaving.start()
    failures = sum(epoch(store, reader, number).counts.reads.failures for number in range(3))
    leaving.join()
    assert failures > 0
    assert slow.stats().num_requests <= 120 + 16
    reader.close()


def test_late_answers_are_overtaken_by_second_requests(store: Store, slow: SlowBucket) -> None:
    slow.set_faults([Fault("delay", seconds=3600.0, probability=0.1, count_per_object=1)], seed=1)
    retry = RetryPolicy(hedge_s=0.1, attempt_s=20.0)
    reader = VolumeReader(store, MODALITY, in_flight=16, retry=retry)
    stream = epoch(store, reader, 0)
    num_late = slow.stats().by_fault["delay"]
    assert num_late > 0
    assert stream.counts.reads.failures == 0, "no attempt had to be given up"
    # A busy machine may be late by itself.
    assert 40 + num_late <= stream.counts.reads.requests <= 80
    reader.close()


def test_objects_that_are_replaced_while_they_are_read_are_never_mixed(store: Store, slow: SlowBucket) -> None:
    """Other whole volumes at the same keys pass their own checksums: the store's fingerprint must refuse those.

    Anything that is not a whole volume is found.
    """
    layout = store.layout(MODALITY)
    other = write_store(Location("memory://" + uuid.uuid4().hex), SCANS[:1], dtype="float32")
    reader = VolumeReader(store, MODALITY, in_flight=2)
    epoch(store, reader, 0)
    store.location.write(layout.key(7), other.location.read(other.layout(MODALITY).key(0)))
    with pytest.raises(StoreError, match=r"row 7 of T1w: .*a stream of 16384 bytes instead of 4096"):
        epoch(store, reader, 1)
    reader.close()


LEAVER = """
import sys
import fsspec, numpy as np
from preprocess.storage import Location
from preprocess.store import Store
from trainer.data.stream import StreamOptions, VolumeStream
store = Store.open(Location(sys.argv[1], {"token": "anon", "project": "test", "endpoint_url": sys.argv[2]}))
stream = VolumeStream(store, "T1w", [np.array([n, n + 1]) for n in range(20)], StreamOptions(in_flight=6))
batches = iter(stream)
print(len(next(batches)))
if sys.argv[3] == "raises":
    raise KeyError("gone")
if sys.argv[3] == "deletes":
    del batches, stream
"""


@pytest.mark.parametrize("how", ["leaves", "deletes", "raises"])
def test_a_program_that_ends_without_closing_ends_at_once_and_in_silence(
    store: Store, slow: SlowBucket, how: str
) -> None:
    slow.set_faults([Fault("delay", seconds=60.0, objects="*/c/9/*")])
    ended = subprocess.run(
        [sys.executable, "-W", "default", "-c", LEAVER, store.location.uri, slow.endpoint, how],
        capture_output=True,
        text=True,
        timeout=25,
        env={**os.environ, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"},
    )
    assert ended.stdout == "2\n", ended.stderr
    if how == "raises":
        assert ended.stderr.endswith("KeyError: 'gone'\n")
        assert ended.stderr.count("Traceback") == 1
    else:
        assert (ended.returncode, ended.stderr) == (0, "")
