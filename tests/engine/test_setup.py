"""Setup of a run whose processes torchrun restarts: it resumes or begins again, and no other run is touched."""

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

import sightline
from sightline import SightlineError
from sightline.config.resolve import resolve
from sightline.config.schema import Config
from sightline.engine.setup import TO_OVERWRITE
from sightline.runs.atomic import read_json_lines

pytestmark = pytest.mark.usefixtures("quick_figures")

loop = importlib.import_module("sightline.train")  # `sightline.train` is the function


@pytest.fixture
def attempt(photos: Path, tmp_path: Path, tiny: dict, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """attempt(number, overwrite, fails): train as the process of torchrun after `number` restarts, and return the
    events of metrics.jsonl. fails: the function of `sightline.train` at which it fails, or ""."""
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    config = resolve(Config(name="t"), tiny | {"train.epochs": 1, "report.samples": 0})

    def train(number: int, overwrite: bool = False, fails: str = "") -> list[str]:
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", str(number))
        with monkeypatch.context() as patch:
            if fails:
                room, name = fails.split(".")
                patch.setattr(getattr(loop, room), name, lambda *_, **__: 1 / 0)
                with pytest.raises(ZeroDivisionError):
                    sightline.train(config, photos, out=tmp_path / "run", overwrite=overwrite, quiet=True)
            else:
                sightline.train(config, photos, out=tmp_path / "run", overwrite=overwrite, quiet=True)
        records = read_json_lines(tmp_path / "run" / "metrics.jsonl")
        return [record["event"] for record in records if record["event"] != "train"]

    return train


def test_a_run_that_failed_before_its_first_state_begins_again(attempt: Callable[..., list[str]]) -> None:
    assert attempt(0, fails="training_state.save_state") == ["start"]
    assert attempt(1, fails="setup.build_parts") == ["start"]
    assert attempt(2) == ["start", "eval", "stop", "done"]


def test_restarted_processes_overwrite_an_earlier_run_and_resume_their_own(
    attempt: Callable[..., list[str]], tmp_path: Path
) -> None:
    attempt(0, fails="training_state.save_or_defer")
    earlier = read_json_lines(tmp_path / "run" / "metrics.jsonl")[0]
    attempt(0, overwrite=True, fails="setup.build_parts")
    assert read_json_lines(tmp_path / "run" / "metrics.jsonl")[0] == earlier, "replaced before the data are decoded"
    assert "resume" not in attempt(1, overwrite=True, fails="training_state.save_or_defer")
    assert "resume" in attempt(2, overwrite=True)
    assert not (tmp_path / "run" / TO_OVERWRITE).exists()


def test_a_run_without_states_is_not_removed_after_a_restart(attempt: Callable[..., list[str]], tmp_path: Path) -> None:
    attempt(0)
    for path in (tmp_path / "run" / "checkpoints" / "last").glob("state-*"):
        path.unlink()
    with pytest.raises(SightlineError, match="already contains a run"):
        attempt(1)
    assert (tmp_path / "run" / "checkpoints" / "best" / "model.safetensors").is_file()
