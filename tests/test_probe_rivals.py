"""The comparison of linear classifiers on frozen features, on a toy folder, with the plain loop as the other tool."""

import contextlib
import io
import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from sightline.__main__ import run as sightline_main
from sightline.tasks.whole_image import build

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
MODEL = "timm/test_efficientnet"
PLAIN = "timm + scikit-learn"
pytestmark = pytest.mark.usefixtures("quick_figures")


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments for 24 training and 6 held-out images of three colors, and random weights in a file. Programs run in
    this process, in an environment without any installation."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.syspath_prepend(BENCHMARKS / "rivals")
    random = np.random.default_rng(0)
    for index, color in enumerate(("red", "green", "blue")):
        (tmp_path / "pictures" / color).mkdir(parents=True)
        for number in range(10):
            pixels = random.integers(0, 120, (32, 40, 3), dtype=np.uint8)
            pixels[..., index] += 120
            Image.fromarray(pixels).save(tmp_path / "pictures" / color / f"{number}.png")
    torch.manual_seed(0)
    state = timm.create_model(MODEL.removeprefix("timm/"), num_classes=5).state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    (tmp_path / "envs" / "timm-probe").mkdir(parents=True)
    (tmp_path / "envs" / "timm-probe" / "installed").touch()
    monkeypatch.setattr(subprocess, "run", in_process(monkeypatch))
    # By default it is measured, and so small a network may be faster in either precision.
    monkeypatch.setattr(build, "pick_precision", lambda *_: torch.float32)
    flags = {"--envs": "envs", "--pictures": "pictures", "--weights": "weights.safetensors", "--json": "probe.json"}
    words = [word for flag, name in flags.items() for word in (flag, str(tmp_path / name))]
    words += ["--model", MODEL, "--images", "24", "--held-out", "6", "--size", "32", "--threads", "1"]
    return [*words, "--repeats", "1", "--only", PLAIN]


def in_process(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A replacement of `subprocess.run` for Python programs, which runs them in this process."""
    run = subprocess.run

    def run_here(command: list[str], **settings: Any) -> Any:
        if not (command[1:3] == ["-m", "sightline"] or command[1].endswith(".py")):
            return run(command, **settings)
        out = io.StringIO()
        monkeypatch.setenv("SIGHTLINE_CACHE", settings["env"]["SIGHTLINE_CACHE"])
        with contextlib.redirect_stdout(out):
            if command[1] == "-m":
                assert sightline_main(command[3:]) == 0
            else:
                monkeypatch.setattr(sys, "argv", command[1:])
                runpy.run_path(command[1], run_name="__main__")
        return subprocess.CompletedProcess(command, 0, out.getvalue(), "")

    return run_here


def test_both_tools_fit_the_same_images(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import probe_rivals

    probe_rivals.main(arguments)
    results = json.loads((tmp_path / "probe.json").read_text())
    assert results["counts"] == {"val": 6, "train": 24}
    (row,) = results["results"][PLAIN]
    assert row["rival"]["accuracy"] == row["first"]["accuracy"] == row["second"]["accuracy"] == 1.0
    assert not row["first"]["from_cache"]
    assert row["second"]["features_seconds"] == 0 and row["second"]["from_cache"]
    out = capsys.readouterr().out
    assert "the defaults are used" in out and "Sightline, second" in out


def test_tuning_stores_the_fastest_settings(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import probe_rivals

    def run_rival(bench: Any, name: str, python: Path, chosen: dict[str, Any], **more: Any) -> dict[str, Any]:
        assert more == {"features_only": True, "epochs": 1}
        best = {"workers": 1, "batch": 32, "precision": "bf16 channels_last"}
        return {"seconds": 10 - sum(chosen[key] == value for key, value in best.items())}

    monkeypatch.setattr(probe_rivals.ProbeBench, "run_rival", run_rival)
    probe_rivals.main([*arguments, "--tune"])
    (stored,) = json.loads((tmp_path / "envs" / "settings.json").read_text()).values()
    assert stored["chosen"] == {"workers": 1, "batch": 32, "precision": "bf16 channels_last"}
    assert not (tmp_path / "probe.json").exists()


def test_too_few_images_are_an_error(arguments: list[str]) -> None:
    import probe_rivals

    with pytest.raises(SystemExit, match="has 30 different images; 3,006 are needed"):
        probe_rivals.main([*arguments, "--images", "3000"])
