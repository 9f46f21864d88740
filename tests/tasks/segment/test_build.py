"""Runs of the trivial segmenters and of a light decoder, from the recipes, and the setting train.best_metric epoch."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

import sightline
from parts_toys import build
from sightline.config.resolve import resolve
from sightline.config.schema import Config
from sightline.engine.state import Progress
from sightline.recipes import load_recipe
from sightline.runs.log import RunLog
from sightline.train import assemble

pytestmark = pytest.mark.usefixtures("no_reports")

QUICK = {
    "augment.window": [32, 32],
    "model.weights": "none",
    "train.batch_size": 4,
    "train.precision": "fp32",
    "train.threads": 1,
    "report.samples": 0,
}
SMALL_ENCODER = {"model.name": "light/resnet10t", "model.args": {"width": 16}}


@pytest.fixture(scope="module")
def scenes(make_scenes: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("scenes"), train=12, val=4)


def quick(recipe: str, **settings: object) -> Config:
    return resolve(load_recipe(recipe), QUICK | settings)


def test_constant_is_the_most_frequent_class_and_colors_are_better(scenes: Path, tmp_path: Path) -> None:
    constant, colors = (
        sightline.train(quick(f"landcover_{name}"), scenes, out=tmp_path / name, quiet=True)
        for name in ("constant", "colors")
    )
    trivial = constant.metrics["baselines"]["most_frequent_class"]
    assert constant.metrics["mean_iou"] == trivial == colors.metrics["baselines"]["most_frequent_class"]
    assert colors.metrics["mean_iou"] > trivial + 0.3
    assert sightline.evaluate(colors, quiet=True)["mean_iou"] == colors.metrics["mean_iou"]
    masks = sightline.predict(constant, scenes / "validation", out=tmp_path / "masks", quiet=True)
    with Image.open(masks / "0900_mask.png") as mask:
        assert len(mask.convert("RGB").getcolors() or []) == 1
    page = sightline.report(constant, colors, out=tmp_path / "compared").read_text(encoding="utf-8")
    assert "Differences are computed on the same images." in page and "chosen on these same images" not in page
    for run, folder in ((constant, "a"), (colors, "b")):
        assert sightline.export(run, out=tmp_path / folder, quiet=True)


def test_the_light_decoder_learns_on_a_frozen_encoder(scenes: Path, tmp_path: Path) -> None:
    settings = SMALL_ENCODER | {"optim.lr": 0.02}
    run = sightline.train(quick("landcover_frozen", **settings), scenes, out=tmp_path / "run", quiet=True)
    assert run.metrics["mean_iou"] > run.metrics["baselines"]["most_frequent_class"] + 0.1
    more = SMALL_ENCODER | {"model.weights": str(run.path), "train.epochs": 1, "optim.lr": 1e-6}
    again = sightline.train(quick("landcover_frozen", **more), scenes, out=tmp_path / "again", quiet=True)
    assert again.metrics["mean_iou"] == pytest.approx(run.metrics["mean_iou"], abs=0.02), "all weights are loaded"


def test_the_newest_weights_are_kept_without_a_choice(make_scenes: Callable[..., Path], tmp_path: Path) -> None:
    scenes = make_scenes(tmp_path / "many", train=4, val=24)
    run = sightline.train(quick("landcover_colors"), scenes, out=tmp_path / "run", quiet=True)
    last, best = ((tmp_path / "run/checkpoints" / name / "model.safetensors").read_bytes() for name in ("last", "best"))
    assert last == best and not {"best_epoch", "selection"} & {*run.metrics}
    page = sightline.report(run.path).read_text(encoding="utf-8")
    assert "not other seeds." in page and "choice of the best epoch" not in page


def test_layers_of_the_encoder_have_decaying_rates(scenes: Path, tmp_path: Path) -> None:
    config = quick("landcover_finetune", **SMALL_ENCODER | {"data.path": str(scenes)})
    with RunLog(tmp_path, quiet=True) as log:
        training = assemble(config, tmp_path, log, build(config, log.say), Progress())
    names = {id(value): name for name, value in training.parts.model.named_parameters()}
    rates = {names[id(p)]: group["base_lr"] for group in training.optimizer.param_groups for p in group["params"]}
    encoder = {rate for name, rate in rates.items() if ".encoder." in name}
    assert {rate for name, rate in rates.items() if ".encoder." not in name} == {config.optim.lr}
    expected = [config.optim.lr * 0.9 ** (number + 1) for number in range(len(encoder))]
    torch.testing.assert_close(torch.tensor(sorted(encoder, reverse=True)), torch.tensor(expected))
    assert len(encoder) > 4


def test_the_cost_of_a_frozen_encoder_has_no_backward_pass(scenes: Path) -> None:
    """Also for windows whose sides are not multiples of the patch size."""
    settings = {"model.name": "light/vit_tiny_patch16_224", "model.args": {"depth": 1}, "data.path": str(scenes)}
    settings |= {"augment.window": [24, 40]}
    frozen, trained = (
        build(quick(f"landcover_{name}", **settings), lambda text: None).flops for name in ("frozen", "finetune")
    )
    (little,), (much,) = frozen.values(), trained.values()
    assert 1 / 3 < little / much < 0.5
