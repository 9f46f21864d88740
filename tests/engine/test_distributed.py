"""Runs with several processes: gradients and metrics equal those of one process, and failures end all processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import distributed_toys
import sightline
from config_toys import configured
from forked import ended, fork, sightline_command, wait_until
from multilabel_toys import write_quarters
from reliability.rows.distributed import environment, free_port, one_case
from sightline.config.resolve import all_keys
from sightline.data.image_cache import subset
from sightline.data.types import Decoded
from sightline.engine import distributed
from sightline.engine.parallel import sharded_step
from sightline.engine.setup import digest_lines, settings_of
from sightline.errors import INTERRUPTED, SightlineError
from sightline.runs.atomic import read_json, read_json_lines


@pytest.fixture(scope="module")
def results(
    tmp_path_factory: pytest.TempPathFactory, make_photos: Callable[..., Path], make_scenes: Callable[..., Path]
) -> Path:
    """The folder of the results of `distributed_toys.py`."""
    folder = tmp_path_factory.mktemp("ranks")
    data = [make_photos(folder / "photos", train=9, val=5), make_scenes(folder / "scenes", train=8, val=5)]
    data.append(write_quarters(folder / "quarters", train=20, val=10))
    output = folder / "output.txt"
    process = fork(distributed_toys.main, *map(str, (*data, folder / "found")), SIZE, output=output)
    assert ended(process, 240) == 0, output.read_text()
    return folder


SIZE = 3  # more than a batch of 2, and not a divisor of those of 7, 8 and 32


@pytest.fixture(scope="module")
def found(results: Path) -> list[dict[str, Any]]:
    """The results of each process of a group of three processes."""
    return [json.loads((results / f"found.{rank}").read_text()) for rank in range(SIZE)]


def test_batch_norm_and_dropout_use_the_global_batch(found: list[dict[str, Any]]) -> None:
    assert all(each["norm_difference"] < 1e-12 and each["same_dropout"] for each in found)


def test_collective_operations(found: list[dict[str, Any]]) -> None:
    results, size = [each["collectives"] for each in found], len(found)
    assert [each["rank0"] for each in results] == [[0, 1, 2, 3, 4]] + [[]] * (size - 1)
    assert all(each["broadcast"] == [0.1 + 0.2, 0] and each["any"] == [True, False] for each in results)
    rows = [float(rank) for rank in range(size) for _ in range(rank + 1)]
    assert all(each["gathered"] == rows for each in results)
    factors = [list(range(sum(range(rank + 1)) + 1, sum(range(rank + 2)) + 1)) for rank in range(size)]
    assert [each["gradient"] for each in results] == [[float(size * factor) for factor in own] for own in factors]
    assert results[0]["error"] == ""
    for rank, each in enumerate(results[1:], 1):
        what = f"process {rank} and process 0 of this run have different settings or data"
        assert each["error"] == f"{what}: their data differs: 'b0.png, dog' in process 0, 'b{rank}.png, dog' here"


def test_full_tensors_of_a_sharded_model_are_gathered_on_rank_0_only(found: list[dict[str, Any]]) -> None:
    values = [float(number) for number in range(6)]
    assert [each["sharded_state"]["saved"] for each in found] == [{"weight": values, "plain": values}, {}, {}]
    assert all(each["sharded_state"]["kept"] == {"exp_avg": 2, "exp_avg_sq": 2} for each in found)


def test_first_difference_of_settings_and_data() -> None:
    recipes = [settings_of(configured({"optim.lr": rate})).splitlines() for rate in (0.1, 0.2)]
    assert distributed.first_difference(*recipes) == "'optim.lr: 0.1' in process 0, 'optim.lr: 0.2' here"
    assert len(recipes[0]) == len(all_keys())
    images, names = np.arange(3 * 3 * 2 * 2, dtype=np.uint8).reshape(3, 3, 2, 2), ("a.png", "b.png", "c.png")
    split = Decoded(images, np.array([0, 1, 0]), names, ("cat", "dog"), "", images.nbytes)
    lines = digest_lines(split)
    assert lines[0] == "classes cat, dog" and lines[2].startswith("b.png, dog, pixels ")
    others = {
        f"{lines[3]!r} in process 0": replace(split, images=images ^ (images == 35)),
        "'b.png, dog, pixels": replace(split, labels=np.array([0, 0, 0])),
        "'classes cat, dog' in process 0, 'classes cat, owl' here": replace(split, classes=("cat", "owl")),
        f"4 in process 0, 3 here; only process 0 has {lines[3]!r}": subset(split, np.arange(2)),
    }
    for text, other in others.items():
        assert distributed.first_difference(lines, digest_lines(other)).startswith(text)
    assert distributed.first_difference(lines[:3], lines).startswith(
        "3 in process 0, 4 here; only this process has 'c.png"
    )
    assert distributed.first_difference(lines, lines) == "the names are equal, but the contents differ"
    masks = np.zeros((3, 2, 2), np.uint8)
    sizes, counts = np.full((3, 2), 2), np.zeros((3, 1), np.int64)
    pairs = Decoded(images, None, names, ("sea",), "", 0, masks=masks, sizes=sizes, counts=counts)
    assert digest_lines(pairs)[1] != digest_lines(replace(pairs, masks=masks + 1))[1], "the digest includes masks"


def test_if_rank_0_cannot_save_all_processes_end_and_the_last_checkpoint_remains(tmp_path: Path) -> None:
    assert one_case("cannot save", 0, "classify", tmp_path / "case") == ""


@pytest.mark.parametrize(
    "name",
    list(distributed_toys.PLAIN),
)
def test_a_step_of_several_processes_equals_that_of_one(found: list[dict[str, Any]], name: str) -> None:
    for each in found:
        alone, together, far, evaluated, shared = each[name]
        assert together == pytest.approx(alone, rel=1e-4)
        assert far < 1e-6, f"gradients differ by {far:.1e} of the largest"
        assert shared == evaluated, "metrics must be bit-identical"


TINY = "--data.size 16 --model.name small_cnn --augment.crop random --augment.padding 2 --train.batch_size 10"
QUICK = "--train.precision fp32 --train.threads 1 --report.samples 0 --train.evaluate_every 9 --optim.lr 1e-3"


def command(photos: Path, out: Path, *more: str) -> list[str]:
    """The arguments of a `sightline train` command."""
    recipe = ["train", "photos_scratch", "--data", str(photos), "--out", str(out), "--quiet"]
    return [*recipe, *TINY.split(), *QUICK.split(), *more]


def run_alone(*tokens: str, folder: Path) -> None:
    """Run a command in one process and wait for its end."""
    output = folder / "alone.txt"
    assert ended(fork(sightline_command, *tokens, output=output)) == 0, output.read_text()


def start_ranks(folder: Path, port: int, *commands: list[str]) -> list[BaseProcess]:
    """Start one command per rank of a run; the output of each goes to folder/RANK.txt."""
    return [
        fork(sightline_command, *tokens, output=folder / f"{rank}.txt", **environment(rank, len(commands), port))
        for rank, tokens in enumerate(commands)
    ]


def train_records(run: Path) -> list[dict[str, Any]]:
    return [record for record in read_json_lines(run / "metrics.jsonl") if record["event"] == "train"]


def weights_apart(first: Path, second: Path) -> float:
    """The largest absolute difference between the last weights of two runs."""
    one, other = (load_file(run / "checkpoints" / "last" / "model.safetensors") for run in (first, second))
    assert list(one) == list(other)
    return max(float((one[name].float() - other[name].float()).abs().max()) for name in one)


def test_sigterm_saves_and_another_number_of_processes_can_resume(
    tmp_path: Path, make_photos: Callable[..., Path]
) -> None:
    photos = make_photos(tmp_path / "photos", train=9, val=5)
    run, uninterrupted, more = tmp_path / "run", tmp_path / "uninterrupted", ["--train.epochs", "8"]
    tokens = command(photos, run, *more)
    processes = start_ranks(tmp_path, free_port(), tokens, tokens)
    wait_until(lambda: train_records(run))
    for process in processes:
        process.terminate()
    assert [ended(process) for process in processes] == [INTERRUPTED, INTERRUPTED]
    output = [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)]
    assert "".join(output).count("interrupted at step") == 1, output
    run_alone("resume", str(run), "--quiet", folder=tmp_path)
    run_alone(*command(photos, uninterrupted, *more), folder=tmp_path)
    steps = [record["step"] for record in train_records(run)]
    assert steps == list(range(1, 33))
    losses = [[record["loss"] for record in train_records(each)] for each in (run, uninterrupted)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)  # with another order of images they differ by 10 % or more
    assert weights_apart(run, uninterrupted) < 0.02


@pytest.mark.slow
def test_the_command_of_the_guide_trains_in_new_interpreters(tmp_path: Path, make_photos: Callable[..., Path]) -> None:
    photos, run = make_photos(tmp_path / "photos", train=9, val=5), tmp_path / "run"
    tokens = command(photos, run, "--train.epochs", "1")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port"]
    ran = subprocess.run(
        [*launcher, str(free_port()), "-m", "sightline", *tokens], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert [record["step"] for record in train_records(run)] == [1, 2, 3, 4]
    assert read_json(run / "provenance.json")["processes"] == 2


def test_processes_restarted_by_torchrun_resume_the_run(tmp_path: Path, make_photos: Callable[..., Path]) -> None:
    photos = make_photos(tmp_path / "photos", train=9, val=5)
    packed = sightline.pack(photos, tmp_path / "packed", shard_mb=0.03, quiet=True)
    run, uninterrupted = tmp_path / "run", tmp_path / "uninterrupted"
    more = ["--train.epochs", "8", "--train.checkpoint_minutes", "1e-9"]
    options = ["--nproc-per-node", "2", "--max-restarts", "1", "--master-port", str(free_port())]
    arguments, output = [*options, "sightline", *command(packed, run, *more)], tmp_path / "launcher.txt"
    launcher = fork(distributed_toys.torchrun, *arguments, output=output, PID_FOLDER=str(tmp_path))
    try:
        wait_until(lambda: not launcher.is_alive() or train_records(run))
        killed = int((tmp_path / "1").read_text())
        os.kill(killed, signal.SIGKILL)
        launcher.join(90)
    finally:
        launcher.terminate()  # torchrun then ends its processes, in case they hang
    assert ended(launcher) == 0, output.read_text()
    assert int((tmp_path / "1").read_text()) != killed, "the killed process was not restarted"
    run_alone(*command(packed, uninterrupted, *more), folder=tmp_path)
    assert [record["step"] for record in train_records(run)] == list(range(1, 33))
    assert "resume" in [record["event"] for record in read_json_lines(run / "metrics.jsonl")]
    losses = [[record["loss"] for record in train_records(each)] for each in (run, uninterrupted)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
    assert weights_apart(run, uninterrupted) < 0.02


def test_a_sharded_model_trains_like_an_unsharded_one(tmp_path: Path, make_photos: Callable[..., Path]) -> None:
    photos, port = make_photos(tmp_path / "photos", train=9, val=5), free_port()
    runs = [tmp_path / name for name in ("unsharded", "sharded")]
    more = ["--optim.name", "adamw", "--optim.ema", "0.9", "--train.epochs", "2"]
    run_alone(*command(photos, runs[0], *more), folder=tmp_path)
    tokens = command(photos, runs[1], *more, "--train.shard_model", "true")
    processes = start_ranks(tmp_path, port, tokens, tokens)
    assert [ended(process, 120) for process in processes] == [0, 0]
    losses = [[record["loss"] for record in train_records(run)] for run in runs]
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)
    assert weights_apart(*runs) < 5e-3
    run_alone("resume", str(runs[0]), "--train.epochs", "3", "--quiet", folder=tmp_path)
    tokens = ["resume", str(runs[1]), "--train.epochs", "3", "--quiet"]
    assert [ended(process, 120) for process in start_ranks(tmp_path, port, tokens, tokens)] == [0, 0]
    assert weights_apart(*runs) < 5e-3


def test_a_process_with_another_recipe_is_an_error_with_the_setting(
    tmp_path: Path, make_photos: Callable[..., Path]
) -> None:
    photos, port = make_photos(tmp_path / "photos", train=2, val=1), free_port()
    commands = [command(photos, tmp_path / "run", "--train.seed", str(rank)) for rank in range(2)]
    statuses = [ended(process) for process in start_ranks(tmp_path, port, *commands)]
    errors = [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)]
    assert statuses == [3, 2], errors
    assert (
        "process 1 and process 0 of this run have different settings" in errors[1]
        and "another process of this run has ended" in errors[0]
    )
    assert "their recipe differs: 'train.seed: 0' in process 0, 'train.seed: 1' here" in errors[1]
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_two_processes_write_the_results_of_one_for_label_sets(tmp_path: Path) -> None:
    data = write_quarters(tmp_path / "quarters", train=40, val=10)
    runs = [tmp_path / name for name in ("alone", "together")]
    more = ["--train.epochs", "2", "--multilabel.threshold_fraction", "0.3", "--augment.resize", "0"]
    more += ["--train.log", "tensorboard"] if find_spec("tensorboard") else []
    commands = [["train", "multilabel_scratch", *command(data, run, *more)[2:]] for run in runs]
    run_alone(*commands[0], folder=tmp_path)
    processes = start_ranks(tmp_path, free_port(), commands[1], commands[1])
    assert [ended(process, 120) for process in processes] == [0, 0], (tmp_path / "0.txt").read_text()
    assert weights_apart(*runs) < 0.02
    if find_spec("tensorboard"):
        assert [len(list((run / "tensorboard").iterdir())) for run in runs] == [1, 1], "only rank 0 writes"
    ends = [sightline.Run(run).metrics for run in runs]
    assert ends[1]["loss"] == pytest.approx(ends[0]["loss"], rel=1e-2)
    thresholds = [json.loads((run / "thresholds.json").read_text()) for run in runs]
    assert thresholds[1] == pytest.approx(thresholds[0], abs=0.02) and 0.5 not in thresholds[1].values()


def test_sharded_models_need_synchronized_batch_norms() -> None:
    parts: Any = SimpleNamespace(dtype=torch.float32, model=nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
    settings = {"train.shard_model": True, "train.sync_batch_norm": False, "optim.name": "adamw"}
    with pytest.raises(SightlineError, match="sharding needs synchronized batch norms"):
        sharded_step(configured({"task": "classify"} | settings), parts)
