"""Each volume of a reading completes exactly once, whoever completes it, and nobody waits for ever."""

import threading

import pytest

from trainer.data.reading import GivenUpError, ReadCounts, Reading


def test_it_is_ready_when_all_have_completed() -> None:
    reading = Reading(3, ReadCounts())
    for index in (2, 0, 1):
        assert not reading.is_ready
        reading.complete(index, None)
    assert reading.wait(0.0)
    assert (reading.faults, reading.num_pending, reading.counts.volumes) == ({}, 0, 3)


def test_a_reading_of_no_volumes_is_ready() -> None:
    assert Reading(0, ReadCounts()).wait(0.0)


@pytest.mark.parametrize("fails_at_once", [False, True])
def test_an_error_ends_the_wait_only_where_that_was_requested(fails_at_once: bool) -> None:
    reading = Reading(2, ReadCounts(), fails_at_once=fails_at_once)
    error = OSError("gone")
    reading.complete(1, error)
    assert reading.is_ready == fails_at_once
    reading.complete(0, None)
    assert (reading.is_ready, reading.faults) == (True, {1: error})


def test_the_first_completion_of_a_volume_stays() -> None:
    reading = Reading(2, ReadCounts())
    reading.complete(0, None)
    reading.complete(0, OSError("late"))
    reading.give_up()
    reading.complete(1, None)
    assert list(reading.faults) == [1]
    assert isinstance(reading.faults[1], GivenUpError)
    assert reading.counts.volumes == 1
    assert reading.is_over


def test_of_many_threads_that_complete_a_volume_one_counts() -> None:
    reading = Reading(500, ReadCounts())
    start = threading.Barrier(5)

    def complete_all() -> None:
        start.wait()
        for index in range(500):
            reading.complete(index, None)

    threads = [threading.Thread(target=complete_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    start.wait()
    assert reading.wait(10.0)
    for thread in threads:
        thread.join()
    assert (reading.counts.volumes, reading.num_pending) == (500, 0)


def test_counts_lose_nothing_between_threads_and_keep_the_peak() -> None:
    counts = ReadCounts()

    def add() -> None:
        for _ in range(5000):
            counts.add(requests=1, held_bytes=3)
            counts.add(held_bytes=-3, bytes_fetched=2)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (counts.requests, counts.bytes_fetched, counts.held_bytes) == (20_000, 40_000, 0)
    assert 3 <= counts.peak_bytes <= 12
