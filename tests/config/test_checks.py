"""Settings that have no effect on a training, and a warm-up that takes all of it."""

from typing import Any

import pytest

from config_toys import configured
from sightline import SightlineError
from sightline.config.checks import check_effects, warm_up_note
from sightline.config.resolve import resolve
from sightline.recipes import RECIPES, load_recipe
from sightline.tasks import TASKS

PROBE = {"optim.name": "lbfgs", "model.freeze": True, "train.epochs": 1}


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"train.patience": 3, "train.best_metric": "epoch"}, "train.patience needs"),
        ({"schedule.name": "multi_step"}, "needs schedule.milestone_epochs"),
        (PROBE | {"optim.lr": 0.01}, "lbfgs computes the head"),
        (PROBE | {"optim.clip_norm": 1.0}, "lbfgs computes the head"),
    ],
)
def test_settings_without_effect_are_refused_before_a_training(settings: dict[str, Any], why: str) -> None:
    config = configured({"task": "classify"} | settings)  # a run that has them can be read
    with pytest.raises(SightlineError, match="settings without effect") as caught:
        TASKS["classify"].check(config)
    assert why in caught.value.why and caught.value.cure


def test_settings_with_an_effect_are_accepted() -> None:
    for settings in (
        {"train.patience": 3},
        {"schedule.name": "multi_step", "schedule.milestone_epochs": (2,)},
        PROBE | {"optim.weight_decay": 0.5, "optim.decay_choices": (0.1, 1.0)},
    ):
        check_effects(configured({"task": "classify"} | settings))
    for name in ("photos_probe", "photos_knn", "multilabel_probe"):
        check_effects(load_recipe(name))


def test_settings_of_masks_are_refused_for_classes() -> None:
    for key, value in {"data.merge": {"a": "b"}, "data.ignore": ("a",), "data.palette": "camvid"}.items():
        with pytest.raises(SightlineError, match="settings without effect") as caught:
            TASKS["classify"].check(configured({"task": "classify", key: value}))
        assert f"{key} is for masks" in caught.value.why
        TASKS["segment"].check(resolve(load_recipe("landcover_scratch"), {key: value}))


@pytest.mark.parametrize(
    ("recipe", "settings", "where"),
    [
        ("dino_fast", {"pretrain.projector_norm": True}, "pretrain.projector_norm"),
        ("distill_fast", {"pretrain.projector_norm": True}, "pretrain.projector_norm"),
        ("photos_scratch", {"loss.gamma": 5.0}, "loss.gamma"),
        ("landcover_scratch", {"loss.hard_share": 0.5}, "loss.hard_share"),
        ("multilabel_probe", {"multilabel.margin": 0.2}, "multilabel.margin"),
        ("photos_scratch", {"augment.crop": "none", "augment.padding": 0, "augment.resize": 256}, "augment"),
    ],
)
def test_settings_of_other_objectives_and_losses_are_refused(recipe: str, settings: dict[str, Any], where: str) -> None:
    config = resolve(load_recipe(recipe), settings)
    with pytest.raises(SightlineError) as caught:
        TASKS[config.task].check(config)
    assert caught.value.where == where and caught.value.cure


def test_segmenters_have_no_fixed_batch_norms() -> None:
    with pytest.raises(SightlineError, match=r"model\.fixed_norm .* available for classification only"):
        resolve(load_recipe("landcover_scratch"), {"model.fixed_norm": True})


def test_every_recipe_has_only_settings_with_an_effect() -> None:
    for name in RECIPES:
        config = load_recipe(name)
        TASKS[config.task].check(config)


def test_a_warm_up_as_long_as_the_training_is_said() -> None:
    settings = {"schedule.name": "cosine", "schedule.warmup_epochs": 2, "train.epochs": 2}
    assert "schedule.warmup_epochs is 2, and the training has 2" in warm_up_note(configured(settings))
    assert not warm_up_note(configured(settings | {"train.epochs": 3}))
