"""Sweeps: reproducible trials, pruning, failures, resumption, results and report."""

import csv
import importlib
import json
import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sightline
from config_toys import configured
from multilabel_toys import SETTINGS
from sightline.__main__ import run
from sightline.config.resolve import resolve
from sightline.config.schema import Config
from sightline.errors import SightlineError
from sightline.recipes import load_recipe
from sightline.runs.atomic import read_json_lines
from sightline.runs.lock import lock_run
from sightline.sweep import Sweep
from sightline.sweep.page import SweepData, sentences
from sightline.sweep.report import compare_best
from sightline.sweep.study import open_storage
from sightline.tasks.files import load_recipe_file
from sweep_toys import without_times

pytestmark = pytest.mark.usefixtures("forked")
SPACE = {"optim.lr": "1e-4..1", "train.batch_size": "8,16"}


@pytest.fixture(scope="module")
def done(recipe: Config, tiles: Path, tmp_path_factory: pytest.TempPathFactory, forked: None) -> Sweep:
    """A complete sweep of four trials."""
    out = tmp_path_factory.mktemp("done") / "sweep"
    return sightline.sweep(recipe, tiles, out=out, trials=4, quiet=True, **SPACE)


def test_every_trial_is_an_ordinary_run_with_the_sampled_values(done: Sweep, tiles: Path) -> None:
    assert [row["state"] for row in done.trials] == ["complete"] * 4
    for row in done.trials:
        config = load_recipe(str(done.path / f"trial-{row['trial']:04d}"))
        assert config.optim.lr == row["values"]["optim.lr"] and 1e-4 <= config.optim.lr <= 1
        assert config.train.batch_size == row["values"]["train.batch_size"] in (8, 16)
        end = sightline.Run(done.path / config.name).metrics
        assert (row["value"], row["best_epoch"], row["flops"]) == (
            end["accuracy"], end["best_epoch"], end["train_flops"])  # fmt: skip
    assert len({row["values"]["optim.lr"] for row in done.trials}) == 4
    with open(done.path / "sweep.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["accuracy"]) for row in rows] == pytest.approx([row["value"] for row in done.trials])
    assert [float(r["optim.lr"]) for r in rows] == pytest.approx([r["values"]["optim.lr"] for r in done.trials])


def test_best_yaml_repeats_the_best_trial(done: Sweep, tmp_path: Path) -> None:
    best = max(done.trials, key=lambda row: (row["value"], -row["trial"]))
    assert done.best is not None and done.best.path.name == f"trial-{best['trial']:04d}"
    recipe = load_recipe_file(done.path / "best.yaml")
    assert recipe.name == "small-best" and recipe.data.inner_fraction == 0, "trains on all training images"
    inner = ["--data.inner_fraction", "0.2"]
    assert run(["train", str(done.path / "best.yaml"), "--out", str(tmp_path / "again"), "--quiet", *inner]) == 0
    assert sightline.Run(tmp_path / "again").metrics["loss"] == done.best.metrics["loss"]


def test_trials_are_chosen_on_an_inner_split_and_the_best_is_reported_on_the_validation_images(
    done: Sweep, tiles: Path
) -> None:
    values, best = done.values, done.best
    assert best is not None and values["selection"] == {"split": "inner", "images": 6}
    assert values["data"]["images"] == {"train": 26, "val": 6, "outer": 16}
    validation = {str(path.relative_to(tiles)) for path in (tiles / "val").rglob("*.png")}
    for row in done.trials:
        rows = (done.path / f"trial-{row['trial']:04d}" / "splits.csv").read_text().splitlines()[1:]
        assert not validation & {line.split(",")[0] for line in rows}, "validation images are not read"
    result = next(one for one in values["reported"] if one["trial"] == values["best"])
    again = sightline.evaluate(best.path, split="outer", quiet=True)
    assert (result["split"], result["images"], result["accuracy"]) == ("outer", 16, again["accuracy"])
    with open(done.path / "sweep.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[values["best"]]["reported"]) == pytest.approx(again["accuracy"])
    assert {(row["selected_on"], row["reported_on"]) for row in rows} == {("inner split of train", "outer")}
    first, second, third = sentences(compare_best(SweepData(done.path, values)))
    assert (
        f"on 6 images that were held out of the training images: {100 * max(r['value'] for r in done.trials)}" in first
    )
    low, high = (f"{100 * edge:.2f}" for edge in again["accuracy_interval"])
    value = f"{100 * again['accuracy']:.2f}% [{low}, {high}]."
    assert second == f"On the 16 validation images, on which nothing was selected, its accuracy is {value}"
    assert (
        third.startswith("Compared with the second best: ") and "same 16 images, on which nothing was selected" in third
    )


def test_the_best_trial_is_reported_once_on_the_test_split(
    recipe: Config, make_photos: Callable[..., Path], tmp_path: Path, lines: Callable[[], list[str]]
) -> None:
    data, out = make_photos(tmp_path / "data", classes=2, train=8, val=4, test=6, size=8), tmp_path / "s"
    for _ in range(2):
        result = sightline.sweep(recipe, data, out=out, split="test", **{"optim.lr": [0.01, 0.1]})
    said = [line for line in lines() if line.startswith("On the 12 test images (look 1 at this test set, from 1 run)")]
    assert len(said) == 2, "repeated without another look"
    (reported,) = result.values["reported"]
    assert (reported["trial"], reported["split"], reported["look"]) == (result.values["best"], "test", 1)
    assert result.values["selection"] == {"split": "val", "images": 8}
    page = result.report.read_text()
    assert "--split test" not in page and "that on the 12 test images" in page
    with pytest.raises(SightlineError, match="cannot be reported on a split 'outer'"):
        sightline.sweep(recipe, data, out=tmp_path / "t", split="outer", **SPACE)


def test_a_sweep_of_an_earlier_version_is_continued_on_the_validation_images(
    recipe: Config, tiles: Path, tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {"out": tmp_path / "s", "quiet": True, "optim.lr": [0.01, 0.1]}
    sightline.sweep(recipe, tiles, **arguments, **{"data.inner_fraction": 0})
    file = tmp_path / "s" / "sweep.yaml"
    file.write_text("".join(line for line in file.read_text().splitlines(True) if "inner_fraction" not in line))
    with pytest.raises(SightlineError, match="another sweep") as caught:
        sightline.sweep(recipe, tiles, **arguments)
    assert "data.inner_fraction: 0 -> 0.2" in caught.value.why
    assert caught.value.cure.startswith("add the earlier value: --data.inner_fraction 0; or ")
    result = sightline.sweep(recipe, tiles, **arguments, **{"data.inner_fraction": 0})
    assert len(result.trials) == 2 and result.values["reported"] == [] and result.values["selection"]["split"] == "val"
    page = result.report.read_text()
    assert "selected on the 16 images of the validation split" in page and "No test split was used" in page


def test_the_page_has_the_warning_about_selection_and_the_comparison_of_the_best_two(done: Sweep) -> None:
    page = done.report.read_text(encoding="utf-8")
    compared = json.loads((done.path / "compare" / "compare.json").read_text())
    sentence = compared["comparisons"][0]["sentence"]
    assert re.split(r"[\[:]", sentence)[0] in page and "The best of 4 trials was selected" in page
    assert compared["reference"] == done.best.path.name  # ty: ignore[unresolved-attribute]
    assert {path.stem for path in (done.path / "figures").iterdir()} == {"progress", "curves", "setting-1", "setting-2"}
    for row in done.trials:
        assert f'href="trial-{row["trial"]:04d}/report.html"' in page
    before = done.report.read_bytes()
    done.report.unlink()
    assert sightline.report(done.path).read_bytes() == before, "the report depends only on the files in the folder"


@pytest.mark.slow
def test_the_same_seed_samples_the_same_trials_and_another_does_not(
    done: Sweep, recipe: Config, tiles: Path, tmp_path: Path
) -> None:
    again = sightline.sweep(recipe, tiles, out=tmp_path / "a", trials=2, sampler="tpe", quiet=True, **SPACE)
    assert without_times(again.trials) == without_times(done.trials)[:2]
    other = sightline.sweep(recipe, tiles, out=tmp_path / "b", trials=1, seed=7, quiet=True, **SPACE)
    assert other.trials[0]["values"] != done.trials[0]["values"]
    longer = sightline.sweep(recipe, tiles, out=tmp_path / "a", trials=4, quiet=True, **SPACE)
    assert without_times(longer.trials) == without_times(done.trials), "extended by the same command"


def sweep_in_a_fork(recipe: Config, tiles: Path, out: Path, **more: Any) -> int:
    """Run the sweep in a forked process, which ends with its exit status; returns the process id."""
    child = os.fork()
    if child == 0:
        os.setsid()
        try:
            sightline.sweep(recipe, tiles, out=out, quiet=True, **SPACE, **more)
            os._exit(0)
        except SightlineError as error:
            os._exit(error.status)
        finally:
            os._exit(99)
    return child


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    assert condition()


def epochs_of(run_folder: Path) -> int:
    return sum(record.get("event") == "eval" for record in read_json_lines(run_folder / "metrics.jsonl"))


def is_unlocked(run_folder: Path) -> bool:
    with suppress(SightlineError), lock_run(run_folder):
        return True
    return False


def test_a_killed_sweep_resumes_with_the_same_trials(done: Sweep, recipe: Config, tiles: Path, tmp_path: Path) -> None:
    out, trial = tmp_path / "sweep", tmp_path / "sweep" / "trial-0002"
    child = sweep_in_a_fork(recipe, tiles, out, trials=4)
    wait_for(lambda: epochs_of(trial) >= 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    wait_for(lambda: is_unlocked(trial))
    journal = (out / "trials.journal").read_bytes()
    (out / "trials.journal").write_bytes(journal + b'{"op_code":5,"trial_')  # an incomplete line, as after a power loss
    assert sightline.sweep(recipe, tiles, out=out, trials=4, quiet=True, **SPACE).trials[-1]["state"] == "complete"
    assert without_times(Sweep(out).trials) == without_times(done.trials)
    assert (out / "best.yaml").read_text() == (done.path / "best.yaml").read_text()


def test_a_stale_lock_of_the_journal_is_removed(tmp_path: Path) -> None:
    """Optuna would wait 30 seconds for the lock that `kill -9` leaves behind."""
    lock = tmp_path / "trials.journal.lock"
    assert open_storage(tmp_path, "")._backend._lock._lock_file == str(lock)
    lock.touch()
    open_storage(tmp_path, "")
    assert not lock.exists()
    lock.symlink_to("trials.journal")  # the lock of earlier versions
    open_storage(tmp_path, "")
    assert not os.path.lexists(lock)


def test_the_journal_is_written_without_symbolic_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows they need a privilege that ordinary users do not have."""

    def refused(*paths: str) -> None:
        raise OSError("[WinError 1314] A required privilege is not held by the client")

    monkeypatch.setattr(os, "symlink", refused)
    study = importlib.import_module("optuna").create_study(storage=open_storage(tmp_path, ""))
    assert study.ask().number == 0 and (tmp_path / "trials.journal").read_bytes()


def test_ctrl_c_saves_running_trials_and_the_same_command_resumes_them(
    recipe: Config, tiles: Path, tmp_path: Path
) -> None:
    long = resolve(recipe, {"train.epochs": 120})
    out, trial = tmp_path / "sweep", tmp_path / "sweep" / "trial-0000"
    child = sweep_in_a_fork(long, tiles, out, trials=1, pruner="none")
    wait_for(lambda: epochs_of(trial) >= 2)
    os.kill(child, signal.SIGINT)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
    reached = epochs_of(trial)
    assert 2 <= reached < 120 and list((trial / "checkpoints" / "last").glob("state-*"))
    result = sightline.sweep(long, tiles, out=out, trials=1, pruner="none", quiet=True, **SPACE)
    assert result.trials[0]["epochs"] == 120 and result.trials[0]["state"] == "complete"
    assert any(record["event"] == "resume" for record in read_json_lines(trial / "metrics.jsonl"))


def test_a_bad_trial_is_pruned_and_not_resumed(
    recipe: Config, tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr(importlib.import_module("sightline.sweep.study"), "STARTUP_TRIALS", 1)
    arguments: dict[str, Any] = {"sampler": "grid", "out": tmp_path / "s", "optim.lr": [0.05, 1e-9]}
    long = resolve(recipe, {"train.epochs": 80, "optim.momentum": 0.9})
    result = sightline.sweep(long, tiles, **arguments)
    good, bad = result.trials
    assert (good["state"], bad["state"]) == ("complete", "pruned") and bad["epochs"] < 60 <= good["epochs"]
    assert epochs_of(tmp_path / "s" / "trial-0001") < 80 and not sightline.Run(tmp_path / "s" / "trial-0001").metrics
    assert any("trial 1" in line and f"pruned after epoch {bad['epochs']:g}" in line for line in lines())
    before = without_times(result.trials)
    assert without_times(sightline.sweep(long, tiles, **arguments).trials) == before


def test_a_failed_trial_is_recorded_and_the_sweep_continues(recipe: Config, tiles: Path, tmp_path: Path) -> None:
    """A loss that is not finite, and an invalid combination of settings."""
    result = sightline.sweep(
        recipe, tiles, out=tmp_path / "s", sampler="grid", quiet=True,
        **{"optim.lr": [0.05, 1e30], "optim.momentum": [0.0, 0.9], "optim.nesterov": [False, True]},
    )  # fmt: skip
    states = {tuple(row["values"].values()): (row["state"], row["message"]) for row in result.trials}
    assert states[0.05, 0.9, True][0] == states[0.05, 0.0, False][0] == "complete"
    assert states[0.05, 0.0, True] == ("failed", states[0.05, 0.0, True][1])
    assert "nesterov needs momentum" in states[0.05, 0.0, True][1]
    assert states[1e30, 0.9, True][0] == "failed" and "not finite" in states[1e30, 0.9, True][1]
    page = result.report.read_text(encoding="utf-8")
    assert "is not finite" in page and f"{[state for state, _ in states.values()].count('failed')} failed" in page


def test_if_the_first_trials_all_fail_the_sweep_ends_with_an_error(recipe: Config, tiles: Path, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="the first 3 trials have all failed") as caught:
        sightline.sweep(recipe, tiles, out=tmp_path / "s", trials=9, quiet=True, **{"optim.lr": "1e30..1e32"})
    assert "not finite" in caught.value.why and len(Sweep(tmp_path / "s").trials) == 3


def test_another_sweep_in_the_folder_is_rejected_with_the_differences(
    done: Sweep, recipe: Config, tiles: Path, make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    before = (done.path / "sweep.json").read_bytes()
    changed = {"optim.lr": "1e-3..1", "train.batch_size": "8,16", "optim.momentum": "0.5"}
    with pytest.raises(SightlineError, match="another sweep") as caught:
        sightline.sweep(recipe, tiles, out=done.path, trials=4, seed=3, **changed)
    why = caught.value.why
    assert "optim.lr: log:0.0001..1.0 -> log:0.001..1.0" in why and "seed: 0 -> 3" in why
    assert "optim.momentum: 0.9 -> 0.5" in why and "train.batch_size" not in why
    other = make_photos(tmp_path / "other", classes=2, train=15, val=8, size=8)
    with pytest.raises(SightlineError, match="another sweep") as caught:
        sightline.sweep(recipe, other, out=done.path, trials=4, **SPACE)
    assert "train: 32} -> " not in caught.value.why and "data, images" in caught.value.why
    with pytest.raises(SightlineError, match="not empty"):
        sightline.sweep(recipe, tiles, out=done.path / "figures", **SPACE)
    assert (done.path / "sweep.json").read_bytes() == before


def test_images_with_changed_contents_end_the_sweep(
    recipe: Config, make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    data = make_photos(tmp_path / "data", classes=2, train=8, val=4, size=8)
    arguments: dict[str, Any] = {"out": tmp_path / "s", "quiet": True, "optim.lr": "1e-3..1e-1"}
    arguments |= {"data.inner_fraction": 0}
    sightline.sweep(recipe, data, trials=1, **arguments)
    first, second = data / "val" / "class_0" / "10000.png", data / "val" / "class_1" / "10001.png"
    first.write_bytes(second.read_bytes())
    os.utime(first, (1, 1))
    with pytest.raises(SightlineError, match="the images of this sweep have changed"):
        sightline.sweep(recipe, data, trials=2, **arguments)


def test_trials_with_the_preprocessing_of_different_weights(
    recipe: Config, make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    """Bicubic for one network and bilinear for the other: the decoded images differ, but not the files."""
    data = make_photos(tmp_path / "data", classes=2, train=8, val=4, size=40)
    settings = {"model.name": "timm/test_resnet,timm/test_efficientnet", "data.filter": "pretrained"}
    fixed = {"train.epochs": "1", "data.size": "32", "model.args": "{}"}
    result = sightline.sweep(recipe, data, out=tmp_path / "s", quiet=True, **settings, **fixed)
    assert [row["state"] for row in result.trials] == ["complete"] * 2


@pytest.mark.slow
def test_parallel_trials_in_a_database_and_a_second_command_is_rejected(
    recipe: Config, tiles: Path, tmp_path: Path
) -> None:
    out, storage = tmp_path / "s", f"sqlite:///{tmp_path}/s.db"
    long = resolve(recipe, {"train.epochs": 20})
    child = sweep_in_a_fork(long, tiles, out, trials=3, jobs=2, storage=storage)
    wait_for(lambda: epochs_of(out / "trial-0000") >= 1 and epochs_of(out / "trial-0001") >= 1)
    with pytest.raises(SightlineError, match="another run is writing"):
        sightline.sweep(long, tiles, out=out, trials=3, storage=storage, quiet=True, **SPACE)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [(row["trial"], row["state"]) for row in Sweep(out).trials] == [(n, "complete") for n in range(3)]
    with pytest.raises(SightlineError, match="storage belongs to another sweep"):
        sightline.sweep(long, tiles, out=out, trials=3, quiet=True, **SPACE)


def test_a_small_space_is_searched_completely_with_any_sampler(recipe: Config, tiles: Path, tmp_path: Path) -> None:
    result = sightline.sweep(recipe, tiles, out=tmp_path / "s", quiet=True, **{"train.batch_size": "15..17"})
    assert sorted(row["values"]["train.batch_size"] for row in result.trials) == [15, 16, 17]


def test_a_full_disk_has_status_3_and_the_trial_is_resumed(
    recipe: Config, tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full while the second trial trains; simulated, because tests may run as root."""
    module = importlib.import_module("sightline.sweep.scheduler")
    outcome, write_results = module.RunningTrial.outcome, module.write_results
    failed: list[int] = []

    def outcome_with_full_disk(trial: Any) -> Any:
        failed.extend([1] * (trial.trial.number == 1))
        return replace(outcome(trial), state="failed", message="cannot write best") if failed else outcome(trial)

    def write_to_full_disk(study: Any) -> Any:
        if failed:
            raise SightlineError("cannot write sweep.json", why="No space left on device", status=3)
        return write_results(study)

    monkeypatch.setattr(module.RunningTrial, "outcome", outcome_with_full_disk)
    monkeypatch.setattr(module, "write_results", write_to_full_disk)
    with pytest.raises(SightlineError) as caught:
        sightline.sweep(recipe, tiles, out=tmp_path / "s", trials=2, quiet=True, **SPACE)
    assert caught.value.status == 3
    monkeypatch.undo()
    assert [row["state"] for row in Sweep(tmp_path / "s").trials] == ["complete"]
    resumed = sightline.sweep(recipe, tiles, out=tmp_path / "s", trials=2, quiet=True, **SPACE)
    assert [row["state"] for row in resumed.trials] == ["complete", "complete"]


def test_mistakes_are_reported_before_any_training(tmp_path: Path, tiles: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    vary = ["--optim.lr", "1e-3..1e-1"]
    for tokens, expected in (
        (["digits"], "nothing to search"),
        (["digits", *vary, "--metric", "mean_iou"], "--metric accuracy"),
        (["digits", *vary, "--pruner", "hyperband"], "--pruner median"),
        (["digits", *vary, "--trials", "0", "--jobs", "0"], "--jobs 0"),
        (["digits", *vary, "--cluster", "slurmm", "--cluster.partitoin", "gpu"], "did you mean partition?"),
        (["digits", *vary, "--cluster.partition", "gpu"], "needs --cluster slurm"),
        (["digits", "--model.name", "resnet18,resnet19"], "resnet19"),
        (["digits", "--loss.name", "cross_entropy,dice"], "there is no loss 'dice'"),
        (["photos_scratch", *vary, "--data", str(tmp_path / "nowhere")], "nowhere"),
        (["photos_scratch", *vary], "--data"),
        (["digits", *vary, "--storage", "nosuch://x"], "--storage sqlite"),
    ):
        assert run(["sweep", *tokens]) in (2, 3), tokens
        error = capsys.readouterr().err
        assert expected in error and "cure:" in error and "Traceback" not in error, error
    assert not list(tmp_path.glob("runs/*/trial-*"))


def test_the_name_in_a_recipe_cannot_be_a_path_outside_runs(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = resolve(load_recipe("photos_scratch"), {"name": "x/../../../evil", "data.path": str(tiles)})
    with pytest.raises(SightlineError, match="cannot have the name"):
        sightline.sweep(recipe, quiet=True, **SPACE)
    assert not list(tmp_path.iterdir())


def test_without_the_extra_the_error_names_the_package_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(SightlineError) as caught:
        sightline.sweep("digits", out=tmp_path / "s", **{"optim.lr": "1..2"})
    assert "sightline-vision[sweep]" in caught.value.cure and not (tmp_path / "s").exists()


def test_a_sweep_of_label_sets(quarters: Path, tmp_path: Path) -> None:
    config = configured(SETTINGS | {"train.epochs": 1, "report.samples": 0})
    space = {"optim.lr": "1e-4..1e-2", "loss.name": "binary_cross_entropy,asymmetric"}
    out, metric = tmp_path / "sweep", "mean_average_precision"
    done = sightline.sweep(config, quarters, out=out, trials=2, metric=metric, quiet=True, **space)
    for row in done.trials:
        end = sightline.Run(out / f"trial-{row['trial']:04d}").metrics
        assert row["state"] == "complete" and row["value"] == end[metric] > 0
    assert done.best is not None and done.best.metrics[metric] == max(row["value"] for row in done.trials)
    assert "Mean average precision" in (out / "report.html").read_text(encoding="utf-8")
