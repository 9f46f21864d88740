"""`sightline repeat`: folds and seeds of a recipe, the mean with its interval, and what interrupts it."""

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import sightline
from accessibility import violations_of_file
from config_toys import configured
from film_toys import write_films
from sightline import SightlineError
from sightline.__main__ import run as command_line
from sightline.errors import INTERRUPTED
from sightline.recipes import load_recipe
from sightline.repeat import several
from sightline.repeat.results import RepeatResult, Repeats, of_folds, of_seeds
from sightline.repeat.several import parse_seeds
from sightline.stats.folds import fold_interval, fold_interval_of_shares
from sightline.stats.intervals import mean_interval
from sightline.tasks.files import load_recipe_file
from transfer_toys import copy_images

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.usefixtures("quick_figures")
SMALL = {
    "task": "classify", "name": "small", "model.name": "small_cnn", "model.args": {"widths": [8, 8], "hidden": 8},
    "data.size": 16, "train.batch_size": 16, "train.epochs": 2, "train.precision": "fp32", "train.threads": 1,
    "report.samples": 0, "report.baselines": False,
}  # fmt: skip


def repeated(data: Path, out: Path, **options: Any) -> RepeatResult:
    return sightline.repeat(configured(SMALL), data, out=out, quiet=True, **options)


@pytest.fixture(scope="module")
def folds(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> RepeatResult:
    return repeated(photos / "train", tmp_path_factory.mktemp("repeat") / "folds", folds=3)


def test_every_image_is_validated_once_and_the_mean_has_the_interval_of_folds(
    folds: RepeatResult, photos: Path
) -> None:
    root = photos / "train"
    runs = [sightline.Run(folds.path / f"fold-{fold}-seed-0") for fold in (1, 2, 3)]
    names = [line.split(",")[0] for run in runs for line in (run.path / "predictions/val.csv").read_text().split()[1:]]
    assert sorted(names) == sorted(str(path.relative_to(root)) for path in root.rglob("*.png"))
    accuracies = [run.metrics["accuracy"] for run in runs]
    assert folds.scores.tolist() == [accuracies] and folds.score == pytest.approx(np.mean(accuracies))
    low, high = fold_interval(np.array(accuracies))
    correct = np.repeat([1.0, 0.0], [round(64 * folds.score), 64 - round(64 * folds.score)])
    least = mean_interval(correct)
    assert folds.interval == pytest.approx((max(min(low, least[0]), 0), min(max(high, least[1]), 1)), abs=0.01)
    assert folds.sentence.startswith(f"Accuracy {100 * folds.score:.1f} [") and "mean of 3 folds" in folds.sentence


def test_nothing_is_chosen_on_the_images_of_the_scores(folds: RepeatResult, photos: Path, tmp_path: Path) -> None:
    config = load_recipe_file(folds.path / "fold-2-seed-0" / "recipe.yaml")
    assert (config.train.best_metric, config.data.fold, config.train.seed) == ("epoch", "2/3", 0)
    assert not any("too high" in note for note in folds.notes)
    chosen = repeated(photos, tmp_path / "r", seeds="0,1", **{"train.best_metric": "accuracy"})
    assert any("too high" in note for note in chosen.notes)


def test_the_page_tables_and_the_report_again(folds: RepeatResult, browser: "Browser") -> None:
    assert violations_of_file(browser, folds.report) == []
    page, known = folds.report.read_text(), json.loads((folds.path / "repeat.json").read_text())
    assert "Nadeau and Bengio" in page and 'href="fold-3-seed-0/report.html"' in page
    assert known["accuracy"] == folds.score and known["interval"] == list(folds.interval or ())
    assert len((folds.path / "repeat.csv").read_text().split()) == 4
    folds.report.unlink()
    assert sightline.report(folds.path, quiet=True) == folds.report and folds.report.read_text() == page


def test_seeds_may_be_numbers() -> None:
    assert parse_seeds([0, 2], "--seeds") == parse_seeds("0,2", "--seeds") == (0, 2) and parse_seeds(3, "--seeds") == (
        3,
    )


def test_more_seeds_are_added_to_a_finished_repetition(photos: Path, tmp_path: Path) -> None:
    first = repeated(photos, tmp_path / "r", seeds="0,1")
    assert first.scores.shape == (2, 1) and first.interval and "2 seeds" in first.sentence
    weights = tmp_path / "r" / "seed-0" / "checkpoints" / "last" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    more = repeated(photos, tmp_path / "r", seeds="2,0")
    assert more.plan.seeds == (0, 1, 2) and more.scores.shape == (3, 1) and weights.stat().st_mtime_ns == before
    assert (tmp_path / "r" / "repeat.csv").read_text().split()[-1].startswith("seed-2,,2,")


def test_folds_that_divide_films_give_no_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The images of a fold are too far apart to be found as frames of a film, and would count as independent."""
    films = write_films(tmp_path / "films", frames=20)
    divided = sightline.repeat(configured(SMALL), films, out=tmp_path / "r", folds=3)
    said = capsys.readouterr().out
    assert "warning: 80 of 80 images are of 4 films" in said
    assert said.count("found 2 class folders") == 1, "the same for all folds"
    assert divided.interval is None and any("4 films" in note for note in divided.notes)
    sightline.report(tmp_path / "r", quiet=True)
    assert "4 films" in (tmp_path / "r" / "report.html").read_text()
    kept = {"data.group": "none"}
    assert not any("films" in note for note in repeated(films, tmp_path / "k", folds=3, **kept).notes)


@pytest.mark.parametrize(
    "content", ["{}", '{"name": "a", "folds": "x", "seeds": [0]}', '{"name": "a", "folds": 3, "seeds": 1}']
)
def test_a_damaged_mark_is_an_error_with_a_cure(tmp_path: Path, content: str) -> None:
    (tmp_path / "repeat.json").write_text(content)
    with pytest.raises(SightlineError, match="is damaged") as caught:
        sightline.report(tmp_path, quiet=True)
    assert "delete this file" in caught.value.cure


def test_folds_and_seeds_together(folds: RepeatResult, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(folds.path, tmp_path / "both")
    both = repeated(photos / "train", tmp_path / "both", folds=3, seeds="0,1")
    assert both.scores[0].tolist() == folds.scores[0].tolist() and both.scores.shape == (2, 3)
    low, high = fold_interval(both.scores.mean(0))
    assert both.interval and both.interval[0] <= max(low, 0) and both.interval[1] >= min(high, 1)
    assert "3 folds and 2 seeds" in both.sentence


def test_an_interrupted_repetition_is_resumed(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []

    def interrupted(config: Any, **options: Any) -> Any:
        if trained == ["seed-0"]:
            raise SightlineError("interrupted", status=INTERRUPTED)
        trained.append(config.name)
        return train(config, **options)

    train = several.train
    monkeypatch.setattr(several, "train", interrupted)
    with pytest.raises(SightlineError) as caught:
        repeated(photos, tmp_path / "r", seeds="0,1,2")
    assert caught.value.status == INTERRUPTED and "resume the repetition in" in caught.value.cure
    page = sightline.report(tmp_path / "r", quiet=True)
    assert "Not finished: seed-1, seed-2" in page.read_text()
    monkeypatch.setattr(several, "train", train)
    assert repeated(photos, tmp_path / "r", seeds="0,1,2").missing == () and trained == ["seed-0"]


def test_folds_that_agree_have_an_interval_with_width(tmp_path: Path) -> None:
    plan, equal, apart = Repeats("r", 3, (0,)), np.ones((1, 3)), np.array([[0.5, 0.6, 0.7]])

    def interval(scores: np.ndarray, images: int, why: str = "") -> tuple[object, list[str]]:
        names = tuple(map(str, range(images)))
        return of_folds(tmp_path, plan, scores, True, lambda run, split: (names, np.ones(images), why))

    assert interval(equal, 40)[0] == pytest.approx(mean_interval(np.ones(120)))
    few, notes = interval(equal, 2)
    assert few is None and "at least 10 images" in notes[0]
    rare, notes = interval(equal, 9, "a class is rare")
    assert rare is None and "fold-1-seed-0: a class is rare" in notes[0]
    assert of_folds(tmp_path, plan, equal, True, None)[0] is None
    (tmp_path / "fold-1-seed-0").mkdir()
    (tmp_path / "fold-1-seed-0" / "provenance.json").write_text('{"data": {"counts": {"val": 50}}}')
    assert of_folds(tmp_path, plan, apart, True, None)[0] == pytest.approx(fold_interval_of_shares(apart[0], 50))
    assert of_folds(tmp_path, plan, apart * [[1, 1, np.nan]], True, None)[0] is None


def test_a_rejected_command_leaves_nothing_that_blocks_the_next_one(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="65 folds cannot be made of 64"):
        repeated(photos / "train", tmp_path / "r", folds=65)
    assert repeated(photos / "train", tmp_path / "r", folds=3).plan.folds == 3


def test_mistakes_are_said(photos: Path, folds: RepeatResult, tmp_path: Path) -> None:
    def error(**options: Any) -> SightlineError:
        with pytest.raises(SightlineError) as caught:
            repeated(photos, **{"out": tmp_path / "r", **options})
        assert caught.value.cure
        return caught.value

    assert error().what == "there is nothing to repeat"
    assert error(folds=2).what == "--folds 2 is too few"
    assert error(folds=3, **{"train.seed": 7}).cure == "--seeds 7"
    assert error(folds=3, **{"data.fold": "1/4"}).what == "data.fold differs between the runs"
    inner = error(folds=3, **{"data.inner_fraction": 0.2})
    assert inner.what == "these runs would not be validated on the folds"
    assert "--data.inner_fraction 0" in inner.cure
    assert error(seeds="0,0").what == "a seed is listed twice"
    assert "a, b" not in error(seeds="a,b").cure and "--seeds 0,1,2" in error(seeds="a,b").cure
    assert error(folds=5).what.startswith("these data have a validation split")
    with pytest.raises(SightlineError, match="a repetition with 3 folds"):
        repeated(photos / "train", folds.path, folds=4)
    with pytest.raises(SightlineError, match="the initial weights have seen the folds"):
        seen = {"model.weights": str(folds.path / "fold-1-seed-0")}
        repeated(photos / "train", tmp_path / "r", folds=3, **seen)
    with pytest.raises(SightlineError, match="and is no run"):
        sightline.report(folds.path, folds.path / "fold-1-seed-0", out=tmp_path / "c")
    with pytest.raises(SightlineError, match="other settings than the repetition now"):
        sightline.repeat(configured(SMALL | {"optim.lr": 0.5}), photos / "train", folds=3, out=folds.path, quiet=True)


def test_the_command_takes_settings(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [token for key, value in SMALL.items() if key not in ("task", "name")
                for token in (f"--{key}", json.dumps(value) if not isinstance(value, str) else value)]  # fmt: skip
    out = ["--out", str(tmp_path / "r"), "--quiet"]
    assert command_line(["repeat", "photos_scratch", "--data", str(photos), "--seeds", "3,4", *out, *settings]) == 0
    assert capsys.readouterr().out.strip().endswith("r/report.html")


def test_runs_on_different_images_have_no_interval_together(tmp_path: Path) -> None:
    def scores(run: Path, split: str) -> tuple[tuple[str, ...], np.ndarray, str]:
        return tuple(f"{run.name}-{number}" for number in range(20)), np.ones(20), ""

    interval, notes = of_seeds(tmp_path, ["seed-0", "seed-1"], scores)
    assert interval is None and "different images" in notes[0]


def test_runs_of_other_data_or_weights_are_not_averaged(
    photos: Path, tmp_path: Path, make_photos: Callable[..., Path]
) -> None:
    data, out = make_photos(tmp_path / "data", train=8, val=4), tmp_path / "r"
    repeated(data, out, seeds="0,1")
    first, second = sorted((data / "val").iterdir())[:2]
    moved = next(first.iterdir())
    moved.rename(second / f"other-{moved.name}")  # a label is corrected
    with pytest.raises(SightlineError, match="data: other files or labels") as caught:
        repeated(data, out, seeds="0,1,2")
    assert "seed-0" in caught.value.why and "--overwrite" in caught.value.cure and not (out / "seed-2").exists()
    assert repeated(data, out, seeds="0,2", overwrite=True).plan.seeds == (0, 2)
    # Initial weights that were trained again.
    start = sightline.train(configured(SMALL), photos, out=tmp_path / "start", quiet=True)
    repeated(photos, tmp_path / "w", seeds="0,1", **{"model.weights": str(start.path)})
    sightline.train(configured(SMALL), photos, out=start.path, overwrite=True, quiet=True, **{"train.seed": 5})
    with pytest.raises(SightlineError, match=r"model\.weights: other files"):
        repeated(photos, tmp_path / "w", seeds="0,1,2", **{"model.weights": str(start.path)})


def test_weights_that_have_seen_the_folds_are_found_by_any_path(photos: Path, tmp_path: Path) -> None:
    start = sightline.train(configured(SMALL), photos, out=tmp_path / "start", quiet=True)
    for weights in (start.path, start.path / "checkpoints" / "best"):
        with pytest.raises(SightlineError, match="seen the folds"):
            repeated(photos / "train", tmp_path / "r", folds=3, **{"model.weights": str(weights)})


def test_overwrite_deletes_nothing_if_the_new_command_is_wrong(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "r"
    repeated(photos, out, seeds="0,1")
    with pytest.raises(SightlineError, match="no such file"):
        repeated(photos / "missing", out, seeds="0,1", overwrite=True)
    with pytest.raises(SightlineError, match="unknown model"):
        repeated(photos, out, seeds="0,1", overwrite=True, **{"model.name": "smal_cnn"})
    assert (out / "seed-0" / "recipe.yaml").is_file() and (out / "seed-1" / "recipe.yaml").is_file()


def test_overwrite_removes_the_numbers_of_the_deleted_runs(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "r"
    repeated(photos, out, seeds="0,1")
    (out / "repeat.json").unlink()  # as the error for a damaged file advises

    def interrupt(*args: Any) -> bool:
        raise SightlineError("interrupted", status=INTERRUPTED)

    monkeypatch.setattr(importlib.import_module("sightline.repeat.run"), "train_or_resume", interrupt)
    with pytest.raises(SightlineError, match="other settings"):
        repeated(photos, out, seeds="0,1", **{"optim.lr": 0.5})
    with pytest.raises(SightlineError, match="interrupted"):
        repeated(photos, out, seeds="0,1", overwrite=True, **{"optim.lr": 0.5})
    assert sorted(path.name for path in out.iterdir() if path.name[0] != ".") == [
        "figures",
        "inputs.json",
        "repeat.json",
    ]
    assert "accuracy" not in json.loads((out / "repeat.json").read_text())


def test_a_rejected_command_does_not_change_the_repetition(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "r"
    repeated(photos / "train", out, folds=3)
    before = (out / "repeat.json").read_bytes()
    with pytest.raises(SightlineError, match="other settings"):
        repeated(photos / "train", out, folds=3, seeds="0,1", **{"optim.lr": 0.5})
    assert (out / "repeat.json").read_bytes() == before
    # Without repeat.json, as after the cure for a damaged one, the finished runs are kept.
    (out / "repeat.json").unlink()
    assert repeated(photos / "train", out, folds=3).missing == ()


def test_settings_that_a_resumed_run_may_change_are_applied(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as those that the error of a full memory advises."""
    resumed: list[dict[str, Any]] = []
    real = several.resume

    def resume(run: Path, **settings: Any) -> sightline.Run:
        resumed.append(settings)
        return real(run, **settings)

    monkeypatch.setattr(several, "resume", resume)
    result = repeated(photos, tmp_path / "r", seeds="0,1")
    log = result.path / "seed-1" / "metrics.jsonl"
    log.write_text("\n".join(line for line in log.read_text().splitlines() if '"done"' not in line) + "\n")
    repeated(photos, tmp_path / "r", seeds="0,1", **{"train.eval_batch_size": 7})
    assert [each["train.eval_batch_size"] for each in resumed] == [7]
    assert load_recipe_file(result.path / "seed-1" / "recipe.yaml").train.eval_batch_size == 7


def test_a_pretraining_without_labels_has_nothing_to_repeat(photos: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    copy_images(photos, images)
    config = load_recipe("byol_fast")
    with pytest.raises(SightlineError, match="cannot be compared") as caught:
        sightline.repeat(config, images, out=tmp_path / "r", seeds="0,1", quiet=True)
    assert "--pretrain.probe LABELED" in caught.value.cure and not (tmp_path / "r").exists()
    with pytest.raises(SightlineError, match="has no folds"):
        sightline.repeat(config, images, out=tmp_path / "r", folds=3, quiet=True, **{"pretrain.probe": str(photos)})
