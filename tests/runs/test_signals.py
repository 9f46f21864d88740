"""Signals outside the training loop raise KeyboardInterrupt with the command that resumes the run."""

import itertools
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


def test_the_command_is_for_the_run_of_the_block_not_for_the_one_it_overwrites(tmp_path: Path) -> None:
    """An earlier run is removed only after decoding; resuming it would train with the old settings."""
    recipe, state = tmp_path / "recipe.yaml", tmp_path / "checkpoints" / "last" / "state-0.safetensors"
    state.parent.mkdir(parents=True)
    times = itertools.count()

    def note(*written: Path) -> str:
        with pytest.raises(KeyboardInterrupt) as caught, stoppable(tmp_path):
            for path in written:
                path.write_text("")
                os.utime(path, ns=(next(times), next(times)))  # clocks of file systems tick every few milliseconds
            raise KeyboardInterrupt
        return caught.value.__notes__[0]

    assert note(recipe) == f"sightline train {tmp_path}/recipe.yaml --out {tmp_path} --overwrite"
    assert note(state) == f"sightline resume {tmp_path}"
    assert note() == "run the same command again"
    assert note(recipe) == f"sightline resume {tmp_path}", "a resumed run with changed settings keeps its states"


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
