"""The examples of docs/extend.md: every file and command; all commands with its task, regression."""

import csv
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sightline
from sightline import SightlineError
from sightline.__main__ import run as run_command
from sightline.config.resolve import resolve
from sightline.config.strict_yaml import dump_yaml, parse_yaml
from sightline.recipes import load_recipe
from sightline.recipes.transfer import transfer_fast
from sightline.tasks import TASKS
from sightline.transfer.grid import grid_yaml
from sightline.user_code import loaded

pytestmark = pytest.mark.usefixtures("quick_figures")

PAGE = (Path(__file__).parent.parent / "docs" / "extend.md").read_text(encoding="utf-8")
LINES = {"conv_mixer.py": 40, "poly_loss.py": 40, "posterize.py": 40, "rotation.py": 120, "rotate.py": 25}
TOY = {"train.epochs": "2", "train.batch_size": "16", "train.precision": "fp32", "train.threads": "1"}
TOY |= {"report.samples": "4", "data.size": "16", "augment.resize": "0"}
MODEL = {"model.name": "small_cnn"}
MIXER = {"model.args": "{width: 8, depth: 1, kernel: 3}"}


def files() -> dict[str, str]:
    """The Python files of the page by name: a heading has the name, or the first line of the file."""
    found = {}
    for heading, code in re.findall(
        r"(?:^## [^\n]*`(\w+\.py)`$.*?)?^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE
    ):
        found[heading or code.partition(":")[0].strip('"')] = code
    return found


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, make_photos: Callable[..., Path]) -> Path:
    """A folder with the files of the page, photographs, and rotated photographs."""
    folder = tmp_path_factory.mktemp("extend")
    make_photos(folder / "photos", classes=3, train=8, val=4, size=24)
    for name, code in files().items():
        (folder / name).write_text(code, encoding="utf-8")
    subprocess.run([sys.executable, "rotate.py", "photos/", "rotated/"], cwd=folder, check=True)
    shutil.copytree(folder / "rotated", folder / "images", ignore=lambda *_: ["angles.csv"])
    return folder


@pytest.fixture(autouse=True)
def inside(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(workspace)
    yield


def with_toys(tokens: list[str]) -> list[str]:
    """A command with the settings of a short training."""
    if tokens[0] == "resume":
        return [
            "3" if before == "--train.epochs" else token for before, token in zip(["", *tokens], tokens, strict=False)
        ]
    if tokens[0] != "train":
        return tokens
    settings = TOY | (MIXER if "conv_mixer" in tokens else MODEL)
    kept = [t for b, t in zip(["", *tokens], tokens, strict=False) if "--model.args" not in (b, t)]
    return [*kept, *(token for key, value in settings.items() for token in (f"--{key}", value))]


def test_the_files_of_the_page_are_complete_and_short() -> None:
    found = files()
    assert found.keys() == LINES.keys()
    assert {name: code.count("\n") < LINES[name] for name, code in found.items()} == dict.fromkeys(LINES, True)


def test_the_commands_of_the_page_run() -> None:
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)).splitlines()
    commands = [shlex.split(line) for line in lines if line.startswith("sightline")]
    assert len(commands) == 8
    for tokens in commands:
        assert run_command(with_toys(tokens[1:])) == 0, tokens


def test_the_own_model_is_exported_as_onnx() -> None:
    code = "conv_mixer.py"
    settings = {**TOY, **MIXER, "model.name": "conv_mixer"}
    run = sightline.train("photos_scratch", "photos", out="mixer", quiet=True, code=code, **settings)
    assert sightline.export(run.path, out="mixer.onnx", quiet=True, code=code).is_file()
    loaded_model = sightline.load(run.path, code=code)
    assert loaded_model.predict("images/0.png").label in loaded_model.classes
    with pytest.raises(SightlineError, match="trained with code of your own"):
        sightline.load(run.path)


@pytest.fixture(scope="module")
def regression(workspace: Path) -> sightline.Run:
    """A finished run of the regression."""
    data, code = workspace / "rotated" / "angles.csv", workspace / "rotation.py"
    settings = {**TOY, **MODEL, "train.preview": True, "data.group": "none"}
    return sightline.train("rotation", data, out=workspace / "regression", quiet=True, code=code, **settings)


CODE = "rotation.py"


def test_regression_has_an_error_with_its_interval_and_that_of_the_baseline(regression: sightline.Run) -> None:
    end = regression.metrics
    low, high = end["mean_absolute_error_interval"]
    assert low < end["mean_absolute_error"] < high
    with open(regression.path / "predictions" / "val.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["filename", "angle", "truth"] and len(rows) == 12
    errors = [abs(float(row["angle"]) - float(row["truth"])) for row in rows]
    assert np.mean(errors) == pytest.approx(end["mean_absolute_error"], rel=1e-4)
    with open("rotated/angles.csv", newline="") as file:
        table = list(csv.DictReader(file))
    truth = {row["filename"]: float(row["label"]) for row in table}
    assert all(float(row["truth"]) == pytest.approx(truth[row["filename"]]) for row in rows)
    train = [float(row["label"]) for row in table if row["split"] == "train"]
    trivial = np.abs(np.array([float(row["truth"]) for row in rows]) - np.median(train)).mean()
    assert end["baseline_mean_absolute_error"] == pytest.approx(trivial, rel=1e-5)


def test_regression_learns_the_numbers() -> None:
    """The network fits a number that is easy to see: the brightness of the image."""
    from PIL import Image

    folder = Path("gray")
    folder.mkdir()
    rows = ["filename,label,split"]
    for number in range(48):
        value = number * 5
        Image.new("RGB", (16, 16), (value,) * 3).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{value / 3 - 40:.2f},{'val' if number % 4 == 0 else 'train'}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    settings = {
        **TOY,
        **MODEL,
        "train.epochs": 15,
        "augment.brightness": 0,
        "augment.contrast": 0,
        "augment.saturation": 0,
    }
    end = sightline.train("rotation", folder / "table.csv", out="grays", quiet=True, code=CODE, **settings).metrics
    assert end["mean_absolute_error"] < end["baseline_mean_absolute_error"] / 2


def test_regression_is_evaluated_resumed_and_predicted(regression: sightline.Run, tmp_path: Path) -> None:
    again = sightline.evaluate(regression.path, quiet=True, code=CODE)
    assert again["mean_absolute_error"] == pytest.approx(regression.metrics["mean_absolute_error"], rel=1e-5)
    other = sightline.evaluate(regression.path, data="rotated/angles.csv", split="train", quiet=True, code=CODE)
    assert other["split"] == "train" and other["images"] == 24
    table = sightline.predict(regression.path, "images", out=tmp_path / "p.csv", quiet=True, code=CODE, features=True)
    with open(table, newline="") as file:
        rows = {row["filename"]: row for row in csv.DictReader(file)}
    with open(regression.path / "predictions" / "val.csv", newline="") as file:
        known = {row["filename"]: float(row["angle"]) for row in csv.DictReader(file)}
    assert list(next(iter(rows.values()))) == ["filename", "angle", "error"] and len(rows) == 36
    assert all(float(rows[name]["angle"]) == pytest.approx(value, abs=1e-3) for name, value in known.items())
    assert np.load(table.with_suffix(".features.npy")).shape[0] == 36
    loaded = sightline.load(regression.path, code=CODE)
    name = next(iter(rows))
    assert loaded.predict(f"images/{name}") == pytest.approx(float(rows[name]["angle"]), abs=1e-3)
    assert loaded.predict([f"images/{name}"] * 2).shape == (2,) and "predicts angle" in repr(loaded)
    shutil.copytree(regression.path, tmp_path / "more")
    more = sightline.resume(tmp_path / "more", quiet=True, code=CODE, **{"train.epochs": 3})
    assert more.metrics["epoch"] == 3


def test_numbers_of_a_run_in_bfloat16_are_those_of_predict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, settings = "rotated/angles.csv", {**TOY, **MODEL, "train.precision": "bf16"}
    run = sightline.train("rotation", data, out=tmp_path / "run", code=CODE, **settings)
    table = sightline.predict(run, "images", out=tmp_path / "p.csv", quiet=True, code=CODE)
    found, own = (
        {row["filename"]: float(row["angle"]) for row in csv.DictReader(path.read_text().splitlines())}
        for path in (table, run.path / "predictions" / "val.csv")
    )
    largest = run.metrics["bfloat16"]["largest_change"]
    assert max(abs(found[name] - value) for name, value in own.items()) < largest / 20
    assert f"bfloat16, used in training, would change the predicted numbers by at most {largest:.2g}" in " ".join(
        capsys.readouterr().out.split()
    )


def test_regression_is_reported_compared_and_exported_as_weights(regression: sightline.Run, tmp_path: Path) -> None:
    page = sightline.report(regression.path, code=CODE).read_text(encoding="utf-8")
    assert "Mean absolute error" in page and "Baseline mean absolute error" in page and "95% interval" in page
    exported = sightline.export(regression.path, format="safetensors", out=tmp_path / "e", quiet=True, code=CODE)
    both = sightline.report(regression.path, exported, out=tmp_path / "both", quiet=True, code=CODE)
    value = f"{regression.metrics['mean_absolute_error']:.4g}"
    text = both.read_text(encoding="utf-8")
    assert f"{value} [" in text and f"{value}%" not in text and "Mean absolute error, %" not in text
    assert sightline.evaluate(exported, data="rotated/angles.csv", quiet=True, code=CODE)["images"] == 36 - 24


def test_regression_is_searched_by_a_sweep(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import importlib

    from sweep_toys import ForkedProcess

    monkeypatch.setattr(importlib.import_module("sightline.sweep.scheduler"), "start_process", ForkedProcess)
    found = sightline.sweep("rotation", "rotated/angles.csv", out=tmp_path / "sweep", quiet=True, code=CODE,
                            **{**TOY, **MODEL, "report.samples": "0", "optim.lr": "1e-3,1e-2"})  # fmt: skip
    values = [row["value"] for row in found.trials]
    assert found.best is not None and found.best.metrics["mean_absolute_error"] == min(values)
    page = found.report.read_text(encoding="utf-8")
    assert "Mean absolute error" in page and "Mean absolute error, %" not in page


REFUSED: dict[str, Callable[[Path], Any]] = {
    "`sightline export` does not apply": lambda run: sightline.export(run, quiet=True, code=CODE),
    "`sightline serve` does not apply": lambda run: sightline.serve(run, quiet=True, code=CODE),
    "only the labels of a classifier": lambda run: sightline.doctor(run, quiet=True, code=CODE, out="doc"),
    "does not predict masks": lambda run: sightline.masks("images", out="m", run=run, quiet=True, code=CODE),
}


@pytest.mark.parametrize("message", REFUSED)
def test_commands_that_the_task_lacks_are_errors(regression: sightline.Run, message: str) -> None:
    with pytest.raises(SightlineError, match=message) as caught:
        REFUSED[message](regression.path)
    assert caught.value.why and caught.value.cure


def test_a_transfer_grid_needs_labels(tmp_path: Path) -> None:
    grid: Any = parse_yaml(grid_yaml(transfer_fast()), "the grid")
    with loaded(CODE):
        grid["full"] = load_recipe("rotation").model_dump(mode="json")
    (tmp_path / "grid.yaml").write_text(dump_yaml(grid))
    with pytest.raises(SightlineError, match="there is no task 'regress'"):
        sightline.transfer(str(tmp_path / "grid.yaml"), "photos")
    with pytest.raises(SightlineError, match="must be trained with labels, but its task is regress"):
        sightline.transfer(str(tmp_path / "grid.yaml"), "photos", code=CODE)


def test_the_doctor_checks_data_with_numbers(tmp_path: Path) -> None:
    settings = {"data.labels": "number"}
    found = sightline.doctor("rotated/angles.csv", out=tmp_path / "doctor", quiet=True, **settings)
    assert {finding.kind for finding in found.findings} <= {"small_images", "near_copies"} and found.page.is_file()
    with pytest.raises(SightlineError, match="shards have class labels only"):
        sightline.pack("rotated/angles.csv", tmp_path / "shards", quiet=True, **settings)


@pytest.mark.parametrize("wrong", ["cat", "inf", "1e999", "12 px"])
def test_labels_that_are_no_numbers_are_listed(wrong: str, tmp_path: Path) -> None:
    shutil.copytree("rotated", tmp_path / "data")
    table = tmp_path / "data" / "angles.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], f"0.png,{wrong},train", *lines[2:]]))
    with pytest.raises(SightlineError, match="these labels are not numbers") as caught:
        sightline.train("rotation", table, out=tmp_path / "run", quiet=True, code=CODE)
    assert repr(wrong) in caught.value.why


def test_settings_that_contradict_the_task_are_errors(tmp_path: Path) -> None:
    data = "rotated/angles.csv"
    for settings, message in (
        ({"augment.horizontal_flip": 0.5}, "opposite angle"),
        ({"data.labels": "one"}, "the labels are read as classes"),
        ({"loss.name": "focal"}, "this task has no losses to choose from"),
        ({"loss.class_weights": "balanced"}, "not available for a task that predicts numbers"),
    ):
        with pytest.raises(SightlineError, match=message):
            sightline.train("rotation", data, out=tmp_path / "run", quiet=True, code=CODE, **MODEL | settings)
    with pytest.raises(SightlineError, match="numbers are read from tables and file names only"):
        sightline.train("rotation", "sklearn:digits", out=tmp_path / "run", quiet=True, code=CODE, **MODEL)
    for recipe in ("photos_scratch", "multilabel_scratch", "byol_fast"):
        with pytest.raises(SightlineError, match="labels number is for tasks that predict a number"):
            sightline.train(recipe, data, out=tmp_path / "run", quiet=True, **{"data.labels": "number"})


def test_facts_of_the_task() -> None:
    assert "regress" not in TASKS
    with loaded(CODE):
        task = TASKS["regress"]
        assert (task.learns_from, task.predicts, task.probe_setting) == ("numbers", "number", "")
        assert resolve(task.config(), {"data.labels": "number"}).task == "regress"
