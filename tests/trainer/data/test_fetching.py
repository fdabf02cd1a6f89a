"""The fetcher: bounded, in order, patient; what it drops is dropped at once and frees its slot."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from preprocess.errors import StorageError, StoreError
from trainer.data.fetching import Fetcher, RetryPolicy
from trainer.data.objects import RefusedError
from trainer.data.reading import GivenUpError, PendingVolume, ReadCounts, Reading

FAST = RetryPolicy(patience_s=5.0, first_pause_s=0.001, longest_pause_s=0.002, attempt_s=0.2)


class Scripted:
    """Objects that answer what is scripted for path and attempt."""

    def __init__(self, answer: Callable[[str, int], Coroutine[Any, Any, bytes]]) -> None:
        self.answer = answer
        self.requested: list[str] = []
        self.num_active = self.most_active = 0
        self.is_closed = False

    async def get(self, path: str) -> bytes:
        self.requested.append(path)
        self.num_active += 1
        self.most_active = max(self.most_active, self.num_active)
        try:
            return await self.answer(path, self.requested.count(path))
        finally:
            self.num_active -= 1

    async def close(self) -> None:
        self.is_closed = True


def explain(row: int, error: Exception) -> Exception:
    if isinstance(error, FileNotFoundError):
        named: Exception = StoreError(f"row {row}")
    elif isinstance(error, OSError):
        named = StorageError(f"row {row}: {error}")
    else:
        named = error
    return named


class Bench:
    """A fetcher, and what arrived."""

    def __init__(self, objects: Scripted, retry: RetryPolicy = FAST, in_flight: int = 4) -> None:
        self.objects = objects
        self.arrived: list[int] = []
        self.fetcher = Fetcher(
            objects, path_of=str, explain=explain, arrived=self._take, in_flight=in_flight, retry=retry
        )

    def _take(self, volume: PendingVolume, data: bytes) -> None:
        self.arrived.append(volume.row)
        volume.complete(None)

    def request(self, rows: list[int]) -> Reading:
        reading = Reading(len(rows), ReadCounts())
        self.fetcher.request([PendingVolume(reading, index, row, np.empty(1)) for index, row in enumerate(rows)])
        return reading


async def until_ready(reading: Reading) -> None:
    async with asyncio.timeout(20):
        while not reading.is_ready:
            await asyncio.sleep(0.001)


def play(
    answer: Callable[[str, int], Coroutine[Any, Any, bytes]],
    rows: list[int],
    retry: RetryPolicy = FAST,
    in_flight: int = 4,
) -> tuple[Reading, Bench]:
    async def go() -> tuple[Reading, Bench]:
        bench = Bench(Scripted(answer), retry, in_flight)
        reading = bench.request(rows)
        await until_ready(reading)
        await bench.fetcher.close()
        return reading, bench

    return asyncio.run(go())


async def at_once(path: str, attempt: int) -> bytes:
    await asyncio.sleep(0)
    return b"12"


@pytest.mark.parametrize("in_flight", [1, 3, 50])
def test_no_more_than_allowed_are_in_flight_and_they_start_in_order(in_flight: int) -> None:
    reading, bench = play(at_once, list(range(20)), in_flight=in_flight)
    assert bench.objects.requested == [str(row) for row in range(20)]
    assert bench.objects.most_active == min(in_flight, 20)
    assert (reading.counts.requests, reading.counts.bytes_fetched, reading.faults) == (20, 40, {})
    assert bench.objects.is_closed


def test_failures_are_repeated_and_each_costs_one_request() -> None:
    async def thrice(path: str, attempt: int) -> bytes:
        if attempt <= 3:
            raise OSError("reset")
        return await at_once(path, attempt)

    reading, _ = play(thrice, list(range(10)))
    assert (reading.faults, reading.counts.requests, reading.counts.failures) == ({}, 40, 30)


def test_a_failed_one_does_not_hold_its_slot_while_it_pauses() -> None:
    async def first_fails(path: str, attempt: int) -> bytes:
        if path == "0" and attempt == 1:
            raise RefusedError(503, 0.2)
        return await at_once(path, attempt)

    _, bench = play(first_fails, list(range(10)), in_flight=1)
    assert bench.arrived == [*range(1, 10), 0]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FileNotFoundError("x"), StoreError),
        (PermissionError("x"), StorageError),
        (ZeroDivisionError("x"), ZeroDivisionError),
    ],
)
def test_what_a_repeat_cannot_mend_is_reported_at_once(error: Exception, expected: type[Exception]) -> None:
    async def fail(path: str, attempt: int) -> bytes:
        raise error

    reading, _ = play(fail, [7])
    assert isinstance(reading.faults[0], expected)
    assert (reading.counts.requests, reading.counts.failures) == (1, 0)


def test_the_patience_ends() -> None:
    async def fail(path: str, attempt: int) -> bytes:
        raise OSError("reset")

    reading, _ = play(fail, [7], RetryPolicy(patience_s=0.05, first_pause_s=0.001, longest_pause_s=0.002))
    assert isinstance(reading.faults[0], StorageError)
    assert reading.counts.requests > 3


def test_a_wish_to_come_back_later_than_the_patience_is_not_waited_for() -> None:
    async def fail(path: str, attempt: int) -> bytes:
        raise RefusedError(503, 3600.0)

    reading, _ = play(fail, [7])
    assert isinstance(reading.faults[0], StorageError)
    assert reading.counts.requests == 1


def test_an_attempt_that_takes_too_long_is_repeated() -> None:
    async def hang_once(path: str, attempt: int) -> bytes:
        await asyncio.sleep(3600 if attempt == 1 else 0)
        return b"12"

    reading, _ = play(hang_once, [1, 2])
    assert (reading.faults, reading.counts.requests) == ({}, 4)


@pytest.mark.parametrize("second", ["answers", "fails"])
def test_a_late_one_is_raced_by_a_second(second: str) -> None:
    async def late(path: str, attempt: int) -> bytes:
        if attempt == 1:
            await asyncio.sleep(3600 if second == "answers" else 0.1)
            return b"1"
        if second == "fails":
            raise OSError("reset")
        return b"2"

    reading, bench = play(late, [1], RetryPolicy(hedge_s=0.02, attempt_s=10.0))
    assert (reading.faults, reading.counts.requests, bench.objects.num_active) == ({}, 2, 0)


def test_of_two_that_end_in_the_same_turn_the_one_with_an_answer_counts() -> None:
    both = {str(row): asyncio.Event() for row in range(1, 21)}

    async def together(path: str, attempt: int) -> bytes:
        if attempt == 1:
            await both[path].wait()
            return b"1"
        both[path].set()
        raise OSError("reset")

    reading, _ = play(together, list(range(1, 21)), RetryPolicy(hedge_s=0.02, attempt_s=10.0))
    assert (reading.faults, reading.counts.requests, reading.counts.failures) == ({}, 40, 0)


def test_one_in_time_is_not_raced() -> None:
    reading, _ = play(at_once, [1, 2, 3], RetryPolicy(hedge_s=10.0))
    assert reading.counts.requests == 3


def test_what_is_given_up_frees_its_slots_even_before_its_first_step() -> None:
    async def go() -> tuple[Reading, Reading, Bench]:
        async def hang(path: str, attempt: int) -> bytes:
            await asyncio.sleep(3600 if int(path) < 100 else 0)
            return b"12"

        bench = Bench(Scripted(hang))
        first = bench.request(list(range(10)))
        first.give_up()
        bench.fetcher.cancel(first)  # no task has run yet
        second = bench.request([100, 101, 102, 103, 104, 105])
        await until_ready(second)
        await bench.fetcher.close()
        return first, second, bench

    first, second, bench = asyncio.run(go())
    assert len(first.faults) == 10
    assert all(isinstance(fault, GivenUpError) for fault in first.faults.values())
    assert (second.faults, bench.objects.num_active) == ({}, 0)
    assert len(bench.arrived) == 6


def test_closing_completes_what_hangs_waits_or_pauses_and_what_is_requested_afterwards() -> None:
    async def go() -> tuple[Reading, Reading]:
        async def trouble(path: str, attempt: int) -> bytes:
            if path == "0":
                raise RefusedError(503, 4.0)
            await asyncio.sleep(3600)
            return b""

        bench = Bench(Scripted(trouble), RetryPolicy(), in_flight=2)
        reading = bench.request(list(range(6)))
        await asyncio.sleep(0.01)
        await bench.fetcher.close()
        return reading, bench.request([1])

    for reading in asyncio.run(go()):
        assert reading.is_ready
        assert all(isinstance(fault, GivenUpError) for fault in reading.faults.values())
        assert reading.faults


def test_pauses_double_up_to_the_longest_and_are_spread() -> None:
    policy = RetryPolicy(first_pause_s=1.0, longest_pause_s=8.0)
    for failures, mean in ((1, 1.0), (2, 2.0), (4, 8.0), (5000, 8.0)):
        pauses = [policy.pause_s(failures) for _ in range(200)]
        assert 0.5 * mean <= min(pauses) < 0.8 * mean < 1.2 * mean < max(pauses) <= 1.5 * mean
