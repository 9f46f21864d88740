"""Two repetitions on the same folds: differences fold by fold, and what cannot be compared."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

import sightline
from accessibility import violations_of_file
from config_toys import configured
from sightline import SightlineError
from sightline.repeat import results
from sightline.repeat.results import RepeatResult, sentence_of
from sightline.repeat.versus import differences, sentence, validated
from sightline.stats.folds import fold_interval
from sightline.stats.nested import paired_difference
from sightline.tasks import TASKS

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.usefixtures("quick_figures")
PROBE = {
    "task": "classify", "name": "small", "model.name": "small_cnn", "model.args": {"widths": [8, 8], "hidden": 8},
    "data.size": 16, "train.batch_size": 16, "train.epochs": 3, "train.precision": "fp32", "train.threads": 1,
    "train.device": "cpu", "report.samples": 0, "report.baselines": False, "optim.lr": 0.05,
}  # fmt: skip


def repeated(data: Path, out: Path, changes: dict[str, Any], **options: Any) -> RepeatResult:
    return sightline.repeat(configured(PROBE | changes), data, out=out, quiet=True, **options)


@pytest.fixture(scope="module")
def pair(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RepeatResult, RepeatResult]:
    """Repetitions with three folds: one that learns, and one that hardly does."""
    root = tmp_path_factory.mktemp("versus")
    learns = repeated(photos / "train", root / "learns", {}, folds=3)
    return learns, repeated(photos / "train", root / "slow", {"optim.lr": 1e-6}, folds=3, seeds="0,1")


def test_differences_are_taken_fold_by_fold(pair: tuple[RepeatResult, RepeatResult], tmp_path: Path) -> None:
    learns, slow = pair
    page = sightline.report(slow.path, learns.path, out=tmp_path / "c", quiet=True)
    known = json.loads((tmp_path / "c" / "compare.json").read_text())
    (found,) = known["differences"]
    expected = learns.scores[0] - slow.scores.mean(0)
    assert found["folds"] == pytest.approx(expected) and found["mean"] == pytest.approx(expected.mean())
    assert found["mean"] > 0.2 and known["reference"] == "slow" and page == tmp_path / "c" / "report.html"
    low, high = fold_interval(expected)
    assert found["interval"][0] <= low and found["interval"][1] >= high
    with open(tmp_path / "c" / "compare.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["slow"]) for row in rows] == pytest.approx(slow.scores.mean(0).tolist(), abs=1e-8)


def test_the_interval_is_not_narrower_than_that_over_the_images(pair: tuple[RepeatResult, RepeatResult]) -> None:
    learns, slow = pair
    (found,) = differences(["slow", "learns"], [slow, learns])
    files = [[(one.path / f"fold-{fold}-seed-0/predictions/val.csv") for fold in (1, 2, 3)] for one in pair]
    right: list[list[float]] = [[], []]
    for each, paths in zip(right, files, strict=True):
        for path in paths:
            with open(path, newline="") as file:
                each += [float(row["label"] == row["truth"]) for row in csv.DictReader(file)]
    low, high = paired_difference(np.array(right[1]), np.array(right[0])).interval()
    assert found.interval[0] <= low + 1e-12 and found.interval[1] >= high - 1e-12
    wider = differences(["slow", "learns", "again"], [slow, learns, learns])
    assert wider[0].interval[0] < found.interval[0] and wider[0].interval[1] > found.interval[1]


def test_the_page_of_the_comparison(
    pair: tuple[RepeatResult, RepeatResult], tmp_path: Path, browser: "Browser", capsys: pytest.CaptureFixture[str]
) -> None:
    page = sightline.report(*(one.path for one in pair), out=tmp_path / "c")
    said = capsys.readouterr().out
    text = page.read_text()
    assert "slow" in said and "points" in said
    assert "optim.lr" in text and "train.seed" not in text and violations_of_file(browser, page) == []
    sightline.report(*(one.path for one in pair), out=tmp_path / "c", quiet=True)
    runs = [pair[0].path / "fold-1-seed-0", pair[1].path / "fold-1-seed-0"]
    with pytest.raises(SightlineError, match="comparison of other runs"):
        sightline.report(*runs, out=tmp_path / "c", quiet=True)


def test_repetitions_that_never_differ_have_an_interval_with_a_width(pair: tuple[RepeatResult, RepeatResult]) -> None:
    (found,) = differences(["a", "b"], [pair[0], pair[0]])
    assert found.interval[0] < -0.01 and found.interval[1] > 0.01
    assert found.sentence.startswith("no difference in accuracy between a and b can be shown: 0.0 points")


@pytest.mark.parametrize(
    ("lower", "difference", "interval", "said"),
    [
        (True, -0.5, (-0.8, -0.2), "b beats a"),
        (False, -0.5, (-0.8, -0.2), "a beats b"),
        (True, 0.5, (0.2, 0.8), "a beats b"),
        (True, 0.5, (-0.2, 0.8), "no difference"),
        (True, 0.5, (float("nan"), float("nan")), "no difference"),
    ],
)
def test_errors_are_better_if_they_are_lower(
    lower: bool, difference: float, interval: tuple[float, float], said: str
) -> None:
    metric = replace(TASKS["classify"].comparison(), percent=False, lower_is_better=lower)
    text = sentence(metric, difference, interval, "a", "b")
    assert text.startswith(said) and "nan" not in text
    assert sentence(replace(metric, percent=True), difference, interval, "a", "b").startswith(said)


def test_repetitions_without_an_interval_over_images_have_none_for_their_difference(
    pair: tuple[RepeatResult, RepeatResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "FEWEST", 1000)
    (found,) = differences(["slow", "learns"], [pair[1], pair[0]])
    assert found.sentence.startswith("no difference in accuracy") and np.isnan(found.interval).all()
    assert "There is no interval: it needs at least 1000 images" in found.sentence


def test_names_of_images_need_not_be_utf_8(pair: tuple[RepeatResult, RepeatResult], tmp_path: Path) -> None:
    shutil.copytree(pair[0].path, tmp_path / "old")
    for path in (tmp_path / "old").glob("*/splits.csv"):
        path.write_bytes(path.read_bytes().replace(b"class_0", b"gr\xfcn"))
    copy = replace(pair[0], path=tmp_path / "old")
    assert all(any("gr\udcfcn" in name for name in names) for names in validated(copy))


def test_what_cannot_be_compared(pair: tuple[RepeatResult, RepeatResult], photos: Path, tmp_path: Path) -> None:
    learns, slow = pair
    other = repeated(photos / "train", tmp_path / "other", {"data.split_seed": 1}, folds=3)
    with pytest.raises(SightlineError, match="different folds") as caught:
        sightline.report(learns.path, other.path, out=tmp_path / "c", quiet=True)
    assert "--data.split_seed" in caught.value.cure
    seeds = repeated(photos, tmp_path / "seeds", {}, seeds="0,1")
    with pytest.raises(SightlineError, match="only repetitions with folds"):
        sightline.report(learns.path, seeds.path, out=tmp_path / "c", quiet=True)
    shutil.copytree(slow.path, tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "fold-2-seed-1")
    with pytest.raises(SightlineError, match="not finished") as caught:
        sightline.report(learns.path, tmp_path / "cut", out=tmp_path / "c", quiet=True)
    assert "fold-2-seed-1" in caught.value.why and not (tmp_path / "c").exists()
    with pytest.raises(SightlineError, match="repetition") as caught:
        sightline.report(learns.path, learns.path / "fold-1-seed-0", out=tmp_path / "c", quiet=True)
    assert "list repetitions only" in caught.value.cure


def test_folds_that_are_not_trained_yet_are_counted(pair: tuple[RepeatResult, RepeatResult]) -> None:
    scores = pair[1].scores.copy()
    scores[:, 1] = np.nan
    said = sentence_of(replace(pair[1], scores=scores))
    assert "mean of 2 of 3 folds and 2 seeds, which range from" in said and "nan" not in said


def test_images_that_have_changed_between_the_repetitions_are_found(
    pair: tuple[RepeatResult, RepeatResult], photos: Path, tmp_path: Path
) -> None:
    learns, _ = pair
    data = shutil.copytree(photos / "train", tmp_path / "data")
    first = repeated(data, tmp_path / "first", {}, folds=3)
    for path in data.rglob("*.png"):
        Image.open(path).point(lambda value: value // 4).save(path)
    second = repeated(data, tmp_path / "second", {}, folds=3)
    with pytest.raises(SightlineError, match="images have changed") as caught:
        sightline.report(first.path, second.path, out=tmp_path / "c", quiet=True)
    assert "other pixels" in caught.value.why
    # With other sizes, the pixels cannot be compared.
    larger = repeated(data, tmp_path / "larger", {"data.size": 20}, folds=3)
    sightline.report(learns.path, larger.path, out=tmp_path / "d", quiet=True)


def test_the_page_says_that_epochs_were_chosen_and_films_of_either_count(
    pair: tuple[RepeatResult, RepeatResult], photos: Path, tmp_path: Path
) -> None:
    learns, slow = pair
    chosen = repeated(photos / "train", tmp_path / "chosen", {}, folds=3, **{"train.best_metric": "accuracy"})
    said = "chosen: The epoch of each run was chosen on its validation images"
    report = sightline.report(learns.path, chosen.path, out=tmp_path / "c", quiet=True)
    assert said in report.read_text()
    filmed = replace(slow, plan=replace(slow.plan, films="40 images are of 4 films"))
    for each in ([learns, filmed], [filmed, learns]):
        (found,) = differences(["one", "two"], each)
        assert np.isnan(found.interval).all()
