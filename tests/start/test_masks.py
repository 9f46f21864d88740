"""`sightline start` on images with masks."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
from safetensors.torch import save_file

import sightline
from sightline.config.resolve import resolve
from sightline.config.schema import Data
from sightline.data.sources.pairs import open_pairs
from sightline.recipes.ladders import LADDERS, LadderStep
from sightline.start import run

pytestmark = pytest.mark.usefixtures("quick_figures")


def test_for_masks_a_network_of_timm_is_an_encoder(make_scenes: Callable[..., Path], tmp_path: Path) -> None:
    data = Data(path=str(make_scenes(tmp_path / "scenes")), palette="landcover")
    source = open_pairs(data, 0)[0]
    assert source
    names = [step.config.model.name for step in run.ladder("masks", source, "x.safetensors", "timm/resnet18", {})]
    assert names[2:4] == ["light/resnet18", "light/resnet18"]
    assert run.ladder("labels", source, "", "timm/resnet18", {})[3].config.model.name == "timm/resnet18"


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
