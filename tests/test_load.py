"""`sightline.load`: which runs it loads, and what it leaves unchanged."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
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


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_settings_of_torch_neither_change_results_nor_are_changed(
    run: sightline.Run, photos: Path, tiny: dict, tmp_path: Path, mode: type
) -> None:
    settings, image = tiny | {"report.samples": 0, "train.epochs": 1}, torch.rand(3, 16, 16)
    expected = sightline.load(run)
    values = expected.predict(image).probabilities, expected.class_map(image)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    torch.set_default_dtype(torch.float64)
    try:
        with mode():
            state = torch.get_rng_state()
            again = sightline.train(configured(settings), photos, out=tmp_path / "run", quiet=True)
            assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == 3
            assert torch.get_default_dtype() == torch.float64 and not torch.is_grad_enabled()
            model = sightline.load(again)
            assert np.array_equal(model.predict(image).probabilities, values[0]), (
                "the weights are those of the first run"
            )
            assert np.allclose(model.class_map(image), values[1], atol=1e-6)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(threads)


def test_trainings_in_threads_are_repeatable(run: sightline.Run, photos: Path, tiny: dict, tmp_path: Path) -> None:
    settings = tiny | {"report.samples": 0, "train.epochs": 1}

    def weights(folder: Path) -> bytes:
        return (
            sightline.train(configured(settings), photos, out=folder, quiet=True)
            .path.joinpath("checkpoints", "last", "model.safetensors")
            .read_bytes()
        )

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(weights, [tmp_path / "a", tmp_path / "b"]))
    assert both[0] == both[1] == weights(tmp_path / "c")


def test_an_evaluation_has_the_settings_of_the_run(run: sightline.Run, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "other")
    with pytest.raises(SightlineError, match="do not apply to an evaluation") as caught:
        sightline.evaluate(run, data=tmp_path / "other", train={"flip_test": True}, quiet=True)
    assert caught.value.where == "train.flip_test"


@pytest.mark.parametrize("given", [None, 3, b"runs/a", [Path("a"), Path("b")]])
def test_what_is_no_path_is_an_error(given: object) -> None:
    with pytest.raises(SightlineError, match="not a path"):
        sightline.load(given)  # ty: ignore[invalid-argument-type]


def test_images_in_memory_are_for_a_loaded_run(run: sightline.Run, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="images must be paths, found Tensor") as caught:
        sightline.predict(run, [torch.zeros(3, 8, 8)], out=tmp_path / "out.csv")  # ty: ignore[invalid-argument-type]
    assert "sightline.load(run).predict" in caught.value.cure
