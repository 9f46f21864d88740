"""`sightline start`: the ladder within a time, what is left out, and which step was worth it."""

import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import sightline
from accessibility import violations_of_file
from forked import ended, fork
from multilabel_toys import write_quarters
from sightline import SightlineError
from sightline.config.resolve import resolve
from sightline.config.schema import Data
from sightline.data.sources.open import open_source
from sightline.errors import INTERRUPTED
from sightline.insight.style import png
from sightline.recipes.ladders import LADDERS
from sightline.start import plan, results, run
from start_toys import FAST, SMALL, killed_start

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.usefixtures("quick_figures")


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


@pytest.mark.usefixtures("toy_ladder")
def test_data_of_a_library_have_a_name(tmp_path: Path) -> None:
    result = sightline.start("sklearn:digits", weights="none", out=tmp_path / "s", quiet=True, **{"train.epochs": 1})
    assert "path: sklearn:digits" in (tmp_path / "s/knn-pixels/recipe.yaml").read_text() and result.sentences


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
