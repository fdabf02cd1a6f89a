"""Bodies: places and bytes before a byte is read, no patience with stalls and crawls, an end at once."""

import asyncio
from collections.abc import Iterable

import pytest
from starlette.requests import Request

from app.errors import ProblemError
from app.intake import Intake


def intake(**changed: float) -> Intake:
    limits = {"max_bodies": 2, "max_bytes": 100, "idle_s": 5.0, "min_bytes_per_s": 1000.0, **changed}
    return Intake(**limits)  # type: ignore[arg-type]


def request(pieces: Iterable[tuple[float, bytes]], *, is_whole: bool = True) -> Request:
    """A request whose body comes in pieces, each after so many seconds; one that is not whole then stands still."""
    left = list(pieces)

    async def receive() -> dict[str, object]:
        if not left:
            await asyncio.sleep(3600 if not is_whole else 0)
            return {"type": "http.request", "body": b"", "more_body": False}
        seconds, data = left.pop(0)
        await asyncio.sleep(seconds)
        return {"type": "http.request", "body": data, "more_body": True}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


async def read(limits: Intake, asked: Request) -> bytes:
    return b"".join([chunk async for chunk in limits.chunks(asked)])


def test_a_body_comes_through_as_it_is():
    assert asyncio.run(read(intake(), request([(0, b"ab"), (0.01, b"c")]))) == b"abc"


def test_small_chunks_are_handed_on_as_large_pieces_and_counted_as_they_come():
    moved: list[int] = []

    async def go() -> list[int]:
        asked = request([(0, b"x" * 2**18)] * 10)
        return [len(piece) async for piece in intake().chunks(asked, moved.append)]

    assert asyncio.run(go()) == [2**20, 2**20, 2**19]
    assert sum(moved) == 10 * 2**18
    assert len(moved) >= 10


def test_there_are_so_many_places_and_so_many_bytes():
    limits = intake()
    with limits.place(60):
        with pytest.raises(ProblemError, match="this one needs") as caught, limits.place(41):
            pass
        assert caught.value.status == 503
        assert int(caught.value.headers["Retry-After"]) > 0
        with limits.place(40), pytest.raises(ProblemError, match="all 2 places for uploads are taken"), limits.place(0):
            pass
    assert limits.num_bodies == 0
    with limits.place(1000):  # larger than all, and alone
        pass


@pytest.mark.parametrize(
    "pieces",
    [[(0, b"x" * 10_000)], [(0.03, b"x")] * 40],
    ids=["stalls", "crawls"],
)
def test_a_body_that_stalls_or_crawls_is_408(pieces):
    with pytest.raises(ProblemError) as caught:
        asyncio.run(read(intake(idle_s=0.1), request(pieces, is_whole=False)))
    assert (caught.value.status, caught.value.code) == (408, "body_too_slow")


def test_a_slow_body_that_is_fast_enough_is_read_to_its_end():
    pieces = [(0.02, b"x" * 100)] * 20
    assert len(asyncio.run(read(intake(idle_s=5.0), request(pieces)))) == 2000


def test_a_stop_ends_all_reading_at_once_and_begins_none():
    async def go() -> None:
        limits = intake(idle_s=3600.0)
        reading = asyncio.create_task(read(limits, request([(0, b"x")], is_whole=False)))
        await asyncio.sleep(0.01)
        limits.stop()
        with pytest.raises(ProblemError) as caught:
            async with asyncio.timeout(5):
                await reading
        assert (caught.value.status, caught.value.code) == (503, "stopping")
        with pytest.raises(ProblemError, match="stopping"), limits.place(1):
            pass

    asyncio.run(go())
