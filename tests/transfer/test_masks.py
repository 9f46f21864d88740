"""Transfer grids of segmenters: mean IoU, encoders with and without pre-training, checks of weights."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import sightline
from sightline import SightlineError
from sightline.config.resolve import resolve
from sightline.config.schema import Config
from sightline.models.encoder_weights import load_encoder
from sightline.models.segmenters import build_segmenter
from sightline.recipes import load_grid, load_recipe
from sightline.runs.atomic import read_json_lines
from sightline.transfer.grid import Grid, load_grid_file
from sightline.transfer.results import read_results
from transfer_toys import tiny_grid

pytestmark = pytest.mark.usefixtures("quick_figures")

MODEL = {"name": "unet", "args": {"width": 8, "blocks": [1, 1, 1, 1], "decoder": [16, 16, 16]}}


@pytest.fixture(scope="module")
def scenes(make_scenes: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("scenes"), train=8, val=12)


@pytest.fixture(scope="module")
def grid(toy: Callable[..., Config], small: Callable[..., Config]) -> Grid:
    """A grid of segmenters that trains in seconds."""
    full = resolve(toy(), {"name": "full", "model": MODEL, "train.epochs": 1, "report.samples": 0})
    moco = resolve(small(**{"pretrain.method": "moco"}), {"model": MODEL, "data.size": 32, "train.epochs": 1})
    return tiny_grid(full=full, frozen=full, labeled=full, unlabeled=moco, seeds=(0,))


@pytest.fixture(scope="module")
def done(grid: Grid, scenes: Path, tmp_path_factory: pytest.TempPathFactory, quick_figures: None) -> Path:
    """The folder of a complete grid."""
    folder = tmp_path_factory.mktemp("grid") / "grid"
    sightline.transfer(grid, scenes, unlabeled=scenes, labeled=scenes, out=folder, quiet=True)
    return folder


def test_scores_are_the_mean_iou_of_the_runs(done: Path) -> None:
    result = read_results(done, load_grid_file(done / "grid.yaml"))
    assert result.notes == ("no interval can be given, because fewer than 10 images have one of 6 classes",)
    assert {one.interval for one in result.outcomes} == {None} and np.isnan([one.p for one in result.comparisons]).all()
    assert not result.missing and [one.setting for one in result.outcomes] == list("ABCDE")
    assert result.metric == ("mean_iou", "mean IoU") and result.outcomes[0].values.shape == (1, 1, 12)
    for one in result.outcomes:
        run = done / f"{one.setting}{'-p0' * (one.setting != 'A')}-0"
        assert one.score == pytest.approx(read_json_lines(run / "metrics.jsonl")[-1]["mean_iou"], abs=1e-6)
    assert all("mean IoU" in one.sentence for one in result.comparisons)
    with open(done / "grid.csv", newline="") as file:
        assert float(next(csv.DictReader(file))["mean_iou"]) == pytest.approx(result.outcomes[0].score)
    assert "mean_iou" in json.loads((done / "grid.json").read_text())["settings"]["A"]
    page = (done / "report.html").read_text(encoding="utf-8")
    assert "Mean IoU, %" in page and "Accuracy" not in page and "only the decoder is trained" in page


def test_a_frozen_encoder_has_the_pretrained_weights_and_the_decoder_is_trained(done: Path) -> None:
    before = load_file(done / "pretrain-unlabeled-0" / "checkpoints" / "last" / "model.safetensors")
    after, full = (load_file(done / f"{run}-p0-0" / "checkpoints" / "last" / "model.safetensors") for run in "EC")
    first = next(name for name in before if name.startswith("backbone.") and name.endswith("weight"))
    name = first.replace("backbone.encoder.", "network.encoder.")
    assert torch.equal(after[name], before[first]) and not torch.equal(full[name], before[first])
    config = load_recipe(str(done / "E-p0-0"))
    assert config.model.freeze and config.train.best_metric == "mean_iou"


def test_the_unlabeled_images_are_those_with_masks_without_the_masks(done: Path, scenes: Path) -> None:
    with open(done / "pretrain-unlabeled-0" / "splits.csv", newline="") as file:
        used = {row["filename"] for row in csv.DictReader(file) if row["split"] == "train"}
    assert used == {f"train/{path.name}" for path in (scenes / "train").glob("*_sat.jpg")}


def test_masks_that_cannot_be_used_are_an_error_before_the_pretrainings(
    grid: Grid, make_scenes: Callable[..., Path], tmp_path: Path
) -> None:
    """Their pixels are read when the first segmenter is trained, which is that without pre-training."""
    land = make_scenes(tmp_path / "land")
    (land / "train" / "0003_mask.png").write_bytes(b"no image")
    with pytest.raises(SightlineError, match=r"0003_mask\.png"):
        sightline.transfer(grid, land, unlabeled=land, labeled=land, out=tmp_path / "grid", quiet=True)
    assert not list((tmp_path / "grid").glob("pretrain*"))


def test_only_the_encoder_is_taken_from_a_pretraining_with_masks(done: Path) -> None:
    before, after = (
        load_file(done / run / "checkpoints" / "last" / "model.safetensors") for run in ("pretrain-labeled-0", "D-p0-0")
    )
    kernels = [name for name in before if before[name].ndim == 4]
    same = {name: torch.equal(before[name], after[name]) for name in kernels}
    assert all(equal == name.startswith("network.encoder.") for name, equal in same.items())


def test_with_a_fresh_head_the_decoder_keeps_its_initialization(done: Path) -> None:
    before = load_file(done / "pretrain-labeled-0" / "checkpoints" / "last" / "model.safetensors")
    for fresh in (True, False):
        model = build_segmenter("unet", 6, MODEL["args"])
        new = {name: value.clone() for name, value in model.state_dict().items() if value.ndim == 4}
        load_encoder(model, str(done / "pretrain-labeled-0"), fresh_head=fresh)
        for name, value in new.items():
            loaded = not fresh or name.startswith("network.encoder.")
            assert torch.equal(model.state_dict()[name], before[name] if loaded else value), name


def test_given_weights_are_checked_against_the_encoder(grid: Grid, scenes: Path, done: Path, tmp_path: Path) -> None:
    weights = {"unlabeled": done / "pretrain-unlabeled-0", "labeled": done / "A-0"}
    found = sightline.transfer(grid, scenes, **weights, settings="BC", out=tmp_path / "given", quiet=True)
    assert [one.setting for one in found.outcomes] == ["B", "C"]
    other = resolve(grid.full, {"model.args": MODEL["args"] | {"width": 12}})
    wide = grid.model_copy(update=dict.fromkeys(("full", "frozen", "labeled"), other))
    with pytest.raises(SightlineError, match="cannot start") as caught:
        sightline.transfer(wide, scenes, unlabeled=done / "pretrain-unlabeled-0", settings="C", out=tmp_path / "w")
    assert "encoder" in str(caught.value)


def test_a_stage_of_another_task_is_an_error(grid: Grid) -> None:
    with pytest.raises(SightlineError, match="the stage frozen must be trained with masks") as caught:
        sightline.transfer(grid.model_copy(update={"frozen": tiny_grid().frozen}), "photos", settings="A")
    assert "classify" in str(caught.value)


def test_the_recipe_for_masks_is_one_network_with_and_without_a_frozen_encoder() -> None:
    grid = load_grid("transfer_masks")
    assert not grid.classifies and grid.learns_from("labeled") == "masks" and grid.learns_from("unlabeled") == "nothing"
    assert grid.config_of("E", 0, "weights").model.freeze and not grid.config_of("C", 0, "weights").model.freeze
