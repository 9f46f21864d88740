"""The training loop: files of a run, bit-identical resumption, signals, early stopping, and errors."""

import contextlib
import csv
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import sightline
from config_toys import configured
from forked import ended, fork, sightline_command, wait_until
from parts_toys import build
from sightline import SightlineError
from sightline.config.resolve import resolve
from sightline.config.schema import Config
from sightline.engine import training_state
from sightline.engine.parts import training_flops
from sightline.engine.state import Clock
from sightline.recipes import load_recipe
from sightline.runs.atomic import read_json_lines
from sightline.runs.csv_io import class_columns
from sightline.runs.log import RunLog
from sightline.stats.class_weights import class_weights
from sightline.tasks.classify.results import evaluate_checkpoints
from sightline.tasks.whole_image import build as build_whole_image

pytestmark = pytest.mark.usefixtures("quick_figures")

loop = importlib.import_module("sightline.train")  # `sightline.train` is the function

SAMPLES = {"report.samples": 4}
NARROW = {"widths": [8, 16, 16], "hidden": 32}  # of small_cnn


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / "last" / "model.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def base(tiny: dict, **more: object) -> Config:
    values = tiny | {"schedule.name": "one_cycle", "optim.name": "sgd", "optim.lr": 0.05, "optim.ema": 0.9}
    own = {"model.args": {} if "model.name" in more else NARROW}
    return resolve(Config(name="t"), values | own | SAMPLES | more)


@pytest.fixture(scope="module")
def done(photos: Path, tiny: dict, tmp_path_factory: pytest.TempPathFactory, quick_figures: None) -> sightline.Run:
    """A finished run of `base`, whose files tests must not change."""
    return sightline.train(base(tiny), photos, out=tmp_path_factory.mktemp("done") / "run", quiet=True)


def test_files_of_a_run(done: sightline.Run) -> None:
    run = done
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


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_features_of_training_images_are_saved_if_set(photos: Path, tmp_path: Path, tiny: dict, precision: str) -> None:
    """The setting does not change the weights, and works for several evaluation batches."""
    own = {"train.precision": precision, "train.eval_batch_size": 16}
    config = base(tiny, **{"report.train_samples": 20, "report.samples": 16, "optim.ema": 0.0} | own)
    run = sightline.train(config, photos, out=tmp_path / "run", quiet=True)
    plain = sightline.train(resolve(config, {"report.train_samples": 0}), photos, out=tmp_path / "plain", quiet=True)
    assert same(weights(run.path), weights(plain.path))
    features = np.load(run.path / "snapshots" / "epoch-00002" / "train-features.npz")["features"]
    samples = np.load(run.path / "snapshots" / "train-samples.npz")
    assert len(features) == len(samples["labels"]) == 20 and np.isfinite(features).all()
    again = sightline.evaluate(run.path, split="train", quiet=True)
    assert again["images"] == 64
    text = run.report.read_text()
    assert "same 20 training images" in text and "same 16 validation images" in text
    assert (run.path / "figures" / "tsne-training.png").is_file()
    assert not (plain.path / "figures" / "tsne-training.png").exists()


def test_a_step_in_float16_whose_gradient_overflows_is_left_out(
    photos: Path, tmp_path: Path, tiny: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scale of the loss is halved until gradients are finite; with scale 1 the run ends with an error."""
    scales: list[float] = []
    update = torch.amp.GradScaler.update

    def recorded(scaler: torch.amp.GradScaler) -> None:
        scales.append(scaler.get_scale())
        update(scaler)

    monkeypatch.setattr(torch.amp.GradScaler, "update", recorded)
    config = base(tiny, **{"train.precision": "fp16", "train.epochs": 1})
    monkeypatch.setattr(loop, "loss_scaler", lambda *given: torch.amp.GradScaler("cpu", init_scale=2.0**30))
    run = sightline.train(config, photos, out=tmp_path / "run", quiet=True)
    assert scales[0] == 2.0**30 and scales[-1] < 2.0**30 and scales == sorted(scales, reverse=True)
    losses = [record["loss"] for record in read_json_lines(run.path / "metrics.jsonl") if record["event"] == "train"]
    assert all(np.isfinite(losses)) and sightline.evaluate(run.path, quiet=True)["accuracy"] > 0.25
    monkeypatch.setattr(loop, "loss_scaler", lambda *given: torch.amp.GradScaler("cpu", init_scale=1.0))
    monkeypatch.setattr(loop, "clip_gradients", lambda *given: torch.tensor(float("inf")))
    with pytest.raises(SightlineError, match="the gradient is not finite"):
        sightline.train(config, photos, out=tmp_path / "other", quiet=True)


def test_equal_recipes_give_equal_weights_and_other_seeds_different_ones(
    done: sightline.Run, photos: Path, tmp_path: Path, tiny: dict
) -> None:
    again = sightline.train(str(done.path / "recipe.yaml"), out=tmp_path / "b", quiet=True)
    other = sightline.train(base(tiny, **{"train.seed": 1}), photos, out=tmp_path / "c", quiet=True)
    assert same(weights(done.path), weights(again.path))
    assert not same(weights(done.path), weights(other.path))


def test_sharpness_aware_steps_start_at_sam_from_and_count_twice(photos: Path, tmp_path: Path, tiny: dict):
    """Two epochs, of which the second is sharpness-aware: the first has equal losses, the second twice the FLOPs."""
    late = {"optim.sam_radius": 0.2, "optim.sam_from": 0.5}
    plain = sightline.train(base(tiny, **{"train.epochs": 2}), photos, out=tmp_path / "plain", quiet=True)
    sharp = sightline.train(base(tiny, **{"train.epochs": 2}, **late), photos, out=tmp_path / "sharp", quiet=True)
    first, second = (read_json_lines(run.path / "metrics.jsonl") for run in (plain, sharp))
    losses = [[r["loss"] for r in events if r["event"] == "train"] for events in (first, second)]
    assert losses[0][:7] == losses[1][:7] and losses[0][8:] != losses[1][8:]
    assert second[-1]["train_flops"] == pytest.approx(1.5 * first[-1]["train_flops"])


def test_resuming_after_sigkill_within_an_epoch_gives_the_same_weights(
    photos: Path, tmp_path: Path, tiny: dict, train_and_kill: Callable[..., None]
) -> None:
    settings = tiny | {"train.epochs": 3, "train.checkpoint_minutes": 0, "report.samples": 0, "optim.ema": 0.9}
    settings |= {"optim.sam_radius": 0.2, "train.batch_size": 5, "optim.accumulate": 2}  # 13 batches, 7 steps
    settings["model.args"] = NARROW
    uninterrupted = sightline.train(configured(settings), photos, out=tmp_path / "uninterrupted", quiet=True)
    arguments = [item for key, value in settings.items() for item in (f"--{key}", value)]
    recipe = tmp_path / "plain.yaml"
    recipe.write_text("{}")
    killed = tmp_path / "killed"
    train_and_kill([recipe, "--data", photos, "--out", killed, *arguments], killed, 9)
    resumed = sightline.resume(killed, quiet=True)
    assert same(weights(uninterrupted.path), weights(resumed.path))
    assert [r["step"] for r in read_json_lines(killed / "metrics.jsonl") if r["event"] == "eval"] == [7, 14, 21]


def test_sigterm_saves_prints_the_resume_command_and_exits_with_4(photos: Path, tmp_path: Path, tiny: dict) -> None:
    values = tiny | {"train.epochs": 2000, "model.args": NARROW}
    settings = [item for key, value in values.items() for item in (f"--{key}", value)]
    out, said = tmp_path / "run", tmp_path / "said.txt"
    process = fork(sightline_command, "train", "digits", "--data", photos, "--out", out, *settings, output=said)
    wait_until(lambda: len(read_json_lines(out / "metrics.jsonl")) >= 5)
    process.terminate()
    assert ended(process) == 4
    text = said.read_text()
    assert f"sightline resume {out}" in text and "Traceback" not in text


def test_a_loss_that_is_not_finite_is_an_error_with_the_files(photos: Path, tmp_path: Path, tiny: dict) -> None:
    settings = {"optim.lr": 1e18, "optim.ema": 0, "schedule.name": "constant"}
    with pytest.raises(SightlineError, match="not finite") as caught:
        sightline.train(base(tiny, **settings), photos, out=tmp_path / "run", quiet=True)
    assert "class_" in str(caught.value) and "--optim.lr" in caught.value.cure
    names = (tmp_path / "run" / "not-finite-batch.txt").read_text().split()
    assert len(names) == 9  # the first batch: 64 images are 7 batches of 9 or 10
    state = next((tmp_path / "run/checkpoints/last").glob("state-*.safetensors"))
    assert all(torch.isfinite(t).all() for t in load_file(state).values() if t.is_floating_point())


def test_after_a_loss_that_is_not_finite_a_low_learning_rate_is_not_lowered(
    photos: Path, tmp_path: Path, tiny: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_state, "LOWEST_RATE", 1e18)
    settings = {"optim.lr": 1e18, "optim.ema": 0, "schedule.name": "constant"}
    with pytest.raises(SightlineError, match="not finite") as caught:
        sightline.train(base(tiny, **settings), photos, out=tmp_path / "run", quiet=True)
    assert "images of this batch" in caught.value.cure and "--optim.lr" not in caught.value.cure


def test_patience_and_time_limit(photos: Path, tmp_path: Path, tiny: dict) -> None:
    settings = {"train.epochs": 50, "train.patience": 2, "optim.lr": 1e-9, "schedule.name": "constant", "optim.ema": 0}
    settings["model.args"] = {}
    run = sightline.train(base(tiny, **settings), photos, out=tmp_path / "a", quiet=True)
    assert run.metrics["epoch"] == run.metrics["best_epoch"] + 2 < 50
    stop = next(r for r in read_json_lines(run.path / "metrics.jsonl") if r["event"] == "stop")
    assert "no better accuracy for 2 epochs" in stop["reason"]
    limited = sightline.train(
        base(tiny, **{"train.epochs": 100_000, "train.max_minutes": 0.005}), photos, out=tmp_path / "b", quiet=True
    )
    assert limited.metrics["accuracy"] > 0 and limited.metrics["epoch"] < 100_000


def test_the_time_limit_counts_on_rank_0(tmp_path: Path) -> None:
    """The clocks of the other ranks include decoding, and with --overwrite the duration of the earlier run."""
    (tmp_path / "metrics.jsonl").write_text('{"event": "train", "step": 1, "seconds": 9999}')

    def reason(writes: bool) -> str:
        training: Any = SimpleNamespace(config=configured({"train.max_minutes": 9}), epoch_steps=4)
        training.log, training.progress = RunLog(tmp_path, quiet=True, writes=writes), SimpleNamespace(step=1)
        training.stop = SimpleNamespace(requested=False)
        return loop.stop_reason(training, Clock())

    assert reason(writes=True) == "time limit of 9 minutes reached" and reason(writes=False) == ""


def test_evaluate_every_does_not_change_the_weights(photos: Path, tmp_path: Path, tiny: dict) -> None:
    """With 3, the first, every third and the last epoch are evaluated, and the best epoch is one of these."""
    runs = [
        sightline.train(
            base(tiny, **{"train.epochs": 7, "train.evaluate_every": every}),
            photos,
            out=tmp_path / str(every),
            quiet=True,
        )
        for every in (1, 3)
    ]
    assert same(weights(runs[0].path), weights(runs[1].path))
    records = [r for r in read_json_lines(runs[1].path / "metrics.jsonl") if r["event"] == "eval"]
    assert [r["epoch"] for r in records] == [1, 3, 6, 7]
    assert runs[1].metrics["accuracy"] == max(r["accuracy"] for r in records)
    settings = {"train.epochs": 50, "train.evaluate_every": 4, "train.patience": 2, "optim.lr": 1e-9, "optim.ema": 0}
    settings |= {"schedule.name": "constant", "model.args": {}}
    stopped = sightline.train(base(tiny, **settings), photos, out=tmp_path / "c", quiet=True)
    assert stopped.metrics["epoch"] == 4


def test_a_stop_rule_in_the_last_epoch_stops_nothing(
    photos: Path, tmp_path: Path, tiny: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"train.epochs": 3, "train.patience": 2, "optim.lr": 1e-9, "optim.ema": 0, "schedule.name": "constant"}
    run = sightline.train(base(tiny, **settings), photos, out=tmp_path / "run", quiet=True)
    assert run.metrics["epoch"] == 3
    capsys.readouterr()
    sightline.resume(run.path)
    assert "(3 epochs completed)" in (said := capsys.readouterr().out) and "--train.epochs 6" in said


def test_training_that_stops_early_is_evaluated_at_its_last_epoch(
    photos: Path, tmp_path: Path, tiny: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "stop_reason", lambda training, clock: "enough" if training.epoch == 3 else "")
    settings = {"train.epochs": 50, "train.evaluate_every": 40}
    run = sightline.train(base(tiny, **settings), photos, out=tmp_path / "run", quiet=True)
    records = read_json_lines(run.path / "metrics.jsonl")
    assert [r["epoch"] for r in records if r["event"] == "eval"] == [1, 3] and run.metrics["epoch"] in (1, 3)


def test_accumulation_equals_the_large_batch(photos: Path, tmp_path: Path, tiny: dict) -> None:
    plain = {"optim.ema": 0, "schedule.name": "constant", "optim.momentum": 0, "train.epochs": 1}
    plain |= {"model.name": "resnet9", "model.args": {"widths": [8, 16, 16, 16]}}
    plain |= {"model.freeze": True}  # frozen batch norm does not depend on the batch
    large = sightline.train(base(tiny, **plain | {"train.batch_size": 32}), photos, out=tmp_path / "a", quiet=True)
    settings = plain | {"train.batch_size": 16, "optim.accumulate": 2}
    small = sightline.train(base(tiny, **settings), photos, out=tmp_path / "b", quiet=True)
    for name, tensor in weights(large.path).items():
        torch.testing.assert_close(tensor, weights(small.path)[name], rtol=1e-4, atol=1e-6)


def test_an_ensemble_averages_the_probabilities_of_its_epochs(photos: Path, tmp_path: Path, tiny: dict) -> None:
    settings = {"train.epochs": 4, "train.ensemble": 2, "optim.lr": 0.002, "optim.ema": 0.0}
    run = sightline.train(base(tiny, **settings), photos, out=tmp_path / "run", quiet=True)
    members = sorted((run.path / "checkpoints").glob("epoch-*"))
    losses = {r["epoch"]: r["loss"] for r in read_json_lines(run.path / "metrics.jsonl") if r["event"] == "eval"}
    assert [int(m.name[-5:]) for m in members] == sorted(sorted(losses, key=losses.__getitem__)[:2])
    numbers = sightline.evaluate(run.path, quiet=True)
    assert numbers["accuracy"] == run.metrics["accuracy"] and numbers["loss"] == run.metrics["loss"]
    parts = build(resolve(base(tiny, **settings), {"data.path": str(photos)}), lambda text: None)
    found = [
        evaluate_checkpoints(parts.learner, [member], parts.val, 256, parts.device, parts.dtype)[1]["probabilities"]
        for member in members
    ]
    mean = dict(zip(parts.val.names, np.mean(found, 0), strict=True))
    assert np.abs(found[0] - found[1]).max() > 1e-3, "the members must differ"
    with open(sightline.predict(run.path, photos, out=tmp_path / "all.csv", quiet=True), newline="") as file:
        rows = {row["filename"]: row for row in csv.DictReader(file)}
    for name, expected in mean.items():
        values = [float(rows[name][header]) for header in class_columns(parts.val.classes)]
        np.testing.assert_allclose(values, expected, atol=2e-6)


def test_the_accuracy_of_the_predictions_equals_the_metrics(done: sightline.Run) -> None:
    rows = np.genfromtxt(done.path / "predictions/val.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    assert np.mean(rows["label"] == rows["truth"]) == pytest.approx(done.metrics["accuracy"])


def test_errors_have_a_cure(done: sightline.Run, photos: Path, tmp_path: Path, tiny: dict) -> None:
    run = done
    with pytest.raises(SightlineError, match="already contains a run") as caught:
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


def test_overwrite_keeps_the_old_run_until_the_new_one_starts(photos: Path, tmp_path: Path, tiny: dict) -> None:
    run = sightline.train(base(tiny), photos, out=tmp_path / "run", quiet=True)
    (run.path / "thesis.txt").write_text("mine")
    with pytest.raises(SightlineError):
        sightline.train(base(tiny), tmp_path / "nowhere", out=run.path, overwrite=True, quiet=True)
    assert run.report.is_file() and run.metrics
    sightline.train(base(tiny), photos, out=run.path, overwrite=True, quiet=True)
    assert (run.path / "thesis.txt").read_text() == "mine"


def test_a_run_folder_inside_the_data_is_an_error(make_photos, tmp_path: Path, tiny: dict) -> None:
    data = make_photos(tmp_path / "data")
    with pytest.raises(SightlineError, match="inside the data") as caught:
        sightline.train(base(tiny), data, out=data / "runs" / "x", quiet=True)
    assert str(tmp_path / "runs" / "x") in caught.value.cure and not (data / "runs").exists()


VIT = {"model.name": "timm/vit_tiny_patch16_224", "model.args": {"depth": 1, "embed_dim": 24, "num_heads": 2}}


def test_settings_are_checked_before_anything_is_decoded(photos: Path, tmp_path: Path, tiny: dict) -> None:
    mistakes = [
        ({"model.name": "resnet19"}, "resnet18"),
        ({"model.weights": str(tmp_path / "gone.safetensors")}, "gone.safetensors"),
        ({"augment.progressive": ((1, 0.5),)}, "augment.progressive"),
        (VIT | {"augment.progressive": ((16, 0.5),), "data.size": 32}, "augment.progressive"),
        ({"train.batch_size": 1, "model.name": "resnet18"}, "batch"),
    ]
    decoded = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_whole_image, "decode", lambda *arguments: decoded.append(arguments))
        for settings, expected in mistakes:
            with pytest.raises(SightlineError, match=expected):
                sightline.train(base(tiny, **settings), photos, out=tmp_path / "run", quiet=True)
    assert not decoded and not (tmp_path / "run").exists()


def test_an_epoch_with_a_validation_loss_that_is_not_finite_is_not_the_best(
    photos: Path, tmp_path: Path, tiny: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = loop.evaluate, []

    def with_nan(*arguments: object) -> tuple[dict, dict]:
        numbers, arrays = real(*arguments)
        calls.append(1)
        return numbers | ({"loss": float("nan"), "accuracy": 1.0} if len(calls) == 1 else {}), arrays

    monkeypatch.setattr(loop, "evaluate", with_nan)
    run = sightline.train(base(tiny), photos, out=tmp_path / "run", quiet=True)
    assert run.metrics["best_epoch"] == 2


def test_accumulated_batches_are_weighted_by_their_size(photos: Path, tmp_path: Path, tiny: dict) -> None:
    plain = {"optim.ema": 0, "schedule.name": "constant", "optim.momentum": 0, "train.epochs": 1}
    plain |= {"model.name": "resnet9", "model.args": {"widths": [8, 16, 16, 16]}, "model.freeze": True}
    large = sightline.train(base(tiny, **plain | {"train.batch_size": 64}), photos, out=tmp_path / "a", quiet=True)
    settings = plain | {"train.batch_size": 3, "optim.accumulate": 22}  # 22 batches of 2 or 3 of the 64 images
    small = sightline.train(base(tiny, **settings), photos, out=tmp_path / "b", quiet=True)
    for name, tensor in weights(large.path).items():
        torch.testing.assert_close(tensor, weights(small.path)[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("accumulate", [1, 2, 6, 9])
def test_the_steps_of_an_epoch_have_almost_equal_numbers_of_batches(
    accumulate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "epoch_batches", lambda training, epoch, begin: iter(range(begin, training.batch_count)))
    for count in range(1, 30):
        training: Any = SimpleNamespace(batch_count=count, epoch_steps=-(-count // accumulate))
        groups = list(loop.accumulation_groups(training, 0, 0, Clock()))
        assert [batch for group in groups for batch in group] == list(range(count)) and len(
            groups
        ) == training.epoch_steps
        lengths = [len(group) for group in groups]
        assert max(lengths) <= accumulate and max(lengths) - min(lengths) <= 1
        for first in range(len(groups)):
            assert list(loop.accumulation_groups(training, 0, first, Clock())) == groups[first:]


def test_the_preview_shows_mixed_images(photos: Path, tmp_path: Path, tiny: dict) -> None:
    sheets = []
    for name, settings in (("plain", {}), ("mixed", {"augment.cutmix": 1.0})):
        more = settings | {"train.preview": True, "train.epochs": 1}
        run = sightline.train(base(tiny, **more), photos, out=tmp_path / name, quiet=True)
        sheets.append((run.path / "figures" / "preview.png").read_bytes())
    assert sheets[0] != sheets[1]


def test_the_required_space_includes_moments_and_ensemble(photos: Path, tmp_path: Path, tiny: dict) -> None:
    needs, setup = [], importlib.import_module("sightline.engine.setup")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "preflight", lambda folder, needed: needs.append(needed))
        for number, settings in enumerate(({}, {"optim.name": "adamw"}, {"train.ensemble": 3})):
            more = settings | {"train.epochs": 1, "optim.ema": 0, "optim.momentum": 0, "model.args": {}}
            sightline.train(base(tiny, **more), photos, out=tmp_path / str(number), quiet=True)
    states = list((tmp_path / "1" / "checkpoints").rglob("*.safetensors"))
    assert sum(path.stat().st_size for path in states) < needs[1]
    model = (tmp_path / "0" / "checkpoints" / "best" / "model.safetensors").stat().st_size
    assert needs[1] - needs[0] > 5 * model and needs[2] - needs[0] == pytest.approx(3 * model, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classify", "segment", "byol"])
def test_compiled_training_gives_the_same_losses(
    task: str, photos: Path, make_scenes, toy, tiny: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.compile with the backend `eager`, which needs no C++ compiler. Batches of one size are compiled once."""
    calls = []
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **more: calls.append(more) or real(f, backend="eager", **more))
    if task == "classify":
        config, data = base(tiny, **{"train.epochs": 1, "train.batch_size": 16}), photos
    elif task == "segment":
        unet = {"width": 8, "blocks": [1, 1, 1, 1], "decoder": [8], "context": False}
        scenes = make_scenes(tmp_path / "scenes", train=8, val=2)
        config, data = toy(**{"train.epochs": 1, "model.args": unet}), scenes
    else:
        heads = {"projector": [32, 16], "predictor": 32}
        byol = tiny | {"train.best_metric": "epoch", "train.epochs": 1, "augment.progressive": [], "report.samples": 0}
        byol |= {"model.args": {"widths": [8, 16], "hidden": 32, "dropout": 0.0}, "train.batch_size": 16}
        config, data = resolve(load_recipe("moco_fast"), byol | {"pretrain": heads}), photos
    found = []
    for compiled in (False, True):
        settings = {"train.compile": compiled}
        run = sightline.train(resolve(config, settings), data, out=tmp_path / f"{compiled}", quiet=True)
        found.append([r["loss"] for r in read_json_lines(run.path / "metrics.jsonl") if r["event"] == "train"])
    assert calls and all(more == {"dynamic": False} for more in calls)
    assert found[0] == pytest.approx(found[1], rel=1e-4)


@pytest.mark.parametrize("kind", ["none", "balanced", "log"])
def test_class_weights_of_the_learner(kind: str, make_photos: Callable[..., Path], tmp_path: Path, tiny: dict) -> None:
    data = make_photos(tmp_path / "data", classes=2, train=6, val=2)
    for path in sorted((data / "train").glob("*/*"))[:4]:
        path.unlink()  # 2 of the first class, 6 of the second
    config = base(tiny, **{"data.path": str(data), "loss.class_weights": kind})
    found = build(config, lambda text: None).learner.class_weights
    if kind == "none":
        assert found is None
    else:
        np.testing.assert_allclose(found.numpy(), class_weights([2, 6], kind), rtol=1e-6)


def test_flops_of_a_fraction_of_an_epoch(tiny: dict) -> None:
    config = base(tiny, **{"train.epochs": 2, "optim.sam_radius": 0.1, "optim.sam_from": 0.5})
    cost = {config.data.size: 7.0}
    assert training_flops(config, cost, 10, 1) == 70
    assert training_flops(config, cost, 10, 1.25) == pytest.approx(70 + 0.25 * 140)


@pytest.mark.parametrize("name", ["../evil", "/evil", "..", "a\\b", "a\0b", "", "x" * 300, "\ud800/"])
def test_recipe_names_cannot_be_paths_outside_the_run_folder(name: str, photos: Path, tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path), pytest.raises(SightlineError, match="cannot have the name"):
        sightline.train(Config(name=name), photos, quiet=True)
    assert not list(tmp_path.iterdir())
