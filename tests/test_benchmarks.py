"""Benchmarks that need a GPU run on a CPU at toy size, and their arithmetic is correct."""

import json
import sys
from pathlib import Path

import pytest
import torch

from sightline.errors import ENVIRONMENT
from sightline.recipes import load_recipe
from sightline.recipes.transfer import with_epochs

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
pytestmark = pytest.mark.usefixtures("quick_figures")


@pytest.fixture(autouse=True)
def _import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


def test_warm_speed_excludes_the_first_epoch() -> None:
    from machine import warm_speed

    steps = [(1, 10.0), (2, 10.0), (3, 200.0), (4, 50.0)]
    records = [{"event": "train", "step": step, "images_per_second": speed} for step, speed in steps]
    records.insert(2, {"event": "eval", "step": 2})
    # Two steps of 8 images: 8 / 200 and 8 / 50 seconds.
    assert warm_speed(records, 2, 8) == pytest.approx(16 / 0.2)


@pytest.mark.slow
def test_the_gpu_benchmark_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import gpu

    path = tmp_path / "gpu.json"
    flags = ["--device", "cpu", "--steps", "3", "--tiny", "--no-compile", "--json", str(path)]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *flags])
    monkeypatch.setattr(gpu, "DISTINCT", 3)
    monkeypatch.setattr(gpu, "WARM_STEPS", 1)
    monkeypatch.setenv("SIGHTLINE_CACHE", "restored by this fixture")
    gpu.main()
    rows = json.loads(path.read_text())["results"]
    assert {row["job"] for row in rows} == set(gpu.JOBS) and len(rows) == 6
    assert all(row["ratio"] == row["sightline"] / row["bare"] > 0 for row in rows)
    assert capsys.readouterr().out.count("resident  no") == len(gpu.JOBS)


def test_the_gpu_benchmark_without_a_gpu_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import gpu

    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as raised:
        gpu.main()
    assert raised.value.code == ENVIRONMENT and "no CUDA device" in capsys.readouterr().err


def test_planted_near_copies_are_counted() -> None:
    import numpy as np

    from near_copies import planted

    images = np.random.default_rng(0).integers(0, 256, (30, 3, 4, 4)).astype(np.uint8).repeat(8, 2).repeat(8, 3)
    assert planted(images, "JPEG of quality 75", 0, 10) == (10, 0)
    assert planted(images, "mirrored", 0, 10) == (0, 0)
    mirrored = np.concatenate([images, images[:, :, :, ::-1]])
    assert planted(mirrored, "mirrored", 0, 60) == (0, 60), "each copy is the mirrored image of another"


def test_objectives_are_compared_at_the_largest_number_of_epochs_within_the_budget() -> None:
    from objectives import cumulative_flops, epochs_for, spread

    config, budget = load_recipe("moco_fast"), 1e13
    epochs = epochs_for(config, 2500, budget)
    flops = [cumulative_flops(with_epochs(config, count), 2500)[-1] for count in (epochs, epochs + 1)]
    assert epochs > 3 and flops[0] <= budget < flops[1]
    assert spread([0.5, 0.7]) == "0.600 (0.500 to 0.700)" and spread([0.25]) == "0.250" and spread([]) == "-"
