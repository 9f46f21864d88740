"""The loop: continues to the bit, survives SIGKILL, stops for good reasons, leaves what the contract promises."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import sightline
from sightline import SightlineError
from sightline.config import Config, resolve
from sightline.files import read_json_lines

SLOW_START = {"report.samples": 4}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / "last" / "model.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def base(tiny: dict, **more: object) -> Config:
    values = tiny | {"schedule.name": "one_cycle", "optim.name": "sgd", "optim.lr": 0.05, "optim.ema": 0.9}
    return resolve(Config(name="t"), values | {"model.args": {}} | SLOW_START | more)


def test_a_run_leaves_what_the_contract_names(photos: Path, tmp_path: Path, tiny: dict) -> None:
    run = sightline.train(base(tiny), photos, out=tmp_path / "run", quiet=True)
    for name in ("recipe.yaml", "provenance.json", "metrics.jsonl", "predictions/val.csv", "report.html"):
        assert (run.path / name).is_file(), name
    assert list((run.path / "figures").glob("*.png"))
    assert (run.path / "snapshots/epoch-00001/features.npz").is_file()
    config = json.loads((run.path / "checkpoints/best/config.json").read_text())
    assert config["classes"] == ["class_0", "class_1", "class_2", "class_3"]
    assert config["preprocessing"]["size"] == 16
    events = read_json_lines(run.path / "metrics.jsonl")
    assert all({"event", "step", "epoch", "seconds"} <= set(record) for record in events)
    train = next(record for record in events if record["event"] == "train")
    assert {"loss", "lr", "images_per_second", "data_wait", "grad_norm"} <= set(train)
    evaluation = next(record for record in events if record["event"] == "eval")
    assert {"split", "loss", "accuracy", "accuracy_top5"} <= set(evaluation)
    header, first = (run.path / "predictions/val.csv").read_text().splitlines()[:2]
    assert header == "filename,label,truth,confidence,class_0,class_1,class_2,class_3"
    assert abs(sum(map(float, first.split(",")[4:])) - 1) < 1e-5


def test_the_same_recipe_gives_the_same_weights_and_another_seed_others(
    photos: Path, tmp_path: Path, tiny: dict
) -> None:
    first = sightline.train(base(tiny), photos, out=tmp_path / "a", quiet=True)
    again = sightline.train(str(first.path / "recipe.yaml"), out=tmp_path / "b", quiet=True)
    other = sightline.train(base(tiny, **{"train.seed": 1}), photos, out=tmp_path / "c", quiet=True)
    assert same(weights(first.path), weights(again.path))
    assert not same(weights(first.path), weights(other.path))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_two_and_two_epochs_equal_four(photos: Path, tmp_path: Path, tiny: dict, optimizer: str) -> None:
    settings = {"optim.name": optimizer, "train.epochs": 4, "schedule.name": "constant", "optim.lr": 0.01}
    whole = sightline.train(base(tiny, **settings), photos, out=tmp_path / "whole", quiet=True)
    half = sightline.train(base(tiny, **settings | {"train.epochs": 2}), photos, out=tmp_path / "half", quiet=True)
    longer = sightline.resume(half.path, quiet=True, **{"train.epochs": 4})
    assert same(weights(whole.path), weights(longer.path))
    steps = [r["step"] for r in read_json_lines(half.path / "metrics.jsonl") if r["event"] == "eval"]
    assert steps == sorted(set(steps)) and len(steps) == 4


def test_extending_stretches_or_keeps_the_end_of_the_schedule(photos: Path, tmp_path: Path, tiny: dict) -> None:
    settings = {"schedule.name": "linear", "schedule.final_factor": 0.1, "optim.ema": 0}
    run = sightline.train(base(tiny, **settings), photos, out=tmp_path / "run", quiet=True)
    shutil.copytree(run.path, tmp_path / "copy")
    sightline.resume(run.path, quiet=True, **{"train.epochs": 4})
    sightline.resume(tmp_path / "copy", extend="continue", quiet=True, **{"train.epochs": 4})

    def rates(folder: Path) -> list[float]:
        return [r["lr"] for r in read_json_lines(folder / "metrics.jsonl") if r["event"] == "train" and r["epoch"] > 2]

    assert rates(run.path)[0] == pytest.approx(0.05 * (1 - 0.9 * 14 / 27))
    assert rates(tmp_path / "copy") == pytest.approx([0.005] * len(rates(tmp_path / "copy")))


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "sightline", *map(str, arguments)]


def test_sigkill_in_mid_epoch_then_resume_gives_the_same_weights(photos: Path, tmp_path: Path, tiny: dict) -> None:
    settings = tiny | {"train.epochs": 3, "train.checkpoint_minutes": 0, "report.samples": 0, "optim.ema": 0.9}
    whole = sightline.train(resolve(Config(), settings), photos, out=tmp_path / "whole", quiet=True)
    arguments = [item for key, value in settings.items() for item in (f"--{key}", value)]
    recipe = tmp_path / "plain.yaml"
    recipe.write_text("{}")
    killed = tmp_path / "killed"
    process = subprocess.Popen(command("train", recipe, "--data", photos, "--out", killed, "--quiet", *arguments))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        steps = [record["step"] for record in read_json_lines(killed / "metrics.jsonl") if record["event"] == "train"]
        if steps and steps[-1] >= 9:
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "report.html").exists(), "the run ended before it could be killed"
    resumed = sightline.resume(killed, quiet=True)
    assert same(weights(whole.path), weights(resumed.path))
    assert [r["step"] for r in read_json_lines(killed / "metrics.jsonl") if r["event"] == "eval"] == [7, 14, 21]


def test_sigterm_saves_says_how_to_go_on_and_exits_4(photos: Path, tmp_path: Path, tiny: dict) -> None:
    settings = [item for key, value in (tiny | {"train.epochs": 2000}).items() for item in (f"--{key}", value)]
    out = tmp_path / "run"
    process = subprocess.Popen(
        command("train", "digits", "--data", photos, "--out", out, *settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(read_json_lines(out / "metrics.jsonl")) < 5:
        time.sleep(0.01)
    process.terminate()
    _, error = process.communicate(timeout=60)
    assert process.returncode == 4
    assert f"sightline resume {out}" in error and "Traceback" not in error


def test_a_loss_that_is_not_finite_stops_and_names_the_files(photos: Path, tmp_path: Path, tiny: dict) -> None:
    settings = {"optim.lr": 1e18, "optim.ema": 0, "schedule.name": "constant"}
    with pytest.raises(SightlineError, match="not finite") as caught:
        sightline.train(base(tiny, **settings), photos, out=tmp_path / "run", quiet=True)
    assert "class_" in str(caught.value) and "--optim.lr" in caught.value.cure
    names = (tmp_path / "run" / "not-finite-batch.txt").read_text().split()
    assert len(names) == 10
    state = next((tmp_path / "run/checkpoints/last").glob("state-*.safetensors"))
    assert all(torch.isfinite(t).all() for t in load_file(state).values() if t.is_floating_point())


def test_patience_stops_and_time_limit_stops(photos: Path, tmp_path: Path, tiny: dict) -> None:
    settings = {"train.epochs": 50, "train.patience": 2, "optim.lr": 1e-9, "schedule.name": "constant", "optim.ema": 0}
    run = sightline.train(base(tiny, **settings), photos, out=tmp_path / "a", quiet=True)
    assert run.metrics["epoch"] == run.metrics["best_epoch"] + 2 < 50
    stop = next(r for r in read_json_lines(run.path / "metrics.jsonl") if r["event"] == "stop")
    assert "no better accuracy for 2 epochs" in stop["reason"]
    limited = sightline.train(
        base(tiny, **{"train.epochs": 100_000, "train.max_minutes": 0.02}), photos, out=tmp_path / "b", quiet=True
    )
    assert limited.metrics["accuracy"] > 0 and limited.metrics["epoch"] < 100_000


def test_accumulation_equals_the_large_batch(photos: Path, tmp_path: Path, tiny: dict) -> None:
    plain = {"optim.ema": 0, "schedule.name": "constant", "optim.momentum": 0, "train.epochs": 1}
    plain |= {"model.name": "resnet18", "model.freeze": True}  # frozen batch norm sees no batch
    large = sightline.train(base(tiny, **plain | {"train.batch_size": 32}), photos, out=tmp_path / "a", quiet=True)
    settings = plain | {"train.batch_size": 16, "optim.accumulate": 2}
    small = sightline.train(base(tiny, **settings), photos, out=tmp_path / "b", quiet=True)
    for name, tensor in weights(large.path).items():
        torch.testing.assert_close(tensor, weights(small.path)[name], rtol=1e-4, atol=1e-6)


def test_an_ensemble_averages_the_probabilities_of_its_epochs(photos: Path, tmp_path: Path, tiny: dict) -> None:
    settings = {"train.epochs": 4, "train.ensemble": 2}
    run = sightline.train(base(tiny, **settings), photos, out=tmp_path / "run", quiet=True)
    members = sorted((run.path / "checkpoints").glob("epoch-*"))
    losses = {r["epoch"]: r["loss"] for r in read_json_lines(run.path / "metrics.jsonl") if r["event"] == "eval"}
    assert [int(m.name[-5:]) for m in members] == sorted(sorted(losses, key=losses.__getitem__)[:2])
    numbers = sightline.evaluate(run.path, quiet=True)
    assert numbers["accuracy"] == run.metrics["accuracy"] and numbers["loss"] == run.metrics["loss"]


def test_evaluate_repeats_the_numbers_exactly_and_counts_test_looks(make_photos, tmp_path: Path, tiny: dict) -> None:
    data = make_photos(tmp_path / "data")
    shutil.copytree(data / "val", data / "test")
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


def test_the_csv_gives_the_headline_back(photos: Path, tmp_path: Path, tiny: dict) -> None:
    run = sightline.train(base(tiny), photos, out=tmp_path / "run", quiet=True)
    rows = np.genfromtxt(run.path / "predictions/val.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    assert np.mean(rows["label"] == rows["truth"]) == pytest.approx(run.metrics["accuracy"])


def test_refusals_name_the_cure(photos: Path, tmp_path: Path, tiny: dict) -> None:
    run = sightline.train(base(tiny), photos, out=tmp_path / "run", quiet=True)
    with pytest.raises(SightlineError, match="there is a run") as caught:
        sightline.train(base(tiny), photos, out=run.path, quiet=True)
    assert "resume" in caught.value.cure
    with pytest.raises(SightlineError, match="cannot change") as caught:
        sightline.resume(run.path, quiet=True, **{"optim.lr": 0.5})
    assert "optim.lr" in caught.value.why
    with pytest.raises(SightlineError, match="not a run"):
        sightline.resume(tmp_path / "nothing", quiet=True)
    keep = tmp_path / "mine"
    keep.mkdir()
    (keep / "thesis.txt").write_text("text")
    with pytest.raises(SightlineError, match="not empty"):
        sightline.train(base(tiny), photos, out=keep, overwrite=True, quiet=True)
    assert (keep / "thesis.txt").read_text() == "text"


def test_changed_data_is_noticed_at_resume(make_photos, tmp_path: Path, tiny: dict) -> None:
    data = make_photos(tmp_path / "data")
    run = sightline.train(base(tiny), data, out=tmp_path / "run", quiet=True)
    picture = next((data / "train" / "class_0").iterdir())
    shutil.copy(next((data / "train" / "class_1").iterdir()), picture)
    os.utime(picture, ns=(1, 1))
    with pytest.raises(SightlineError, match="not what this run began with"):
        sightline.resume(run.path, quiet=True, **{"train.epochs": 4})


def test_resuming_a_finished_run_does_nothing(photos: Path, tmp_path: Path, tiny: dict) -> None:
    run = sightline.train(base(tiny), photos, out=tmp_path / "run", quiet=True)
    before = (run.path / "metrics.jsonl").read_bytes()
    assert sightline.resume(run.path, quiet=True).metrics == run.metrics
    assert (run.path / "metrics.jsonl").read_bytes() == before


def test_overwrite_spares_the_old_run_until_the_new_one_can_start(photos: Path, tmp_path: Path, tiny: dict) -> None:
    run = sightline.train(base(tiny), photos, out=tmp_path / "run", quiet=True)
    (run.path / "thesis.txt").write_text("mine")
    with pytest.raises(SightlineError):
        sightline.train(base(tiny), tmp_path / "nowhere", out=run.path, overwrite=True, quiet=True)
    assert run.report.is_file() and run.metrics
    sightline.train(base(tiny), photos, out=run.path, overwrite=True, quiet=True)
    assert (run.path / "thesis.txt").read_text() == "mine"


def test_compiled_training_runs(photos: Path, tmp_path: Path, tiny: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model, **options: compiled.append(options) or model)
    run = sightline.train(base(tiny, **{"train.compile": True}), photos, out=tmp_path / "run", quiet=True)
    assert run.metrics and compiled == [{"dynamic": False}]
