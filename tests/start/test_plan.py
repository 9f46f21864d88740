"""The sides and epochs of the steps that fit into the time of `sightline start`."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sightline
from config_toys import configured
from sightline import SightlineError
from sightline.config.resolve import resolve, to_yaml
from sightline.config.schema import Data
from sightline.data.sources.open import open_source
from sightline.engine.schedules import training_side
from sightline.errors import ENVIRONMENT
from sightline.recipes import ladders
from sightline.recipes.ladders import LADDERS, LadderStep, constant, on_pixels
from sightline.start import plan, results, run
from sightline.start.plan import Sizes, TooLong, fitted, for_few_images, sized
from start_toys import SMALL

pytestmark = pytest.mark.usefixtures("quick_figures")


def test_a_step_that_is_slower_than_estimated_is_stopped() -> None:
    config = configured({"task": "classify", "train.epochs": 5})
    assert run.limited(config, 400.0).train.max_minutes == pytest.approx(1.25 * 400 / 60, abs=0.01)
    assert run.limited(config, 2.0).train.max_minutes == 1.0
    assert run.limited(resolve(config, {"train.epochs": 1}), 400.0).train.max_minutes == 0
    assert run.limited(resolve(config, {"train.max_minutes": 3}), 400.0).train.max_minutes == 3


def test_the_title_says_that_a_step_was_stopped(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(to_yaml(configured({"task": "classify", "train.epochs": 12})))
    for epoch, said in ((3, ", stopped by the time limit after epoch 3 of 12"), (12, "")):
        (tmp_path / "metrics.jsonl").write_text(json.dumps({"event": "done", "step": 9, "epoch": epoch}) + "\n")
        assert run.cut_off(tmp_path) == said


def test_settings_of_an_optimizer_are_not_those_of_computed_heads() -> None:
    settings = {"optim.lr": 0.01, "optim.weight_decay": 0.5}
    for step in LADDERS["labels"](32):
        optim = plan.with_start_settings(step, dict(settings)).config.optim
        assert optim.lr == (0.1 if optim.name in ("lbfgs", "knn") else 0.01) and optim.weight_decay == 0.5


def test_damaged_images_are_left_out_when_times_are_estimated(photos: Path) -> None:
    source = open_source(Data(path=str(photos)), 0)
    train = source.splits["train"]

    def read(index: int, side: int = 0) -> object:
        if index % 2 == 0 or every:
            raise SightlineError("this image cannot be read", where=train.names[index])
        return train.read(index, side)

    every = False
    damaged: Any = replace(source, splits=source.splits | {"train": replace(train, read=read)})
    assert plan.median_side(damaged) == 16 and Sizes.of(damaged).decoding > 0
    every = True
    with pytest.raises(SightlineError, match="cannot be read"):
        plan.median_side(damaged)


def test_test_images_do_not_count_when_validation_images_are_held_out(
    make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    data = make_photos(tmp_path / "d", train=60, val=0, test=250)
    _, source, settings = run.look({"data.path": str(data)}, lambda text: None)
    assert settings["data.val_fraction"] == 0.3 and len(source.splits["val"].names) == 72


SIZES = Sizes(100, 50, 0.0)


def step_with(epochs: int | None, pretrained: bool = True) -> LadderStep:
    config = configured({"task": "classify", **SMALL, "data.size": 224, "train.epochs": 10})
    shares = (0.3,) if epochs is None else (0.65, 1.0)
    return LadderStep("s", "step", config, pretrained, (224, 112, 56), epochs, shares)


@pytest.fixture
def square_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch at 224 pixels takes 100 s, the features 50 s unless they are cached; at half the side a quarter."""

    def costs(config: Any, source: Any, sizes: Sizes, cached: bool) -> tuple[float, float]:
        share = (config.data.size / 224) ** 2
        return (0.0 if cached else 50 * share), 100 * share

    monkeypatch.setattr(plan, "costs", costs)


@pytest.mark.usefixtures("square_costs")
@pytest.mark.parametrize(
    ("epochs", "left", "side", "expected"),
    [
        (None, 1000, 0, (224, 10)),  # features may take 0.3 of the time
        (None, 150, 0, (112, 10)),
        (None, 150, 224, (224, 10)),  # in the cache
        (3, 2000, 0, (224, 10)),  # no more epochs than the recipe has
        (3, 700, 0, (224, 3)),  # 0.65 of the time, if the fewest epochs fit into it
        (3, 300, 0, (112, 6)),
        (3, 300, 56, (56, 10)),  # not larger than the features
    ],
)
def test_the_largest_side_and_the_epochs_that_fit_are_chosen(
    epochs: int | None, left: float, side: int, expected: tuple[int, int]
) -> None:
    fit = fitted(step_with(epochs), None, SIZES, left, 10.0, side)  # ty: ignore
    assert (fit.config.data.size, fit.config.train.epochs) == expected and fit.seconds <= left


def test_fine_tuning_trains_on_images_of_three_quarters_of_the_side() -> None:
    tuned = next(step for step in LADDERS["labels"](300) if step.name == "finetune")
    assert tuned.config.augment.progressive == ((168, 0.65),)
    for side in tuned.sides:
        assert training_side(sized(tuned, side), 0) == 0.75 * side and training_side(sized(tuned, side), 14) == side
    scratch = next(step for step in LADDERS["labels"](32) if step.name == "scratch")
    assert sized(scratch, 64).augment.progressive == ((40, 0.35), (48, 0.72))


def test_few_images_are_fine_tuned_in_small_batches() -> None:
    steps = {step.name: step for step in LADDERS["labels"](300)}
    tuned = steps["finetune"]
    for count, size in ((20, 8), (150, 16), (511, 32), (512, 64), (10_000, 64)):
        train, optim = (found := for_few_images(tuned, count).config).train, found.optim
        assert train.batch_size == size and optim.lr == pytest.approx(5e-4 * (size / 64) ** 0.5)
    assert all(for_few_images(steps[name], 20) is steps[name] for name in ("probe", "scratch"))


def test_a_network_for_images_of_one_side_is_fine_tuned_at_this_side(photos: Path, tmp_path: Path) -> None:
    vit = {"model.name": "timm/vit_tiny_patch16_224", "model.args": {"depth": 1, "embed_dim": 24, "num_heads": 2}}
    growing = {"data.size": 32, "augment.progressive": [[16, 0.5]], "train.epochs": 3, "train.precision": "fp32"}
    config = configured({"task": "classify", "data.path": str(photos)} | vit | growing)
    source = open_source(config.data, 0)
    climb = run.Climb(source, tmp_path, {}, Sizes.of(source), 10.0, print, True)
    fit = run.fit_of(climb, LadderStep("finetune", "fine-tuning", config, epochs=1))
    assert fit.config.augment.progressive == () and fit.config.train.epochs == 3


@pytest.mark.usefixtures("square_costs")
def test_a_step_that_does_not_fit_says_what_it_takes() -> None:
    with pytest.raises(TooLong) as caught:
        fitted(step_with(3), None, SIZES, 30.0, 10.0)  # ty: ignore
    assert caught.value.seconds == pytest.approx(10 + 50 / 16 + 300 / 16) == caught.value.needed
    assert fitted(step_with(3), None, SIZES, caught.value.seconds + 0.01, 10.0).config.data.size == 56  # ty: ignore
    with pytest.raises(TooLong) as caught:
        fitted(step_with(None), None, SIZES, 40.0, 10.0)  # ty: ignore
    assert caught.value.needed == pytest.approx(caught.value.seconds / 0.3), "features may take 0.3 of the time"


def test_few_sides_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timing takes seconds for each side: the first one, and those that fit by their number of pixels."""
    timed: list[int] = []

    def costs(config: Any, *rest: Any) -> tuple[float, float]:
        timed.append(config.data.size)
        return 0.0, 100 * (config.data.size / 224) ** 2

    monkeypatch.setattr(plan, "costs", costs)
    assert fitted(step_with(3), None, SIZES, 150.0, 10.0).config.data.size == 112  # ty: ignore
    assert timed == [224, 112]
    timed.clear()
    with pytest.raises(TooLong):
        fitted(step_with(3), None, SIZES, 20.0, 10.0)  # ty: ignore
    assert timed == [224]
    timed.clear()
    with pytest.raises(TooLong) as caught:
        fitted(step_with(3), None, SIZES, 9.0, 10.0)  # ty: ignore
    assert timed == [] and not caught.value.timed, "no time is left"


def test_on_pixels_and_constant_are_valid_recipes() -> None:
    for ladder in (LADDERS["labels"], LADDERS["label sets"]):
        knn = next(step.config for step in ladder(300) if step.name == "knn")
        assert on_pixels(knn).model.name == "pixels" and constant(knn).optim.name == "lbfgs"
    assert results.ALPHA == 0.05 and ENVIRONMENT == 3


@pytest.mark.parametrize(
    ("model", "sides"),
    [("timm/vit_small_patch14_dinov2", (224, 154, 126, 84, 56)), ("timm/tf_efficientnet_lite0", ladders.SIDES)],
)
def test_sides_are_whole_numbers_of_patches(photos: Path, model: str, sides: tuple[int, ...]) -> None:
    """A vision transformer would not see the last 6 of 160 pixels."""
    data = Data.model_validate({"path": str(photos)})
    steps = plan.ladder("labels", open_source(data, 0), "some.safetensors", model, {"data.path": str(photos)})
    assert {step.sides for step in steps if step.pretrained} == {sides}
    assert {step.sides for step in steps if not step.pretrained} == {()}


@pytest.mark.usefixtures("toy_ladder")
def test_the_advice_for_more_time_is_enough_for_a_slow_machine(
    photos: Path, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a run takes longer than the time that is left, its network was not timed, and the first advice of one
    minute more led to the same error again."""
    monkeypatch.setattr(plan, "costs", lambda *arguments: (1.0, 1.0))
    monkeypatch.setattr(run, "overhead", lambda climb: 34.0 if climb.outcomes else 10.0)
    monkeypatch.setattr(run, "side_after", lambda climb, step: 16)
    with pytest.raises(SightlineError, match="only one step fits") as caught:
        sightline.start(photos, weights=weights, minutes=0.6, out=tmp_path / "s", quiet=True)
    assert "a run takes, besides its network, about 34 s" in caught.value.why
    minutes = float(caught.value.cure.rpartition(" ")[2])
    assert 2 < minutes < 9
    sightline.start(photos, weights=weights, minutes=minutes, out=tmp_path / "s", quiet=True)
    done = json.loads((tmp_path / "s/start.json").read_text())["steps"]
    assert all(step["trained"] for step in done)
