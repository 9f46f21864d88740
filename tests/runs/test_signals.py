"""Signals outside the training loop raise KeyboardInterrupt with the command that resumes the run."""

import os
import signal
from pathlib import Path

import pytest

from sightline.runs.signals import StopRequest, stoppable


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_adds_the_command_to_resume(tmp_path: Path, request: pytest.FixtureRequest, number: int) -> None:
    # SIGINT is ignored in background jobs of a shell, SIGHUP under nohup.
    usual = signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    request.addfinalizer(lambda: signal.signal(number, usual) and None)
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt) as caught, stoppable(tmp_path):
        os.kill(os.getpid(), number)
    assert caught.value.__notes__ == ["run the same command again"] and signal.getsignal(number) == before
    (tmp_path / "checkpoints" / "last").mkdir(parents=True)
    (tmp_path / "checkpoints" / "last" / "state-0.safetensors").touch()
    with pytest.raises(KeyboardInterrupt) as caught, stoppable(tmp_path):
        os.kill(os.getpid(), number)
    assert caught.value.__notes__ == [f"sightline resume {tmp_path}"]


def test_an_ignored_sighup_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)
