"""Models, losses, optimizers and the training loop together fit 32 images."""

from collections.abc import Callable
from pathlib import Path

import pytest

import sightline
from config_toys import configured
from sightline.runs.atomic import read_json_lines

pytestmark = pytest.mark.usefixtures("quick_figures")


@pytest.mark.parametrize(
    ("model", "optimizer", "rate", "loss"),
    [
        ("small_cnn", "sgd", 0.02, "cross_entropy"),
        ("small_cnn", "adam", 1e-3, "focal"),
        ("resnet9", "muon", 0.02, "cross_entropy"),
        ("vgg13_bn", "adamw", 1e-3, "cross_entropy"),
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
