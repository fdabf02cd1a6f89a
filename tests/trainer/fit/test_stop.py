"""The first signal requests a stop, the second interrupts, and the handlers of before come back."""

import contextlib
import os
import signal

import pytest

from trainer.fit.stop import listening

SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_asks_to_stop_and_a_second_one_interrupts(number: signal.Signals) -> None:
    with listening() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


@pytest.mark.parametrize("divisor", [1, 0])
def test_earlier_handlers_are_put_back_also_after_an_error(divisor: int) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with contextlib.suppress(ZeroDivisionError), listening():
        assert [signal.getsignal(number) for number in SIGNALS] != before
        assert 1 / divisor == 1
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_where_signals_come_twice_by_themselves_a_second_one_changes_nothing(number: signal.Signals) -> None:
    with listening(interruptible=False) as stop:
        for _ in range(3):
            os.kill(os.getpid(), number)
        assert stop.requested
