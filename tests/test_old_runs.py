"""Runs and recipes of commit f3e5be0 (`fixtures/make_runs.py`) can be evaluated, used and resumed."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sightline
from sightline import SightlineError
from sightline.config.resolve import flat, resolve, to_yaml
from sightline.config.schema import Config
from sightline.config.strict_yaml import parse_yaml
from sightline.recipes import GRIDS, RECIPES, load_grid, load_recipe
from sightline.runs.atomic import read_json, read_json_lines
from sightline.tasks.files import load_recipe_file

FIXTURES = Path(__file__).parent / "fixtures"
HOME = "/tmp/sightline-old"
RUNS = ("classify", "segment", "byol", "simsiam")
PHOTOS, SCENES = FIXTURES / "data" / "photos", FIXTURES / "data" / "scenes"
ROUNDING = 1e-5
PRETRAINING = ("byol", "pretrain")
"""Former and present name of the pre-training task."""


@pytest.fixture
def old(tmp_path: Path) -> Callable[[str], Path]:
    """old(NAME): copy the run runs/NAME, or the grid, with paths to the data in fixtures/."""

    def copy(name: str) -> Path:
        source = FIXTURES / "grid" if name == "grid" else FIXTURES / "runs" / name
        target = shutil.copytree(source, tmp_path / name)
        for path in (*target.rglob("*.yaml"), *target.rglob("*.json*")):
            text = path.read_text().replace(f"{HOME}/data", str(FIXTURES / "data"))
            path.write_text(text.replace(f"{HOME}/grid", str(target)))
        return target

    return copy


def expected(name: str) -> dict[str, Any]:
    """The metrics of a run by the code of that commit."""
    return json.loads((FIXTURES / "expected" / f"{name}.json").read_text())


def same_numbers(found: dict[str, Any], stored: dict[str, Any], tolerance: float) -> None:
    """Compare the stored metrics with those found, except durations and intervals, which are computed otherwise now."""
    for key, value in stored.items():
        if key.endswith("_interval"):
            continue
        close = value if isinstance(value, str) else pytest.approx(value, abs=tolerance, rel=tolerance)
        assert key == "seconds" or found[key] == close, key


def same_end(run: Path, stored: dict[str, Any]) -> None:
    """Compare the final metrics of a resumed run with the stored ones; only approximately on another processor or with
    another version of torch, where sums round differently."""
    record, found = read_json(run / "provenance.json"), sightline.Run(run).metrics
    now = record["resumes"][-1]
    if (now["device"], now["versions"]["torch"]) == (record["device"], record["versions"]["torch"]):
        same_numbers(found, stored, 1e-4)
    else:
        assert found["step"] == stored["step"] and found["loss"] == pytest.approx(stored["loss"], rel=0.1, abs=0.1)


@pytest.mark.parametrize("name", RUNS)
def test_an_old_run_is_reported_and_evaluated_with_the_same_metrics(name: str, old: Callable[[str], Path]) -> None:
    run, numbers = old(name), expected(name)
    same_numbers(sightline.Run(run).metrics, numbers["final"], 0)
    page = sightline.report(run, quiet=True).read_text()
    score = next(numbers["final"][key] for key in ("accuracy", "mean_iou", "knn_accuracy") if key in numbers["final"])
    assert f"{100 * score:.2f}%" in page
    assert len(list((run / "figures").glob("*.png"))) >= 5 and (run / "figures" / "architecture.svg").is_file()
    same_numbers(sightline.evaluate(run, quiet=True), numbers["evaluate"], ROUNDING)


@pytest.mark.parametrize("name", ["classify", "byol", "simsiam"])
def test_an_old_run_predicts_as_before(name: str, old: Callable[[str], Path], tmp_path: Path) -> None:
    table = sightline.predict(old(name), PHOTOS / "val", out=tmp_path / "table.csv", features=True, quiet=True)
    tables = []
    for path in (table, FIXTURES / "expected" / f"{name}.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            tables.append(list(csv.DictReader(file)))
    assert len(tables[0]) == len(tables[1]) == 12
    for found, stored in zip(*tables, strict=True):
        assert found.keys() == stored.keys()
        for column, value in stored.items():
            if column in ("filename", "label", "error"):
                assert found[column] == value
            else:
                assert float(found[column]) == pytest.approx(float(value), abs=ROUNDING)
    features = np.load(tmp_path / "table.features.npy")
    np.testing.assert_allclose(features, np.load(FIXTURES / "expected" / f"{name}.npy"), rtol=1e-4, atol=ROUNDING)


def test_an_old_segmenter_predicts_as_before(old: Callable[[str], Path], tmp_path: Path) -> None:
    sightline.predict(old("segment"), SCENES / "validation", out=tmp_path / "masks", quiet=True)
    stored = sorted((FIXTURES / "expected" / "segment-masks").iterdir())
    assert [path.name for path in stored] == sorted(path.name for path in (tmp_path / "masks").glob("*.png"))
    for path in stored:
        masks = [np.asarray(Image.open(file).convert("RGB")) for file in (path, tmp_path / "masks" / path.name)]
        assert (masks[0] == masks[1]).all(-1).mean() > 0.998  # ties between two classes may differ


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "format"),
    [("classify", "onnx"), ("segment", "onnx"), ("classify", "safetensors"), ("segment", "safetensors")],
)
def test_an_old_run_is_exported(name: str, format: str, old: Callable[[str], Path]) -> None:
    """The export command compares its predictions with those of PyTorch."""
    assert sightline.export(old(name), format=format, quiet=True).exists()


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("name", ["classify", "byol"])
def test_an_interrupted_old_run_is_resumed(name: str, old: Callable[[str], Path]) -> None:
    run = old(f"{name}-cut")
    assert not sightline.Run(run).metrics
    sightline.resume(run, quiet=True)
    same_end(run, expected(name)["final"])
    assert [r["epoch"] for r in read_json_lines(run / "metrics.jsonl") if r["event"] == "eval"] == [1, 2]


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("name", RUNS)
def test_an_old_run_is_extended(name: str, old: Callable[[str], Path]) -> None:
    run = old(name)
    sightline.resume(run, quiet=True, **{"train.epochs": 3})
    same_end(run, expected(name)["extended"])
    assert [r["epoch"] for r in read_json_lines(run / "metrics.jsonl") if r["event"] == "eval"] == [1, 2, 3]
    assert load_recipe_file(run / "recipe.yaml").train.epochs == 3


@pytest.mark.usefixtures("no_figures")
def test_an_old_grid_is_an_error_that_says_what_can_be_used(old: Callable[[str], Path]) -> None:
    grid = old("grid")
    for command in (lambda: sightline.report(grid), lambda: sightline.transfer(str(grid), settings="E", quiet=True)):
        with pytest.raises(SightlineError, match="this grid is of an earlier version") as caught:
            command()
        assert "--out FOLDER" in caught.value.cure and "pretrain-unlabeled" in caught.value.cure
    (grid / "grid.yaml").write_text((grid / "grid.yaml").read_text() + "tune: none\n")
    weights = grid / "pretrain-unlabeled"
    result = sightline.transfer(
        str(grid / "grid.yaml"), unlabeled=weights, settings="AE", out=grid.parent / "new", quiet=True
    )
    assert [outcome.setting for outcome in result.outcomes] == ["A", "E"] and not result.missing


def check_loaded(config: Config, stored: dict[str, Any], tmp_path: Path) -> None:
    """Check that a loaded recipe has the stored settings of its task, can be changed, and can be saved and loaded."""
    found, before = (flat(values, "recipe") for values in (config.model_dump(mode="json"), stored))
    if "pretrain" in found and (earlier := before.get("pretrain")):
        contrast = earlier.pop("contrast", 0)
        before["pretrain"] = earlier | ({"method": "moco"} if contrast == 1 else {})
        found["pretrain"] = {key: found["pretrain"][key] for key in earlier}
    task = before.pop("task")
    assert found.pop("task") == task or {config.task, task} <= set(PRETRAINING)
    if task not in PRETRAINING:
        before = {key: value for key, value in before.items() if not key.startswith("pretrain.")}
    kept = before.keys() & found.keys()
    assert {key: found[key] for key in kept} == {key: before[key] for key in kept}
    assert {"data.size", "model.name", "optim.lr", "train.epochs", "augment.normalize"} <= kept
    assert resolve(config, {"train.epochs": 7}).train.epochs == 7
    path = tmp_path / "again.yaml"
    path.write_text(to_yaml(config))
    assert load_recipe_file(path) == config


@pytest.mark.parametrize("path", sorted((FIXTURES / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_an_old_recipe_is_loaded(path: Path, tmp_path: Path) -> None:
    stored = parse_yaml(path.read_text(), path.name)
    if path.stem not in GRIDS:
        assert path.stem in RECIPES
        return check_loaded(load_recipe(str(path)), stored, tmp_path)
    (tmp_path / path.name).write_text(path.read_text() + "tune: none\n")
    grid = load_grid(str(tmp_path / path.name))
    assert list(grid.settings) == stored["settings"] and list(grid.seeds) == stored["seeds"]
    for stage in ("labeled", "unlabeled", "full", "frozen"):
        check_loaded(getattr(grid, stage), stored[stage], tmp_path)


@pytest.mark.usefixtures("no_figures")
def test_the_contrastive_loss_of_earlier_runs_is_moco(old: Callable[[str], Path], capsys) -> None:
    """`pretrain.contrast` was the weight of the loss of MoCo v3 in place of the method's own."""
    recipe = old("byol") / "recipe.yaml"
    config = load_recipe_file(recipe)
    assert config.pretrain.method == "moco" and "contrast" not in config.pretrain.model_dump()  # ty: ignore
    assert "pretrain.contrast 1 is now the objective `moco`" in capsys.readouterr().err
    sightline.report(recipe.parent)
    assert "pre-trained by MoCo v3" in (recipe.parent / "report.html").read_text(encoding="utf-8")
    assert load_recipe_file(old("simsiam") / "recipe.yaml").pretrain.method == "simsiam"  # ty: ignore
    recipe.write_text(recipe.read_text().replace("contrast: 1.0", "contrast: 0.5"))
    with pytest.raises(SightlineError, match=r"mixes the loss of byol with pretrain\.contrast 0\.5") as caught:
        load_recipe_file(recipe)
    assert "remove `contrast`" in caught.value.cure
    with pytest.raises(SightlineError, match=r"no setting 'pretrain\.contrast'") as caught:
        resolve(config, {"pretrain.contrast": 1})
    assert "--pretrain.method moco" in caught.value.cure
