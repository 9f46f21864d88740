"""Every shipped recipe builds and runs two steps at toy size; its docstring and settings say what it promises."""

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sightline.build import build
from sightline.config import Config
from sightline.errors import SightlineError
from sightline.log import RunLog
from sightline.recipes import RECIPES, load_grid, load_recipe
from sightline.settings import load_recipe_file, resolve, to_yaml
from sightline.train import Progress, assemble, train_epoch

REPORTED = {
    "alexnet_scratch": "0.646",
    "efficientnet_v2_m_finetune": "0.8944",
    "small_cnn_scratch": "0.62",
    "efficientnet_v2_s_finetune": "0.88",
    "vgg13_scratch": "0.7454",
    "beit_finetune": "0.9367",
    "resnet101_ensemble": "0.8748",
}
REPORTED_IOU = {
    "fcn32s_vgg16_dense": "0.6936",
    "fcn32s_vgg16": "0.6981",
    "fcn32s_vgg16_sgd": "0.5893",
    "fcn32s_vgg16_small": "0.395",
    "deeplabv3_resnet101": "0.7397",
    "deeplabv3_resnet101_scratch": "0.7344",
    "deeplabv3_resnet50": "0.73",
    "deeplabv3_focal": "0.7438",
    "mobilenetv3_smp": "0.726",
}
SMALLEST = {"alexnet": 64, "efficientnet_v2_m": 32, "efficientnet_v2_s": 32, "beit_base": 32}


CLASSIFIERS = [name for name in RECIPES if load_recipe(name).task == "classify"]
PRETRAININGS = [name for name in RECIPES if load_recipe(name).task == "byol"]
SEGMENTERS = [name for name in RECIPES if load_recipe(name).task == "segment"]


def check_two_steps(config: Config, folder: Path) -> None:
    """An epoch of two steps changes nearly every parameter."""
    with RunLog(folder, quiet=True) as log:
        training = assemble(config, folder, log, build(config, log.say), Progress())
        before = [parameter.detach().clone() for parameter in training.parts.model.parameters()]
        train_epoch(training)
    assert training.progress.step == 2
    changed = [not torch.equal(old, new) for old, new in zip(before, training.parts.model.parameters(), strict=True)]
    assert sum(changed) > 0.9 * len(changed)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_two_steps_of_segmentation_at_toy_size(name: str, make_scenes: Callable[..., Path], tmp_path: Path) -> None:
    config = load_recipe(name)
    toy: dict[str, object] = {"data.path": str(make_scenes(tmp_path / "data", train=4, val=1, size=64))}
    toy |= {"data.palette": "landcover", "model.weights": "none", "train.batch_size": 2, "train.precision": "fp32"}
    toy |= {"report.samples": 0, "augment.window": [32, 32] if config.augment.window else []}
    if config.model.name == "fcn32s":
        toy["model.args"] = config.model.args | {"width": 16}
    check_two_steps(resolve(config, toy), tmp_path)


@pytest.mark.parametrize("name", PRETRAININGS)
def test_two_steps_of_pretraining_at_toy_size(name: str, make_photos: Callable[..., Path], tmp_path: Path) -> None:
    config = load_recipe(name)
    data = make_photos(tmp_path / "data", classes=2, train=8, val=2)
    toy = {"data.path": str(data), "data.size": 32, "augment.resize": 36 if config.augment.resize else 0}
    toy |= {"train.batch_size": 8, "train.precision": "fp32", "report.samples": 0}
    toy |= {"pretrain.projector": [32] * len(config.pretrain.projector), "pretrain.predictor": 16}
    check_two_steps(resolve(config, toy), tmp_path)


def test_the_settings_of_pretraining_are_the_reports() -> None:
    first, second = load_recipe("byol_resnet50_a"), load_recipe("byol_resnet50_b")
    assert (first.model.name, first.data.size, first.augment.resize, first.augment.crop) == (
        *("resnet50", 128, 160, "random"),
    )
    assert (first.train.epochs, first.train.batch_size) == (500, 128)
    assert (first.optim.name, first.optim.lr, first.optim.weight_decay) == ("adam", 3e-4, 1e-6)
    assert (second.train.epochs, second.train.batch_size, second.augment.policy) == (100, 32, "trivial")
    assert (second.optim.name, second.optim.lr, second.schedule.name) == ("adam", 1e-2, "cosine_restarts")
    for config in (first, second):
        assert (config.pretrain.second_blur, config.pretrain.second_solarize) == (0, 0), "both views are alike there"


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_two_steps_at_toy_size(name: str, make_photos: Callable[..., Path], tmp_path: Path) -> None:
    config = load_recipe(name)
    model = config.model.name
    toy = {"data.path": str(make_photos(tmp_path / "data", classes=2, train=4, val=1)), "model.weights": "none"}
    toy |= {"data.size": SMALLEST.get(model, 32), "train.batch_size": 4, "train.precision": "fp32", "report.samples": 0}
    toy |= {"augment.resize": SMALLEST.get(model, 32) + 4 if config.augment.resize else 0}
    check_two_steps(resolve(config, toy), tmp_path)


@pytest.mark.parametrize("name", REPORTED_IOU)
def test_docstrings_of_segmentation_name_the_reported_score(name: str) -> None:
    text = inspect.getdoc(RECIPES[name]) or ""
    assert REPORTED_IOU[name] in text and f"sightline train {name}" in text


def test_the_settings_of_segmentation_are_the_reports() -> None:
    dense, sgd, focal = (load_recipe(name) for name in ("fcn32s_vgg16_dense", "fcn32s_vgg16_sgd", "deeplabv3_focal"))
    assert dense.train.epochs == 25 and dense.model.args == {"head": "dense"}
    assert (sgd.train.epochs, sgd.optim.name, sgd.optim.lr, sgd.loss.name) == (100, "sgd", 0.003, "cross_entropy")
    assert sgd.augment == type(sgd.augment)() and sgd.train.best_metric == "mean_iou"
    assert (focal.train.epochs, focal.loss.name, focal.loss.alpha, focal.loss.gamma) == (100, "focal", 0.2, 2.0)
    assert (focal.optim.name, focal.optim.lr, focal.optim.weight_decay) == ("sgd", 0.1, 1e-5)
    assert (focal.augment.horizontal_flip, focal.augment.vertical_flip) == (0.5, 0.5)
    assert load_recipe("mobilenetv3_smp").train.epochs == 150
    assert load_recipe("mobilenetv3_smp").model.name.endswith("tu-tf_mobilenetv3_large_100")


@pytest.mark.parametrize("name", REPORTED)
def test_docstrings_name_the_reported_score_and_its_source(name: str) -> None:
    text = " ".join((inspect.getdoc(RECIPES[name]) or "").split())
    assert REPORTED[name] in text.split(". ", 2)[1] + text
    assert "course report, 50 classes of 32x32 photographs, 22,500/2,500" in text
    assert f"sightline train {name}" in text


def test_the_settings_are_exactly_the_reports() -> None:
    alexnet = load_recipe("alexnet_scratch")
    assert (alexnet.train.epochs, alexnet.train.batch_size, alexnet.train.patience) == (200, 64, 30)
    assert (alexnet.optim.name, alexnet.optim.lr, alexnet.optim.weight_decay) == ("sgd", 0.1, 1e-3)
    assert (alexnet.schedule.milestone_epochs, alexnet.schedule.gamma) == ((10, 50), 0.5)
    assert (alexnet.augment.resize, alexnet.data.size, alexnet.augment.crop) == (256, 224, "random")
    medium = load_recipe("efficientnet_v2_m_finetune")
    assert (medium.train.epochs, medium.train.batch_size, medium.train.patience) == (200, 32, 10)
    assert (medium.optim.lr, medium.optim.weight_decay, medium.schedule.milestone_epochs) == (0.01, 5e-4, (50,))
    small = load_recipe("small_cnn_scratch")
    assert (small.train.epochs, small.train.batch_size, small.train.patience) == (50, 250, 3)
    assert (small.optim.lr, small.optim.weight_decay) == (5e-4, 1e-5)
    assert (small.schedule.name, small.loss.name) == ("cosine", "focal")
    vgg = load_recipe("vgg13_scratch")
    assert (vgg.train.epochs, vgg.optim.name, vgg.optim.lr, vgg.optim.weight_decay) == (300, "adamw", 1e-3, 0)
    assert (vgg.schedule.name, vgg.train.best_metric, vgg.loss.smoothing) == ("constant", "accuracy", 0)
    beit = load_recipe("beit_finetune")
    assert (beit.train.epochs, beit.optim.lr, beit.loss.smoothing) == (6, 0.003, 0.1)
    assert beit.augment.mixup == 0.1 and beit.augment.cutmix > 0
    ensemble = load_recipe("resnet101_ensemble")
    assert (ensemble.model.name, ensemble.train.ensemble, ensemble.train.ensemble_by) == ("resnet101", 5, "loss")


@pytest.mark.parametrize("name", RECIPES)
def test_yaml_round_trip(name: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(to_yaml(load_recipe(name)))
    assert load_recipe_file(path) == load_recipe(name)


def test_a_python_file_is_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from sightline.settings import resolve\n"
        "from sightline.recipes.classify import vgg13_scratch\n"
        "def recipe():\n    return resolve(vgg13_scratch(), {'optim.lr': 0.5})\n"
    )
    assert load_recipe(str(path)).optim.lr == 0.5
    path.write_text("def other(): pass\n")
    with pytest.raises(SightlineError, match="no working recipe"):
        load_recipe(str(path))
    path.write_text("def recipe(): return 3\n")
    with pytest.raises(SightlineError, match="must return a Config"):
        load_recipe(str(path))


def test_a_python_file_is_a_grid(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from sightline.recipes.transfer import transfer_digits\n"
        "def recipe():\n    return transfer_digits().model_copy(update={'seeds': (7,)})\n"
    )
    assert load_grid(str(path)).seeds == (7,)
    with pytest.raises(SightlineError, match="must return a Config") as caught:
        load_recipe(str(path))
    assert f"sightline transfer {path}" in caught.value.cure
    path.write_text("def other(): pass\n")
    with pytest.raises(SightlineError) as caught:
        load_grid(str(path))
    assert "transfer_fast" in caught.value.cure


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(SightlineError) as caught:
        load_recipe("vgg13")
    assert "vgg13_scratch" in caught.value.cure
