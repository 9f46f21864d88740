"""`sightline start`: the ladder within a time, what is left out, and which step was worth it."""

import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import timm
from safetensors.torch import save_file

import sightline
from accessibility import violations_of_file
from config_toys import configured
from forked import ended, fork
from multilabel_toys import write_quarters
from sightline import SightlineError
from sightline.config.resolve import resolve
from sightline.config.schema import Data
from sightline.data.sources.open import open_source
from sightline.data.sources.pairs import open_pairs
from sightline.engine.schedules import training_side
from sightline.errors import ENVIRONMENT, INTERRUPTED
from sightline.insight.style import png
from sightline.recipes import ladders
from sightline.recipes.ladders import LADDERS, LadderStep, constant, on_pixels
from sightline.start import plan, results, run
from sightline.start.plan import Sizes, TooLong, fitted, for_few_images, require_settings, sized
from sightline.start.results import climb
from start_toys import FAST, SMALL, killed_start, toy_steps

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.usefixtures("quick_figures")


@pytest.fixture
def toy_ladder(monkeypatch: pytest.MonkeyPatch) -> None:
    """`toy_steps` in the place of the ladder for photographs."""
    monkeypatch.setitem(LADDERS, "labels", lambda side: toy_steps())
    monkeypatch.setattr(ladders, "SIDES", (16, 8))


@pytest.fixture(scope="module")
def weights(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    config = configured({"task": "classify", **SMALL, **FAST, "train.epochs": 3, "report.baselines": False})
    return str(sightline.train(config, photos, out=tmp_path_factory.mktemp("weights") / "run", quiet=True).path)


@pytest.mark.slow
@pytest.mark.usefixtures("toy_ladder")
def test_the_page_satisfies_wcag_aa(
    photos: Path, weights: str, tmp_path: Path, browser: "Browser", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "png", png)  # draws the figures
    monkeypatch.setattr(run, "say_so_far", lambda *arguments: None)  # once is enough
    page = sightline.start(photos, weights=weights, out=tmp_path / "s", quiet=True).report
    assert violations_of_file(browser, page) == []
    drawn = [path.stat().st_size for path in (page.parent / "figures").iterdir()]
    assert drawn and min(drawn) > 2000, "the other tests write images of one pixel"


@pytest.mark.usefixtures("toy_ladder")
def test_all_steps_are_ordinary_runs_and_the_report_says_which_was_worth_it(
    photos: Path, weights: str, tmp_path: Path
) -> None:
    found = sightline.start(photos, weights=weights, out=tmp_path / "s", quiet=True)
    steps = json.loads((tmp_path / "s/start.json").read_text())["steps"]
    names = ["most-frequent", "knn-pixels", "knn", "probe", "finetune", "scratch"]
    assert [step["name"] for step in steps] == names and all(step["trained"] for step in steps)
    for name in names:
        metrics = sightline.Run(tmp_path / "s" / name).metrics
        assert "selection" not in metrics and "best_epoch" not in metrics, "nothing is chosen on validation images"
    assert found.best in names and found.run.metrics["accuracy"] >= 0.5
    page = found.report.read_text(encoding="utf-8")
    assert "What was worth it" in page and "was worth it: accuracy" in page
    assert page.index("k-NN on raw pixels") < page.index("fine-tuning")
    assert any(line.startswith("sightline predict") and "--out predictions.csv" in line for line in found.next)
    assert (tmp_path / "s/start.csv").read_text().count("\n") == 7
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "s").glob("*/checkpoints/**/*.safetensors")}
    again = sightline.start(photos, weights=weights, out=tmp_path / "s", quiet=True)
    assert again.sentences == found.sentences
    found.report.unlink()
    assert sightline.report(found.path) == found.report and found.report.read_text(encoding="utf-8") == page
    assert before == {path: path.stat().st_mtime_ns for path in before}, "finished steps are not trained again"


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cached weights, and downloads are forbidden."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.usefixtures("toy_ladder", "offline")
def test_without_weights_the_other_steps_are_taken_and_the_cure_is_said(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "costs", lambda config, *rest: (1.0, 0.0 if config.name != "scratch" else 1.0))
    published = {"weights": "pretrained", "model": "timm/tf_efficientnet_lite0"}
    sightline.start(photos, **published, minutes=2, out=tmp_path / "s")
    said = capsys.readouterr().out
    assert said.startswith("note: cannot download the weights tf_efficientnet_lite0"), "before the data are opened"
    assert said.count("left out, because cannot download") == 1 and said.count("left out, for the same reason") == 2
    assert "--weights" in said and "--model.weights" not in said
    steps = {one["name"]: one["trained"] for one in json.loads((tmp_path / "s/start.json").read_text())["steps"]}
    assert steps == {"most-frequent": True, "knn-pixels": True, "knn": False, "probe": False} | {
        "finetune": False,
        "scratch": True,
    }
    never = sightline.start(photos, weights="none", out=tmp_path / "never", quiet=True)
    assert {path.name for path in never.path.iterdir() if path.is_dir()} == {
        *("figures", "most-frequent", "knn-pixels", "scratch")
    }


@pytest.mark.usefixtures("toy_ladder")
def test_an_interrupted_start_goes_on(
    photos: Path, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []

    def interrupted(config: Any, **options: Any) -> Any:
        if config.name == "probe":
            raise SightlineError("interrupted", status=INTERRUPTED)
        trained.append(config.name)
        return real(config, **options)

    real = run.train
    monkeypatch.setattr(run, "train", interrupted)
    with pytest.raises(SightlineError, match="was interrupted") as caught:
        sightline.start(photos, weights=weights, out=tmp_path / "s", quiet=True)
    assert caught.value.status == INTERRUPTED and "same command" in caught.value.cure
    page = (tmp_path / "s/report.html").read_text(encoding="utf-8")
    following = "logistic regression on frozen features, fine-tuning, training from scratch follow"
    assert f"This start is not finished: {following}." in page and "k-NN on frozen features" in page
    monkeypatch.setattr(run, "train", real)
    found = sightline.start(photos, weights=weights, out=tmp_path / "s", quiet=True)
    assert trained == ["most-frequent", "knn-pixels", "knn"]
    assert "is not finished" not in found.report.read_text(encoding="utf-8")


@pytest.mark.usefixtures("toy_ladder")
def test_more_minutes_add_the_steps_that_did_not_fit(
    photos: Path, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def costs(config: Any, *rest: Any) -> tuple[float, float]:
        return (1.0, 100.0 if config.name in ("finetune", "scratch") else 0.0)

    monkeypatch.setattr(plan, "costs", costs)
    first = sightline.start(photos, weights=weights, minutes=3, out=tmp_path / "s", quiet=True)
    assert not (tmp_path / "s/finetune").exists()
    cure = next(line for line in first.next if "--minutes" in line)
    assert f"--weights {weights}" in cure, "the command that is printed goes on with the same weights"
    minutes = float(cure.rpartition(" ")[2])
    assert 5 < minutes < 9
    sightline.start(photos, weights=weights, minutes=minutes, out=tmp_path / "s", quiet=True)
    assert sightline.Run(tmp_path / "s/finetune").metrics["epoch"] in (3, 4)


@pytest.mark.parametrize(
    ("make", "words", "cure"),
    [
        (lambda photos, folder: next((photos / "train").iterdir()), "no labels", "moco_fast"),
        (lambda photos, folder: beside_table(folder), "no labels", "tags.csv; or "),
        (lambda photos, folder: one_class(folder), "only 1 class was found", "--data FOLDER"),
        (lambda photos, folder: numbers(folder), "looks like numbers", "--data.label_column"),
        (lambda photos, folder: folder / "nothing", "not found|no such", "check the path"),
    ],
)
def test_data_without_a_ladder_are_errors(
    make: Callable[[Path, Path], Path], words: str, cure: str, photos: Path, tmp_path: Path
) -> None:
    data = make(photos, tmp_path)
    with pytest.raises(SightlineError, match=words) as caught:
        sightline.start(data, out=tmp_path / "s", quiet=True)
    assert cure in caught.value.cure and caught.value.cure


def one_class(folder: Path) -> Path:
    from PIL import Image

    for index in range(12):
        path = folder / "data" / "cat" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (index, 0, 0)).save(path)
    return folder / "data"


def beside_table(folder: Path) -> Path:
    images = one_class(folder) / "cat"
    rows = "".join(f"{index}.png,{'cat;dog' if index % 2 else 'dog'}\n" for index in range(12))
    (images.parent / "tags.csv").write_text("photo,tags\n" + rows)
    return images


def numbers(folder: Path) -> Path:
    from PIL import Image

    folder = folder / "numbers"
    folder.mkdir()
    rows = ["filename,label"]
    for index in range(12):
        Image.new("RGB", (16, 16), (index, 0, 0)).save(folder / f"{index}.png")
        rows.append(f"{index}.png,{index + 0.5}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder


@pytest.mark.usefixtures("toy_ladder")
def test_a_folder_with_other_content_is_not_overwritten(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/notes.txt").write_text("mine")
    with pytest.raises(SightlineError, match="not empty"):
        sightline.start(photos, weights="none", out=tmp_path / "own", quiet=True)
    sightline.start(photos, weights="none", out=tmp_path / "s", quiet=True)
    with pytest.raises(SightlineError, match="other settings") as caught:
        sightline.start(photos, weights="none", out=tmp_path / "s", quiet=True, **{"train.seed": 1})
    assert "train.seed" in caught.value.why
    sightline.start(photos, weights="none", out=tmp_path / "s", overwrite=True, quiet=True, **{"train.seed": 1})
    assert "seed: 1" in (tmp_path / "s/scratch/recipe.yaml").read_text()


@pytest.mark.usefixtures("toy_ladder")
def test_other_settings_are_taken_while_nothing_is_trained(make_photos: Callable[..., Path], tmp_path: Path) -> None:
    """The cure of a start that stopped at a damaged image is a setting."""
    photos = make_photos(tmp_path / "photos", train=12, val=12)
    damaged = next((photos / "train").rglob("*.png"))
    damaged.write_bytes(damaged.read_bytes()[:60])
    with pytest.raises(SightlineError, match="cannot be") as caught:
        sightline.start(photos, weights="none", out=tmp_path / "s", quiet=True)
    assert "--data.on_bad_image skip" in caught.value.cure
    skipping = {"data.on_bad_image": "skip"}
    assert sightline.start(photos, weights="none", out=tmp_path / "s", quiet=True, **skipping).report.is_file()


def test_the_network_is_named_by_the_option_of_this_command(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(SightlineError) as caught:
        sightline.start(photos, out=tmp_path / "s", quiet=True, **{"model.name": "resnet18"})
    assert "--model resnet18" in caught.value.cure and not (tmp_path / "s").exists()


def test_a_step_that_is_slower_than_estimated_is_stopped() -> None:
    config = configured({"task": "classify", "train.epochs": 5})
    assert run.limited(config, 400.0).train.max_minutes == pytest.approx(1.25 * 400 / 60, abs=0.01)
    assert run.limited(config, 2.0).train.max_minutes == 1.0
    assert run.limited(resolve(config, {"train.epochs": 1}), 400.0).train.max_minutes == 0
    assert run.limited(resolve(config, {"train.max_minutes": 3}), 400.0).train.max_minutes == 3


@pytest.mark.usefixtures("toy_ladder")
def test_a_start_with_weights_is_not_written_again_without_them(photos: Path, weights: str, tmp_path: Path) -> None:
    first = sightline.start(photos, weights=weights, out=tmp_path / "s", quiet=True)
    before = first.report.read_bytes()
    with pytest.raises(SightlineError, match="other settings") as caught:
        sightline.start(photos, weights="none", out=tmp_path / "s", quiet=True)
    with pytest.raises(SightlineError, match="other settings") as omitted:
        sightline.start(photos, out=tmp_path / "s", quiet=True)
    assert omitted.value.cure.startswith(f"repeat the options of that start: --weights {weights}; or ")
    assert "weights was" in caught.value.why and first.report.read_bytes() == before


@pytest.mark.parametrize("setting", [{"train.best_metric": "accuracy"}, {"train.patience": 3}])
def test_settings_by_which_validation_images_choose_are_errors(
    photos: Path, tmp_path: Path, setting: dict[str, Any]
) -> None:
    with pytest.raises(SightlineError, match="not possible in a start") as caught:
        sightline.start(photos, out=tmp_path / "s", weights="none", quiet=True, **setting)
    assert "sightline train photos_finetune" in caught.value.cure and not (tmp_path / "s").exists()
    require_settings({"train.best_metric": "epoch", "train.patience": 0})
    require_settings({"train.patience": "0"})  # as on the command line


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


def test_relabeled_and_changed_images_are_other_data_but_copies_are_not(photos: Path, tmp_path: Path) -> None:
    def digest(folder: Path) -> str:
        return open_source(Data(path=str(folder)), 0).listing_digest

    copy = Path(shutil.copytree(photos, tmp_path / "copy", copy_function=shutil.copyfile))  # with new times
    before = digest(photos)
    assert digest(copy) == before
    first = next((copy / "train" / "class_0").iterdir())
    first.write_bytes(first.read_bytes() + b"more")
    changed = digest(copy)
    first.rename(copy / "train" / "class_1" / "new.png")
    assert len({before, changed, digest(copy)}) == 3


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


@pytest.mark.usefixtures("toy_ladder")
def test_data_of_a_library_have_a_name(tmp_path: Path) -> None:
    result = sightline.start("sklearn:digits", weights="none", out=tmp_path / "s", quiet=True, **{"train.epochs": 1})
    assert "path: sklearn:digits" in (tmp_path / "s/knn-pixels/recipe.yaml").read_text() and result.sentences


def test_for_masks_a_network_of_timm_is_an_encoder(make_scenes: Callable[..., Path], tmp_path: Path) -> None:
    data = Data(path=str(make_scenes(tmp_path / "scenes")), palette="landcover")
    source = open_pairs(data, 0)[0]
    assert source
    names = [step.config.model.name for step in run.ladder("masks", source, "x.safetensors", "timm/resnet18", {})]
    assert names[2:4] == ["light/resnet18", "light/resnet18"]
    assert run.ladder("labels", source, "", "timm/resnet18", {})[3].config.model.name == "timm/resnet18"


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


class Pair(NamedTuple):
    difference: float
    p: float


def test_a_step_is_replaced_only_by_one_that_is_shown_to_be_better() -> None:
    table = {(0, 1): Pair(0.2, 1e-6), (1, 2): Pair(0.1, 0.02), (1, 3): Pair(-0.2, 1e-6), (1, 4): Pair(0.1, 0.01)}
    best, pairs = climb(5, lambda first, second: table[first, second])  # ty: ignore
    assert best == 4 and len(pairs) == 4, "0.02 x 4 comparisons is above 0.05, 0.01 x 4 is not"


def test_steps_that_are_equal_are_rarely_called_better() -> None:
    """The rate of false statements that docs/claims.md gives, with fewer trials."""
    from sightline.stats.nested import paired_difference

    rng, wrong, trials = np.random.default_rng(0), 0, 300
    for _ in range(trials):
        easy = rng.random(300) < 0.4  # images on which all steps agree
        right = np.where(easy, True, rng.random((6, 300)) < 0.5)
        pairs = {}

        def pair_of(first: int, second: int, right: np.ndarray = right, pairs: dict = pairs) -> Any:
            found = paired_difference(right[first], right[second], None)
            return Pair(found.value, found.p)

        wrong += climb(6, pair_of)[0] != 0
    assert wrong / trials < 0.05 + 3 * (0.05 * 0.95 / trials) ** 0.5


def test_on_pixels_and_constant_are_valid_recipes() -> None:
    for ladder in (LADDERS["labels"], LADDERS["label sets"]):
        knn = next(step.config for step in ladder(300) if step.name == "knn")
        assert on_pixels(knn).model.name == "pixels" and constant(knn).optim.name == "lbfgs"
    assert results.ALPHA == 0.05 and ENVIRONMENT == 3


def test_the_ladder_of_masks(make_scenes: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = make_scenes(tmp_path / "data", train=8, val=12, size=32)
    settings: dict[str, Any] = {"data.palette": "landcover", "augment.window": [32, 32], "train.precision": "fp32"}
    settings |= {"train.threads": 1, "report.samples": 0}
    toys = {step.name: step for step in LADDERS["masks"](32)}
    small = resolve(toys["scratch"].config, {"model.args": {"width": 8, "blocks": [1, 1, 1, 1], "decoder": [8, 8]}})
    steps = [
        toys["most-frequent"],
        toys["colors"],
        replace(toys["scratch"], config=resolve(small, {"train.epochs": 3})),
    ]
    monkeypatch.setitem(LADDERS, "masks", lambda side: tuple(steps))
    found = sightline.start(scenes, weights="none", out=tmp_path / "s", quiet=True, **settings)
    assert {path.parent.name for path in (tmp_path / "s").glob("*/recipe.yaml")} == {step.name for step in steps}
    assert "mean IoU" in found.sentences[0] and all("selection" not in line for line in found.sentences)
    constant, colors = (
        sightline.Run(tmp_path / "s" / name).metrics["mean_iou"] for name in ("most-frequent", "colors")
    )
    assert colors > constant + 0.1


def test_the_ladder_of_masks_with_a_pre_trained_encoder(
    make_scenes: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = tuple(step for step in LADDERS["masks"](32) if step.name in ("most-frequent", "frozen", "finetune"))
    monkeypatch.setitem(LADDERS, "masks", lambda side: steps)
    scenes = make_scenes(tmp_path / "data", train=6, val=6, size=32)
    network, file = timm.create_model("test_resnet", pretrained=False), tmp_path / "weights.safetensors"
    save_file(network.state_dict(), file)
    settings: dict[str, Any] = {"data.palette": "landcover", "augment.window": [32, 32], "train.precision": "fp32"}
    settings |= {"train.threads": 1, "report.samples": 0, "train.epochs": 1, "model.args": {}}
    found = sightline.start(
        scenes, weights=str(file), model="timm/test_resnet", out=tmp_path / "s", quiet=True, minutes=3, **settings
    )
    frozen, tuned = (
        json.loads((tmp_path / "s" / name / "provenance.json").read_text())["weights"]
        for name in ("frozen", "finetune")
    )
    assert frozen["source"] == str(file) and tuned["source"].startswith(str(tmp_path / "s/frozen"))
    assert "mean IoU" in found.sentences[0]


def test_fine_tuning_of_masks_begins_with_the_decoder_of_the_frozen_step(
    make_scenes: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toys = {step.name: step for step in LADDERS["masks"](32)}
    assert toys["finetune"].begins_with == "frozen"
    scenes = make_scenes(tmp_path / "data", train=8, val=8, size=32)
    settings: dict[str, Any] = {"data.palette": "landcover", "augment.window": [32, 32], "train.precision": "fp32"}
    settings |= {"train.threads": 1, "report.samples": 0}
    model = {"model.args": {"width": 8, "blocks": [1, 1, 1, 1], "decoder": [8, 8]}, "train.epochs": 2}
    small = resolve(toys["scratch"].config, model)
    first = LadderStep("frozen", "a decoder", small, epochs=1)
    second = LadderStep("finetune", "fine-tuning", small, epochs=1, begins_with="frozen")
    monkeypatch.setitem(LADDERS, "masks", lambda side: (toys["most-frequent"], first, second))
    sightline.start(scenes, weights="none", out=tmp_path / "s", quiet=True, **settings)
    loaded = json.loads((tmp_path / "s/finetune/provenance.json").read_text())["weights"]
    assert loaded["source"].startswith(str(tmp_path / "s/frozen")) and loaded["share"] == 1.0
    assert json.loads((tmp_path / "s/frozen/provenance.json").read_text())["weights"] is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weights": "missing.safetensors"}, "the weights were not found"),
        ({"model": "timm/no_such_network"}, "unknown model"),
        ({"model": "small_cnn"}, "no pre-trained weights for small_cnn"),
    ],
)
def test_weights_that_do_not_exist_are_refused_before_the_data_are_opened(
    options: dict[str, str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(SightlineError, match=words) as caught:
        sightline.start(tmp_path / "nowhere", **options, out=tmp_path / "s", quiet=True)
    assert caught.value.cure and not (tmp_path / "s").exists()


@pytest.mark.parametrize("key", ["train.epoch", "trian.epochs", "epochs"])
def test_unknown_settings_are_refused_before_the_weights_are_looked_up(key: str, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match=f"no setting '{key}'") as caught:
        sightline.start(tmp_path / "none", weights=str(tmp_path / "none.pt"), **{key: 3})
    assert "train.epochs" in caught.value.cure


def test_no_time_is_refused_before_the_data_are_read(tmp_path: Path) -> None:
    with pytest.raises(SightlineError) as caught:
        sightline.start(tmp_path / "nowhere", minutes=0, quiet=True)
    assert caught.value.what == "minutes is 0" and "--minutes 10" in caught.value.cure


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


def test_a_start_on_label_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_quarters(tmp_path / "data", 24, 12, 16)
    steps = {step.name: step for step in LADDERS["label sets"](16)}
    small = {**SMALL, **FAST, "train.epochs": 2, "report.train_samples": 0}
    fixed = {key: value for key, value in small.items() if key not in ("model.name", "model.args", "train.epochs")}
    pixels = resolve(steps["knn-pixels"].config, fixed)
    scratch = resolve(steps["scratch"].config, small | {"augment.resize": 0, "augment.progressive": []})
    toys = (replace(steps["knn-pixels"], config=pixels), replace(steps["scratch"], config=scratch, epochs=1))
    monkeypatch.setitem(LADDERS, "label sets", lambda side: (steps["most-frequent"], *toys))
    found = sightline.start(tmp_path / "data", weights="none", out=tmp_path / "s", quiet=True)
    assert {path.parent.name for path in (tmp_path / "s").glob("*/recipe.yaml")} == {
        "most-frequent",
        "knn-pixels",
        "scratch",
    }
    assert "mean average precision" in found.sentences[0]


@pytest.mark.usefixtures("toy_ladder")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_start_that_gets_a_signal_goes_on_with_the_same_command(
    number: signal.Signals, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = fork(killed_start, str(photos), str(tmp_path / "s"), int(number), output=tmp_path / "text")
    status, text = ended(process), (tmp_path / "text").read_text()
    assert status == (INTERRUPTED if number == signal.SIGINT else -number), text
    assert ("run the same command again" in text) == (number == signal.SIGINT)
    assert 0 < len(json.loads((tmp_path / "s/start.json").read_text())["steps"]) < 4
    sightline.start(photos, weights="none", out=tmp_path / "s")
    said = capsys.readouterr().out
    assert "training from scratch: resuming" in said and "k-NN on raw pixels: done" in said
    assert sightline.Run(tmp_path / "s/scratch").metrics["epoch"] == 4


@pytest.mark.usefixtures("toy_ladder")
def test_what_holds_for_all_steps_is_said_once(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sightline.start(photos, weights="none", minutes=5, out=tmp_path / "s")
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("doctor: ") for line in lines) == 1
    assert sum(line.startswith("report: ") for line in lines) > 2, "each step has its own"
