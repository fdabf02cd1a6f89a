"""Jobs run beside training in their order, the pulse beats between them, and a failure comes back."""

import threading
from collections.abc import Iterator

import pytest

from preprocess.errors import Interrupted, RunError, StorageError
from trainer.fit.background import Background


def test_jobs_run_on_one_other_thread_in_their_order() -> None:
    ran: list[tuple[int, int | None]] = []
    with Background() as background:
        for number in range(5):
            background.submit(lambda number=number: ran.append((number, threading.get_ident())), must_run=True)
    assert [number for number, _ in ran] == [0, 1, 2, 3, 4]
    assert len({thread for _, thread in ran} - {threading.get_ident()}) == 1


def test_the_pulse_beats_while_nothing_else_runs() -> None:
    beats = threading.Semaphore(0)
    with Background(lambda: beats.release(), pulse_s=0.01):
        for _ in range(5):
            assert beats.acquire(timeout=10)


def entered(background: Background) -> Iterator[Background]:
    """The block around training, as a generator: closing it leaves the block without an error."""
    with background:
        yield background


@pytest.mark.parametrize("from_pulse", [True, False])
def test_a_failure_is_raised_at_every_later_call_and_at_the_end(from_pulse: bool) -> None:
    def fail() -> None:
        raise StorageError("the bucket is gone")

    block = entered(Background(fail if from_pulse else None, pulse_s=0.01))
    background = next(block)
    if not from_pulse:
        background.submit(fail)
    background._thread.join(10)
    for call in (
        background.raise_failure, background.wait, lambda: background.submit(lambda: None), lambda: next(block)
    ):  # fmt: skip
        with pytest.raises(StorageError, match="the bucket is gone"):
            call()


def test_a_bug_in_a_job_ends_the_run_instead_of_hanging_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda raised: seen.append(raised.exc_type))
    block = entered(Background())
    background = next(block)
    background.submit(lambda: [][0])
    with pytest.raises(RunError, match="the thread that writes checkpoints has ended"):
        background.wait()
    assert seen == [IndexError]


def test_leaving_after_an_error_waits_for_no_job() -> None:
    go_on, begun = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        go_on.wait(60)

    def stopped() -> None:
        with Background() as background:
            background.submit(hang)
            assert begun.wait(10)
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        stopped()
    assert not go_on.is_set()
    go_on.set()
