"""`sightline.load`: which runs it loads, and what it leaves unchanged."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import sightline
from config_toys import configured
from sightline import SightlineError
from sightline.tasks import TASKS

pytestmark = pytest.mark.usefixtures("quick_figures")


@pytest.fixture(scope="module")
def run(photos: Path, tiny: dict, tmp_path_factory: pytest.TempPathFactory) -> sightline.Run:
    settings = tiny | {"report.samples": 0, "train.epochs": 1}
    return sightline.train(configured(settings), photos, out=tmp_path_factory.mktemp("load") / "run", quiet=True)


def test_a_run_or_its_path_is_loaded(run: sightline.Run) -> None:
    for given in (run, run.path, str(run.path)):
        model = sightline.load(given)
        assert model.run == run.path and model.classes == ("class_0", "class_1", "class_2", "class_3")


def test_threads_and_random_state_are_unchanged(run: sightline.Run) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)  # the recipe of the run sets 1
    try:
        state = torch.get_rng_state()
        model = sightline.load(run)
        model.predict(torch.zeros(3, 8, 8))
        assert torch.get_num_threads() == 3 and torch.equal(torch.get_rng_state(), state)
    finally:
        torch.set_num_threads(before)


def test_other_folders_and_runs_without_weights_are_errors(run: sightline.Run, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="not a run folder"):
        sightline.load(tmp_path)
    (tmp_path / "recipe.yaml").write_bytes((run.path / "recipe.yaml").read_bytes())
    with pytest.raises(SightlineError, match="no weights yet") as caught:
        sightline.load(tmp_path)
    assert "sightline resume" in caught.value.cure


def test_a_task_without_load_is_an_error(run: sightline.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "classify", replace(TASKS["classify"], load=None))
    with pytest.raises(SightlineError, match="does not apply to this run") as caught:
        sightline.load(run)
    assert "has no load" in caught.value.why
