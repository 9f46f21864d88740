"""Commands other than training and prediction: evaluate, demo, cache."""

import importlib
import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.utils import Bunch

import sightline
from config_toys import configured
from conftest import class_image, figures, undrawn
from sightline import SightlineError
from sightline.__main__ import run as main
from sightline.cli.inference import prediction_text
from sightline.config.resolve import resolve
from sightline.config.schema import Config
from sightline.errors import FINDINGS
from sightline.recipes import GRIDS, RECIPES, load_recipe
from sightline.runs.atomic import read_json_lines
from sightline.transfer.grid import STAGES
from sightline.transfer.outcomes import SettingComparison

demo = importlib.import_module("sightline.demo")  # the name in the package is the function


@pytest.fixture(autouse=True)
def few_figures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Draw only the figures of grids and comparisons, and those only in the tests of the demo."""
    if request.node.name.startswith("test_the_demo"):
        with figures(lambda figure: False):
            yield
    else:
        with undrawn():
            yield


def base(tiny: dict, **more: object) -> Config:
    return resolve(Config(name="t"), tiny | {"optim.lr": 0.05, "report.samples": 4} | more)


def test_evaluate_repeats_the_metrics_and_counts_test_evaluations(make_photos, tmp_path: Path, tiny: dict) -> None:
    data = make_photos(tmp_path / "data", test=4)
    run = sightline.train(base(tiny), data, out=tmp_path / "run", quiet=True)
    before = (run.path / "predictions/val.csv").read_bytes()
    numbers = sightline.evaluate(run.path, quiet=True)
    for name in ("loss", "accuracy", "accuracy_top5", "calibration_error"):
        assert numbers[name] == run.metrics[name]
    assert (run.path / "predictions/val.csv").read_bytes() == before
    sightline.evaluate(run.path, split="test", quiet=True)
    sightline.evaluate(run.path, split="test", quiet=True)
    looks = [r["look"] for r in read_json_lines(run.path / "metrics.jsonl") if r["event"] == "test"]
    assert looks == [1, 2]


def test_the_choice_of_the_best_epoch_is_stated_with_the_metrics(
    photos: Path, tmp_path: Path, tiny: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    run = sightline.train(base(tiny), photos, out=tmp_path / "run")
    best, ending = run.metrics["best_epoch"], "on these images: the result is optimistic, and no interval covers this"
    text = f"epoch {best} is the best of 2 by accuracy {ending} choice"
    assert run.metrics["selection"] == text and text in capsys.readouterr().out
    assert sightline.evaluate(run.path, quiet=True)["selection"] == text
    assert "selection" not in sightline.evaluate(run.path, data=photos / "train", quiet=True), "chose nothing"
    mean = sightline.train(base(tiny, **{"train.ensemble": 2}), photos, out=tmp_path / "mean", quiet=True)
    assert mean.metrics["selection"].startswith(f"the best 2 of 2 epochs by loss are averaged, chosen {ending}")
    once = sightline.train(base(tiny, **{"train.epochs": 1}), photos, out=tmp_path / "once", quiet=True)
    assert "selection" not in once.metrics, "one epoch is no choice"


@pytest.fixture
def flat(make_photos, tmp_path: Path) -> Path:
    """Class folders without splits."""
    make_photos(tmp_path / "both", train=10)
    return (tmp_path / "both" / "train").rename(tmp_path / "flat")


def test_other_data_without_splits_are_evaluated_completely_and_counted(
    flat: Path, tmp_path: Path, tiny: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    run = sightline.train(base(tiny), flat, out=tmp_path / "run", quiet=True)
    for path in flat.rglob("*.png"):
        copy = tmp_path / "copies" / path.parent.name / f"renamed-{path.name}"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    sightline.evaluate(run.path, data=tmp_path / "copies")
    assert "warning: 36 of these images are copies of training images of this run" in capsys.readouterr().out
    (changed,) = [row.split(",")[0] for row in (run.path / "splits.csv").read_text().split() if ",val" in row][:1]
    class_image(0, 77).save(flat / changed)
    flat.rename(tmp_path / "other")
    numbers = sightline.evaluate(run.path, data=tmp_path / "other")
    assert numbers["split"] == "all" and numbers["images"] == 40
    output = capsys.readouterr().out
    assert (
        "40" in output
        and "copies of training images" not in output
        and "this is look 1 at this test set, from 1 run" in output
    )
    assert "warning: 36 of these images have names of training images" in output
    shutil.rmtree(tmp_path / "other" / "class_1")
    shutil.rmtree(tmp_path / "other" / "class_2")
    shutil.rmtree(tmp_path / "other" / "class_3")
    assert sightline.evaluate(run.path, data=tmp_path / "other", quiet=True)["images"] == 10, (
        "a single class can be evaluated"
    )
    looks = [(r["look"], r["split"]) for r in read_json_lines(run.path / "metrics.jsonl") if r["event"] == "test"]
    assert looks == [(1, "all"), (1, "all"), (2, "all")]
    assert not (run.path / "predictions/all.csv").exists()


def test_exported_weights_are_evaluated_on_the_current_folder(
    flat: Path, photos: Path, tmp_path: Path, tiny: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = sightline.train(base(tiny, **{"train.epochs": 1}), photos, out=tmp_path / "run", quiet=True)
    weights = sightline.export(run, format="safetensors", out=tmp_path / "weights", quiet=True)
    monkeypatch.chdir(flat)
    assert sightline.evaluate(weights, data=".", quiet=True)["images"] == 40


def test_a_copy_of_the_data_of_the_run_means_its_validation_split(
    flat: Path, tmp_path: Path, tiny: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    run = sightline.train(base(tiny), flat, out=tmp_path / "run", quiet=True)
    flat.rename(tmp_path / "moved")
    numbers = sightline.evaluate(run.path, data=tmp_path / "moved")
    assert numbers["split"] == "val" and numbers["images"] == 4 and numbers["accuracy"] == run.metrics["accuracy"]
    output = capsys.readouterr().out
    assert "the data of the run in another folder: only its validation images" in output and "look 1" not in output


def test_the_data_of_the_run_given_again_mean_its_validation_split(flat: Path, tmp_path: Path, tiny: dict) -> None:
    run = sightline.train(base(tiny), flat, out=tmp_path / "run", quiet=True)
    numbers = sightline.evaluate(run.path, data=flat, quiet=True)
    assert numbers["split"] == "val" and numbers["images"] == 4 and numbers["accuracy"] == run.metrics["accuracy"]
    assert numbers["loss_interval"] == run.metrics["loss_interval"]
    low, high = numbers["accuracy_interval"]
    assert 0 <= low <= numbers["accuracy"] <= high <= 1


def test_the_validation_split_does_not_depend_on_the_training_seed(flat: Path, tmp_path: Path, tiny: dict) -> None:
    settings = {"train.epochs": 1, "report.samples": 0}
    first = sightline.train(base(tiny, **settings), flat, out=tmp_path / "a", quiet=True)
    second = sightline.train(base(tiny, **settings | {"train.seed": 1}), flat, out=tmp_path / "b", quiet=True)
    other = sightline.train(base(tiny, **settings | {"data.split_seed": 1}), flat, out=tmp_path / "c", quiet=True)
    splits = [(run.path / "splits.csv").read_text() for run in (first, second, other)]
    assert splits[0] == splits[1] != splits[2]
    lines = splits[0].splitlines()
    assert lines[0] == "filename,label,split" and len(lines) == 41
    assert sum(line.endswith(",val") for line in lines) == 4


def test_changed_validation_images_are_reported(
    make_photos, tmp_path: Path, tiny: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_photos(tmp_path / "data")
    run = sightline.train(base(tiny), data, out=tmp_path / "run", quiet=True)
    sightline.evaluate(run.path)
    assert "no longer" not in capsys.readouterr().out
    next((data / "val" / "class_0").iterdir()).unlink()
    sightline.evaluate(run.path)
    assert "the images of val have changed since the run began" in capsys.readouterr().out


def test_a_missing_split_and_a_run_without_weights_are_errors(photos: Path, tmp_path: Path, tiny: dict) -> None:
    run = sightline.train(base(tiny), photos, out=tmp_path / "run", quiet=True)
    with pytest.raises(SightlineError, match="no split 'test'") as caught:
        sightline.evaluate(run.path, split="test", quiet=True)
    assert "--split val" in caught.value.cure
    with pytest.raises(SightlineError, match="not a run") as caught:
        sightline.predict(run.path / "checkpoints" / "last", photos, out=tmp_path / "p.csv")
    assert str(run.path) in caught.value.cure
    shutil.rmtree(run.path / "checkpoints" / "best")
    with pytest.raises(SightlineError, match="no weights yet") as caught:
        sightline.evaluate(run.path, quiet=True)
    assert "sightline resume" in caught.value.cure


def test_weights_that_were_never_finite_are_said_to_be_the_cause(photos: Path, tmp_path: Path, tiny: dict) -> None:
    run = sightline.train(base(tiny), photos, out=tmp_path / "run", quiet=True)
    (run.path / "checkpoints/best/model.safetensors").unlink()
    (run.path / "metrics.jsonl").write_text('{"event": "eval", "epoch": 1, "loss": null}\n')
    with pytest.raises(SightlineError, match="no weights yet") as caught:
        sightline.evaluate(run.path)
    assert "not finite" in caught.value.why and "--optim.lr" in caught.value.cure


def test_images_before_the_run_are_an_error_with_the_right_order(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/recipe.yaml").write_text("")
    assert main(["predict", str(photos), str(tmp_path / "run"), "--out", "p.csv"]) == 2
    assert f"sightline predict {tmp_path / 'run'} {photos}" in capsys.readouterr().err


def test_printed_predictions_go_on_after_an_unreadable_image(
    photos: Path, tmp_path: Path, tiny: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    run = sightline.train(base(tiny), photos, out=tmp_path / "runs" / "run", quiet=True)
    images = tmp_path / "new"
    images.mkdir()
    for name in ("a.png", "c.png"):
        Image.new("RGB", (16, 16)).save(images / name)
    (images / "b.png").write_bytes(b"no image at all")
    assert main(["predict", str(run.path), str(images)]) == 2
    lines, error = (text.splitlines() for text in capsys.readouterr())
    assert [line[:6] for line in lines] == ["a.png:", "b.png:", "c.png:"] and "it starts with 'no image'" in lines[1]
    assert error[0] == f"loading {run.path}"
    assert error[1].endswith("1 of 3 images cannot be read") and "b.png" in error[2]
    # A run that does not exist: those beside it are named.
    assert main(["predict", str(run.path.parent / "other"), str(images)]) == 2
    assert f"pass one of these runs:\n    {run.path}" in capsys.readouterr().err
    # A run that is still being trained.
    log = run.path / "metrics.jsonl"
    log.write_text("\n".join(line for line in log.read_text().splitlines() if '"done"' not in line) + "\n")
    assert main(["predict", str(run.path), str(images / "a.png")]) == 0
    assert "training is not finished" in capsys.readouterr().err


def test_printed_predictions_of_a_list_with_a_folder_and_of_test_images(
    make_photos: Callable[..., Path], tmp_path: Path, tiny: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_photos(tmp_path / "data", test=2)
    run = sightline.train(base(tiny, **{"train.epochs": 1}), data, out=tmp_path / "run", quiet=True)
    listed = tmp_path / "found.txt"
    tested = next((data / "test").rglob("*.png"))
    listed.write_text(f"{tested.parent}\n{tested}\n")
    capsys.readouterr()
    for number in (1, 2):
        assert main(["predict", str(run.path), str(listed)]) == 2
        lines, error = capsys.readouterr()
        first, second = lines.splitlines()
        assert first.startswith(f"{tested.parent}: cannot be read") and second.startswith(f"{tested}: class_")
        assert "1 of 2 images cannot be read" in error
        assert f"1 test file: this is look {number} at this test set" in error


def test_features_are_not_printed(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {
        **{"task": "pretrain", "name": "p", "data.size": 16, "model.name": "small_cnn", "train.epochs": 1},
        **{"train.batch_size": 16, "train.precision": "fp32", "train.threads": 1, "report.samples": 0},
    }
    run = sightline.train(configured(settings), photos, out=tmp_path / "run", quiet=True)
    capsys.readouterr()
    assert main(["predict", str(run.path), str(photos / "val" / "class_0")]) == 2
    lines, error = capsys.readouterr()
    assert not lines and "this model predicts only features" in error and "the model has no classes" in error
    assert f"sightline predict {run.path} {photos / 'val' / 'class_0'} --features --out features.csv" in error


def test_the_doctor_of_the_demo_reads_its_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    demo.write_scenes(Path("demo/scenes-data"), 8, 4, size=32, seed=0)
    command = next(command for command, _ in demo.next_commands(Path("demo")) if " doctor " in command)
    assert main(shlex.split(command)[1:]) in (0, FINDINGS)
    found = json.loads(Path("demo-doctor/doctor.json").read_text(encoding="utf-8"))
    assert "urban" in found["classes"], "the masks are read with the palette of the demo"


def test_the_demo_does_not_use_a_folder_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(SightlineError, match="not empty"):
        sightline.demo(out=tmp_path, quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.slow
def test_the_demo_runs_and_can_be_repeated_after_changes_of_its_recipes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shortened: one epoch per run, one seed, a few digits and scenes, narrow networks, and no graph is traced."""
    digits = load_digits()
    few = Bunch(images=digits.images[:300], target=digits.target[:300], target_names=digits.target_names)
    monkeypatch.setattr("sklearn.datasets.load_digits", lambda: few)
    for name, value in (("SCENES_TRAIN", 8), ("SCENES_VAL", 2), ("SCENES_SIDE", 64)):
        monkeypatch.setattr(demo, name, value)
    unet = {"width": 8, "blocks": [1, 1, 1, 1], "decoder": [8], "context": False}
    toys = {
        "digits": {"model.args": {"widths": [8, 16, 16, 16]}, "report.samples": 20},
        "scenes": {"model.args": unet, "augment.window": [64, 64], "report.samples": 0},
    }
    for name, settings in toys.items():
        short = resolve(RECIPES[name](), settings | {"train.epochs": 1})
        monkeypatch.setitem(RECIPES, name, lambda short=short: short)
    grid = GRIDS["transfer_digits"]()
    toy = {"train.epochs": 1, "model.args": {"widths": [8, 16, 16]}}
    stages = {stage: resolve(getattr(grid, stage), toy) for stage in STAGES}
    for rate, settings in ((0.002, "E"), (0.001, "A")):
        stages |= {"full": resolve(stages["full"], {"optim.lr": rate})}
        stages |= {"frozen": resolve(stages["frozen"], {"optim.weight_decay": rate})}
        changed = grid.model_copy(update=stages | {"seeds": (0,), "settings": tuple(settings)})
        monkeypatch.setitem(GRIDS, "transfer_digits", lambda changed=changed: changed)
        *runs, result = sightline.demo(out=tmp_path / "demo", quiet=True)
        assert [run.path.name for run in runs] == ["digits", "scenes"]
        assert all((folder / "report.html").is_file() for folder in (runs[0].path, runs[1].path, result.report.parent))
        assert [outcome.setting for outcome in result.outcomes] == list(settings) and not result.missing
    assert load_recipe(str(tmp_path / "demo" / "transfer" / "A-0")).optim.lr == 0.001
    assert "no gain by pre-training is shown here" in demo.look_first(tmp_path / "demo", [result])
    won = SettingComparison("A", "C", 0.1, (0.02, 0.18), 0.01, "C beats A by 10.0 points")
    said = demo.look_first(tmp_path / "demo", [replace(result, comparisons=(won,))])
    assert f"{result.report}, pre-training helps here: C beats A by 10.0 points." in said
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("uvicorn.Server.run", lambda server, sockets: None)  # it would serve until Ctrl-C
    exported: list[Path] = []
    export_onnx = lambda folder, config, target, *rest: exported.append(folder) or target  # noqa: E731
    monkeypatch.setattr(importlib.import_module("sightline.export"), "export_onnx", export_onnx)
    for command, _ in demo.next_commands(Path("demo")):
        if "C-p0-0" not in command:  # missing in this short grid
            assert main(shlex.split(command)[1:]) in (0, FINDINGS), command
    assert exported == [Path("demo/digits")]


def test_a_custom_cache_folder_can_be_listed_and_cleared(photos: Path, tmp_path: Path, tiny: dict) -> None:
    own = tmp_path / "cache"
    sightline.train("digits", photos, out=tmp_path / "run", quiet=True, **tiny | {"data.cache_dir": str(own)})
    assert str(photos) in sightline.cache(folder=own)
    assert sightline.cache(folder=own, clear=True).startswith("removed 2 entries")
    assert sightline.cache(folder=own) == "the cache is empty"


def test_evaluate_takes_settings_for_reading_other_data(
    flat: Path, photos: Path, tmp_path: Path, tiny: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    made = sightline.train(base(tiny, **{"train.epochs": 1}), photos, out=tmp_path / "run", quiet=True)
    next((flat / "class_0").iterdir()).write_bytes(b"")
    command = ["evaluate", str(made.path), "--data", str(flat)]
    assert main(command) == 2 and "--data.on_bad_image skip" in capsys.readouterr().err
    assert main([*command, "--data.on_bad_image", "skip"]) == 0
    assert "images             39" in capsys.readouterr().out
    assert main(["evaluate", str(made.path), "--data.on_bad_image", "skip"]) == 2
    assert "--data PATH" in capsys.readouterr().err


def test_many_images_are_not_printed_and_a_few_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(30):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{index:02}.png")
    assert main(["predict", "run", *sorted(map(str, tmp_path.glob("*.png")))]) == 2
    error = capsys.readouterr().err
    assert "more than 20 images are not printed" in error and "07.png, ...\n" in error and "08.png" not in error


def test_moved_data_of_a_run_are_its_own_also_with_splits(
    make_photos: Callable[..., Path], tiny: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_photos(tmp_path / "old")
    run = sightline.train(base(tiny, **{"report.samples": 0}), data, out=tmp_path / "run", quiet=True)
    moved = data.rename(tmp_path / "new")
    capsys.readouterr()
    found = sightline.evaluate(run, data=moved)
    assert "these are the data of the run in another folder" in capsys.readouterr().out
    assert found["accuracy"] == run.metrics["accuracy"] and "look" not in found
    assert found["selection"] == run.metrics["selection"]
    other = sightline.evaluate(run, data=make_photos(tmp_path / "other", val=6), quiet=True)
    assert other["look"] == 1 and "selection" not in other


def test_a_run_that_cannot_be_written_to_is_an_error_before_it_is_evaluated(
    photos: Path, tiny: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = sightline.train(base(tiny, **{"report.samples": 0}), photos, out=tmp_path / "run", quiet=True)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != run.path)
    for command in ("evaluate", "report"):
        with pytest.raises(SightlineError, match="this run cannot be written to") as caught:
            getattr(sightline, command)(run.path, quiet=True)
        assert f"cp -r {run.path} NEW; sightline {command} NEW" in caught.value.cure


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"port": 8000}, "--port needs --watch"),
        ({"watch": True, "split": "test"}, "--watch shows one run only"),
        ({"watch": True, "port": 70_000}, "invalid port"),
    ],
)
def test_options_of_report_that_have_no_effect_are_errors(tmp_path: Path, options: dict[str, Any], what: str) -> None:
    with pytest.raises(SightlineError, match=what):
        sightline.report(tmp_path, **options)


def test_runs_are_not_compared_on_training_images(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="--split train is not possible"):
        sightline.report(tmp_path / "a", tmp_path / "b", split="train")


def test_the_home_folder_is_expanded_in_the_paths_of_runs(
    photos: Path, tiny: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    run = sightline.train(base(tiny, **{"report.samples": 0}), photos, out="~/my runs/a", quiet=True)
    assert run.path == tmp_path / "my runs" / "a" and sightline.load("~/my runs/a").classes
    assert sightline.predict("~/my runs/a", photos, out="~/table.csv", quiet=True) == tmp_path / "table.csv"
    assert not (tmp_path / "~").exists()


def test_a_predicted_number_is_printed() -> None:
    assert prediction_text(np.float32(2.5), ["age"]) == prediction_text(2.5, ["age"]) == "2.5"
