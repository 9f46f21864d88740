"""Models, losses, optimizers and the training loop together fit 32 images."""

from collections.abc import Callable
from pathlib import Path

import pytest

import sightline
from config_toys import configured
from multilabel_toys import SETTINGS, write_quarters
from sightline.runs.atomic import read_json_lines

pytestmark = pytest.mark.usefixtures("quick_figures")


@pytest.mark.parametrize(
    ("model", "optimizer", "rate", "loss"),
    [
        ("small_cnn", "sgd", 0.02, "cross_entropy"),
        ("small_cnn", "adam", 1e-3, "focal"),
        ("resnet9", "muon", 0.02, "cross_entropy"),
        pytest.param("vgg13_bn", "adamw", 1e-3, "cross_entropy", marks=pytest.mark.slow),
    ],
)
def test_32_images_are_fitted(
    make_photos: Callable[..., Path], tmp_path: Path, tiny: dict, model: str, optimizer: str, rate: float, loss: str
) -> None:
    data = make_photos(tmp_path / "data", train=8, val=4)
    settings = tiny | {"model.name": model, "optim.name": optimizer, "optim.lr": rate, "loss.name": loss}
    settings |= {"augment.crop": "none", "augment.padding": 0, "train.epochs": 30, "train.batch_size": 16}
    settings |= {"report.samples": 0, "schedule.name": "linear", "train.evaluate_every": 30}
    if model == "small_cnn":
        settings["model.args"] = {"widths": [16, 32, 64], "hidden": 128}
    if model == "vgg13_bn":
        # With the default width of 4096 each state has 1.6 GB; with the default dropout of 0.5 fitting takes 60 steps.
        settings |= {"data.size": 32, "model.args": {"width": 256, "dropout": 0.1}, "train.epochs": 8}
    if model == "resnet9":
        settings["model.args"] = {"widths": [8, 16, 16, 16]}
    run = sightline.train(configured(settings), data, out=tmp_path / "run", quiet=True)
    losses = [r["loss"] for r in read_json_lines(run.path / "metrics.jsonl") if r["event"] == "train"]
    assert losses[-1] < 0.05 < losses[0]
    assert run.metrics["accuracy"] == 1.0


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "asymmetric"])
def test_label_sets_are_learned(tmp_path: Path, loss: str) -> None:
    """The mean average precision is far above that of an untrained network and of the frequencies of the classes."""
    data = write_quarters(tmp_path / "data", train=160, val=40)
    settings = SETTINGS | {"loss.name": loss, "train.epochs": 10, "train.evaluate_every": 10, "report.samples": 0}
    settings |= {"model.args": {"widths": [16, 32, 32], "hidden": 64}, "schedule.name": "one_cycle"}
    run = sightline.train(configured(settings), data, out=tmp_path / "run", quiet=True)
    untrained = settings | {"optim.lr": 1e-12, "train.epochs": 1}
    first = sightline.train(configured(untrained), data, out=tmp_path / "untrained", quiet=True)
    end, start = run.metrics, first.metrics
    assert end["mean_average_precision"] > 0.95 > 0.7 > start["mean_average_precision"]
    assert end["mean_average_precision"] > 2 * end["baselines"]["class_frequencies"]
    assert end["macro_f1"] > 0.85 and end["exact"] > 0.7
