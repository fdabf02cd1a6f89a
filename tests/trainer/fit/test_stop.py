"""The first signal asks, the second interrupts, and the handlers of before come back."""

import os
import signal

import pytest

from trainer.fit.stop import listening

SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_asks_to_stop_and_a_second_one_interrupts(number: signal.Signals) -> None:
    with listening() as stop:
        assert not stop.wanted
        os.kill(os.getpid(), number)
        assert stop.wanted
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


@pytest.mark.parametrize("fails", [False, True])
def test_earlier_handlers_are_put_back(fails: bool) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    try:
        with listening():
            assert [signal.getsignal(number) for number in SIGNALS] != before
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        assert fails
    assert [signal.getsignal(number) for number in SIGNALS] == before
