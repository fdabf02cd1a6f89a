"""A run in a slow bucket that gets SIGTERM asks for so little that it ends in time; counts decide, not the clock."""

from pathlib import Path

from benchmarks.preemption import LIMIT_S, QUICK, measure
from tests.support.slow_bucket.client import SlowBucket

MOST_REQUESTS = 40
"""Of a stop: a state, its pointer, and the lease take 14 at most; uploads and deletions under way are in it."""


def test_a_stop_asks_for_a_few_requests_and_the_bytes_of_two_states(slow: SlowBucket, tmp_path: Path) -> None:
    rounds = measure(slow, tmp_path, QUICK, num_rounds=2)
    assert rounds[0]["step"] < rounds[1]["step"]  # the second went on where the first had stopped
    for one in rounds:
        assert one["checkpoint_mb"] > 10  # of the default encoder, as large as ever
        assert one["said"].startswith(f"interscan: stopped after step {one['step']} of ")
        assert 0 < one["requests"] <= MOST_REQUESTS
        # The last state, and at most one that was under way and one that had begun when it was overtaken.
        assert one["mb_received"] < 3.1 * one["checkpoint_mb"]
        # One after the other at 30 ms, all bytes at 50 MB/s: what the bucket takes of the time there is.
        needed_s = one["requests"] * QUICK.latency_s + 1e6 * one["mb_received"] / QUICK.bandwidth_bytes_per_s
        assert needed_s < LIMIT_S / 2
