"""How many are let in at once, who is refused at once, and how the queue ends."""

import asyncio

import pytest

from app.errors import ProblemError
from app.gate import Gate


async def pass_through(gate: Gate, seconds: float = 0.0) -> None:
    async with gate.turn():
        await asyncio.sleep(seconds)


async def held(gate: Gate) -> tuple["asyncio.Task[None]", asyncio.Event]:
    """A task that holds a turn until the event is set."""
    inside, release = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with gate.turn():
            inside.set()
            await release.wait()

    task = asyncio.create_task(hold())
    await inside.wait()
    return task, release


def test_never_more_than_the_allowed_number_run_at_once_and_all_get_their_turn():
    gate = Gate(max_running=3, max_waiting=17, max_wait_s=30)
    running, highest = 0, 0

    async def work() -> None:
        nonlocal running, highest
        async with gate.turn():
            running += 1
            highest = max(highest, running)
            await asyncio.sleep(0.001)
            running -= 1

    async def go() -> None:
        await asyncio.gather(*(work() for _ in range(20)))

    asyncio.run(go())
    assert highest == 3
    assert gate.num_inside == 0


def test_the_one_beyond_the_queue_is_refused_at_once():
    async def go() -> None:
        gate = Gate(max_running=1, max_waiting=0, max_wait_s=5)
        task, release = await held(gate)
        with pytest.raises(ProblemError, match="all 1 places are taken") as caught, gate.coming():
            pass
        assert caught.value.status == 503
        assert caught.value.headers["Retry-After"].isdecimal()
        with pytest.raises(ProblemError, match="all 1 places are taken"):
            await pass_through(gate)
        release.set()
        await task
        await pass_through(gate)

    asyncio.run(go())


def test_a_wait_that_is_too_long_is_refused_and_frees_its_place():
    async def go() -> None:
        gate = Gate(max_running=1, max_waiting=1, max_wait_s=0.01)
        task, release = await held(gate)
        with pytest.raises(ProblemError, match=r"no turn within 0\.01 s"):
            await pass_through(gate)
        assert gate.num_inside == 1
        release.set()
        await task
        assert gate.num_inside == 0

    asyncio.run(go())


def test_who_would_wait_longer_than_anybody_does_is_refused_at_once_with_the_time_to_come_back():
    async def go() -> None:
        gate = Gate(max_running=1, max_waiting=10, max_wait_s=1.5)
        gate._mean_s = 0.6
        tasks = [await held(gate)]
        waiting = asyncio.create_task(pass_through(gate))
        await asyncio.sleep(0)
        assert gate.expected_wait_s == pytest.approx(1.2)
        late = r"an answer is expected in 2 s, more than 1\.5 s"
        with pytest.raises(ProblemError, match=late) as caught, gate.coming():
            pass
        assert caught.value.headers["Retry-After"] == "2"
        tasks[0][1].set()
        await waiting

    asyncio.run(go())


def test_the_expected_time_follows_what_requests_take():
    async def go() -> None:
        gate = Gate(max_running=2, max_waiting=10, max_wait_s=100.0)
        await pass_through(gate, 0.02)
        assert gate._mean_s >= 0.02
        assert gate.expected_wait_s == 0.0

    asyncio.run(go())


def test_a_failure_or_a_cancelled_wait_frees_the_place():
    async def go() -> None:
        gate = Gate(max_running=1, max_waiting=1, max_wait_s=30)
        for _ in range(3):
            with pytest.raises(KeyError):
                async with gate.turn():
                    raise KeyError
        task, release = await held(gate)
        for _ in range(3):
            waiting = asyncio.create_task(pass_through(gate))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        release.set()
        await task
        assert gate.num_inside == 0

    asyncio.run(go())


def test_a_turn_that_comes_to_someone_who_gives_up_is_handed_on():
    async def go() -> None:
        gate = Gate(max_running=1, max_waiting=2, max_wait_s=30)
        task, release = await held(gate)
        first = asyncio.create_task(pass_through(gate))
        second = asyncio.create_task(pass_through(gate))
        await asyncio.sleep(0)
        release.set()
        await task  # the turn is the first one's now, which has not run yet
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        async with asyncio.timeout(5):
            await second
        assert gate.num_inside == 0

    asyncio.run(go())


def test_a_gate_that_closes_refuses_who_waits_and_lets_the_running_end():
    async def go() -> None:
        gate = Gate(max_running=1, max_waiting=2, max_wait_s=30)
        task, release = await held(gate)
        waiting = asyncio.create_task(pass_through(gate))
        await asyncio.sleep(0)
        gate.close()
        for refused in (waiting, pass_through(gate)):
            with pytest.raises(ProblemError) as caught:
                await refused
            assert (caught.value.status, caught.value.code) == (503, "stopping")
        release.set()
        await task

    asyncio.run(go())


def test_those_whose_bodies_are_read_count_before_the_next():
    async def go() -> None:
        gate = Gate(max_running=1, max_waiting=2, max_wait_s=30)
        with gate.coming(), gate.coming(), gate.coming():
            assert gate.num_inside == 3
            with pytest.raises(ProblemError, match="all 3 places are taken"), gate.coming():
                pass
            await pass_through(gate)  # who has been read is not held up by those who come behind
        assert gate.num_inside == 0
        gate._mean_s = 20.0
        with gate.coming(), pytest.raises(ProblemError, match="expected in 40 s, more than 30 s"), gate.coming():
            pass

    asyncio.run(go())


def test_who_need_not_wait_is_let_in_however_long_the_work_takes():
    async def go() -> None:
        gate = Gate(max_running=1, max_waiting=2, max_wait_s=30)
        gate._mean_s = 100.0
        await pass_through(gate)

    asyncio.run(go())


def test_a_body_that_stalls_stops_to_count(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("app.gate.time.monotonic", lambda: now[0])
    gate = Gate(max_running=1, max_waiting=0, max_wait_s=30)
    with gate.coming() as stalling:
        now[0] = 2.0
        stalling.moved(2**20)
        assert gate.num_inside == 1
        now[0] = 2.5
        assert gate.num_inside == 0
        with gate.coming():
            pass
        stalling.moved(2**20)
        assert gate.num_inside == 1
