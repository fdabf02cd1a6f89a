"""How many are let in at once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.errors import ProblemError
from app.gate import Gate


def test_never_more_than_the_allowed_number_run_at_once_and_all_get_their_turn():
    gate = Gate(max_running=3, max_waiting=17, max_wait_s=30)
    running, highest, count = 0, 0, threading.Lock()

    def work(_: int) -> None:
        nonlocal running, highest
        with gate.turn():
            with count:
                running += 1
                highest = max(highest, running)
            threading.Event().wait(0.005)
            with count:
                running -= 1

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(work, range(20)))

    assert 1 <= highest <= 3
    assert gate.num_inside == 0


def test_the_one_beyond_the_queue_is_refused_at_once():
    gate = Gate(max_running=1, max_waiting=0, max_wait_s=5)

    with gate.turn(), pytest.raises(ProblemError, match="all 1 places are taken") as caught, gate.turn():
        pass

    assert caught.value.status == 503
    assert caught.value.headers["Retry-After"].isdecimal()
    with gate.turn():
        assert gate.num_inside == 1


def test_a_wait_that_is_too_long_is_refused_and_frees_its_slot():
    gate = Gate(max_running=1, max_waiting=1, max_wait_s=0.01)

    with gate.turn():
        with pytest.raises(ProblemError, match=r"no turn within 0\.01 s"), gate.turn():
            pass
        assert gate.num_inside == 1


def test_a_failure_inside_frees_the_slot():
    gate = Gate(max_running=1, max_waiting=0, max_wait_s=1)

    for _ in range(3):
        with pytest.raises(KeyError), gate.turn():
            raise KeyError

    assert gate.num_inside == 0
