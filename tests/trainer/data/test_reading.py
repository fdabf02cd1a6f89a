"""Each volume of a reading is told exactly once, whoever tells it, and nobody waits for ever."""

import threading

import pytest

from trainer.data.reading import GivenUpError, ReadCounts, Reading


def test_it_is_ready_when_all_are_told() -> None:
    reading = Reading(3, ReadCounts())
    for place in (2, 0, 1):
        assert not reading.is_ready
        reading.tell(place, None)
    assert reading.wait(0.0)
    assert (reading.faults, reading.num_untold, reading.counts.volumes) == ({}, 0, 3)


def test_nothing_asked_for_is_ready() -> None:
    assert Reading(0, ReadCounts()).wait(0.0)


@pytest.mark.parametrize("fails_at_once", [False, True])
def test_an_error_ends_the_wait_only_where_that_was_asked_for(fails_at_once: bool) -> None:
    reading = Reading(2, ReadCounts(), fails_at_once=fails_at_once)
    error = OSError("gone")
    reading.tell(1, error)
    assert reading.is_ready == fails_at_once
    reading.tell(0, None)
    assert (reading.is_ready, reading.faults) == (True, {1: error})


def test_what_was_told_first_stays() -> None:
    reading = Reading(2, ReadCounts())
    reading.tell(0, None)
    reading.tell(0, OSError("late"))
    reading.give_up()
    reading.tell(1, None)
    assert list(reading.faults) == [1]
    assert isinstance(reading.faults[1], GivenUpError)
    assert reading.counts.volumes == 1
    assert reading.is_over


def test_of_many_threads_that_tell_one_counts() -> None:
    reading = Reading(500, ReadCounts())
    start = threading.Barrier(5)

    def tell_all() -> None:
        start.wait()
        for place in range(500):
            reading.tell(place, None)

    threads = [threading.Thread(target=tell_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    start.wait()
    assert reading.wait(10.0)
    for thread in threads:
        thread.join()
    assert (reading.counts.volumes, reading.num_untold) == (500, 0)


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
