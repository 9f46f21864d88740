"""Toy runs of each task that take a fraction of a second, in forked child processes that can be killed."""

import contextlib
import gc
import hashlib
import importlib
import os
import select
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sightline.tasks import TASKS as sightline_tasks

TASKS = tuple(sightline_tasks)
COLORS = np.array([(0, 255, 255), (255, 255, 0), (255, 0, 255), (0, 255, 0)])  # colors of the land-cover palette
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
    "3a7e9b550000000a49444154789c63f80f0001010100a2c89c0a0000000049454e44ae426082"
)

COMMON = {
    "train.epochs": 2,
    "train.precision": "fp32",
    "train.threads": 1,
    "train.checkpoint_minutes": 0.0,
    "report.samples": 4,
    "optim.ema": 0.5,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "classify": {
        "task": "classify",
        "data.size": 8,
        "model.name": "small_cnn",
        "model.args": {"widths": [4, 4, 4], "hidden": 8},
        "augment.crop": "random",
        "augment.padding": 1,
        "augment.horizontal_flip": 0.5,
        "augment.mixup": 0.2,
        "train.batch_size": 6,
        "optim.lr": 0.05,
        "schedule.name": "one_cycle",
    },
    "multilabel": {
        "task": "multilabel",
        "data.size": 8,
        "model.name": "small_cnn",
        "model.args": {"widths": [4, 4, 4], "hidden": 8},
        "augment.horizontal_flip": 0.5,
        "loss.name": "asymmetric",
        "optim.name": "adamw",
        "optim.lr": 3e-3,
        "train.best_metric": "mean_average_precision",
        "train.batch_size": 6,
        "multilabel.threshold_fraction": 0.3,
    },
    "segment": {
        "task": "segment",
        "data.palette": "landcover",
        "model.name": "unet",
        "model.args": {"width": 4, "blocks": [1, 1, 1, 1], "decoder": [4, 4, 4]},
        "augment.window": [32, 32],
        "augment.horizontal_flip": 0.5,
        "optim.name": "adamw",
        "optim.lr": 3e-3,
        "train.best_metric": "mean_iou",
        "train.batch_size": 2,
    },
    "pretrain": {
        "task": "pretrain",
        "data.size": 8,
        "model.name": "small_cnn",
        "model.args": {"widths": [4, 4, 4], "dropout": 0.0},
        "pretrain.projector": [8, 4],
        "pretrain.predictor": 8,
        "pretrain.momentum": 0.9,
        "pretrain.momentum_batch": 0,
        "pretrain.second_blur": 0.0,
        "augment.horizontal_flip": 0.5,
        "optim.name": "adamw",
        "optim.lr": 2e-3,
        "optim.ema": 0.0,
        "train.batch_size": 6,
        "train.best_metric": "epoch",
    },
}


def preload() -> None:
    """Import the modules that a run needs, with one thread, so that forked children start without delay."""
    import torch

    torch.set_num_threads(1)
    for task in TASKS:
        for name in ("build", "task", "results", "evaluate", "report"):
            importlib.import_module(f"sightline.tasks.{task}.{name}")
    for name in ("__main__", "train", "report.page", "report.architecture", "insight.architecture.tracing"):
        importlib.import_module(f"sightline.{name}")
    for name in (
        "torch._dynamo",
        "torchvision",
        "PIL.ImageOps",
        "PIL.WebPImagePlugin",
    ):
        importlib.import_module(name)
    Image.init()
    gc.freeze()  # else each child copies all pages of memory with objects when it collects garbage


def unavailable() -> str:
    """`Row.unavailable` of rows with toy runs; also preloads, since it is called before the harness forks."""
    preload()
    return "" if hasattr(os, "fork") else "os.fork is missing on this system"


def make_data(folder: Path, task: str) -> Path:
    """Write images of 8x8 pixels in class folders or with a table of label sets, or of 32x32 with masks; returns
    `folder`."""
    if task == "multilabel":
        return make_label_sets(folder)
    train, val = (8, 4) if task == "segment" else (16, 8)
    random = np.random.default_rng(5)
    for split, count in (("train", train), ("val", val)):
        for number in range(count):
            if task == "segment":
                fields = random.integers(0, 4, (2, 2)).repeat(16, 0).repeat(16, 1)
                (folder / split).mkdir(parents=True, exist_ok=True)
                noise = random.integers(0, 50, (32, 32, 3))
                Image.fromarray((COLORS[fields] // 2 + noise).astype(np.uint8)).save(
                    folder / split / f"{number}_sat.png"
                )
                Image.fromarray(COLORS[fields].astype(np.uint8)).save(folder / split / f"{number}_mask.png")
            else:
                class_folder = folder / split / f"class_{number % 2}"
                class_folder.mkdir(parents=True, exist_ok=True)
                pixels = random.integers(0, 90, (8, 8, 3))
                pixels[:, :, number % 2] += 120
                Image.fromarray(pixels.astype(np.uint8)).save(class_folder / f"{split}{number}.png")
    return folder


def make_label_sets(folder: Path) -> Path:
    """Write images of 8x8 pixels, whose labels are the color channels that are bright, and labels.csv."""
    random, rows = np.random.default_rng(6), ["filename,label,split"]
    (folder / "images").mkdir(parents=True)
    for number in range(32):
        bright = [channel for channel in range(3) if number >> channel & 1]
        pixels = random.integers(0, 90, (8, 8, 3))
        pixels[:, :, bright] += 120
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / f"{number}.png")
        labels, split = ";".join(f"class_{channel}" for channel in bright), "val" if number < 8 else "train"
        rows.append(f"images/{number}.png,{labels},{split}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


@contextlib.contextmanager
def blank_figures() -> Generator[None]:
    """Write an empty image for each figure and record no git commit; both take nine tenths of the time of a toy run."""
    drawing, provenance = (
        importlib.import_module(f"sightline.{name}") for name in ("report.drawing", "runs.provenance")
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(patched(drawing, "drawn", lambda name, draw: PNG))
        stack.enter_context(patched(provenance, "git_commit", lambda: None))
        yield


@contextlib.contextmanager
def patched(module: Any, name: str, value: Any) -> Generator[None]:
    """Set `module.name` to `value` within the block."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextlib.contextmanager
def scratch_folder(folder: Path) -> Generator[Path]:
    """A temporary folder for thousands of small files: in /dev/shm if it has 1 GiB free, else below `folder`."""
    memory = Path("/dev/shm")
    parent = memory if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 1 << 30 else folder
    made = Path(tempfile.mkdtemp(prefix="reliability-", dir=parent))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@dataclass(frozen=True)
class Toy:
    """A task with its data and recipe; `train` and `resume` return the command line for a run in work/run."""

    task: str
    data: Path
    recipe: Path

    def train(self, work: Path, *more: str) -> list[str]:
        return ["train", str(self.recipe), "--data", str(self.data), "--out", str(work / "run"), *more]

    def resume(self, work: Path, *more: str) -> list[str]:
        return ["resume", str(work / "run"), *more]


def make_toy(folder: Path, task: str, **settings: Any) -> Toy:
    """Write the data and the recipe of a task below `folder`."""
    from sightline.config.resolve import to_yaml
    from sightline.tasks.files import config_of

    config = config_of({"name": "toy"} | COMMON | SETTINGS[task] | settings, task)
    data = make_data(folder / f"{task}-data", task)
    recipe = folder / f"{task}.yaml"
    recipe.write_text(to_yaml(config))
    return Toy(task, data, recipe)


@dataclass(frozen=True)
class CommandResult:
    """Result of a command. status: exit status, -9 after SIGKILL, -1 after a timeout. text: stdout and stderr. events:
    lines from the child's pipe: `S n` after the state of step n was saved, `R n` after step n was loaded to resume."""

    status: int
    text: str
    events: list[str]
    seconds: float

    @property
    def last_saved(self) -> int:
        """The last step whose state was saved, -1 if none."""
        return max((int(line[2:]) for line in self.events if line.startswith("S ")), default=-1)

    @property
    def resumed_from(self) -> int:
        """The step that was loaded to resume, -1 if none."""
        return max((int(line[2:]) for line in self.events if line.startswith("R ")), default=-1)

    @property
    def traceback(self) -> bool:
        return "Traceback" in self.text


class Child:
    """A sightline command in a forked process, which calls `setup` first; its cache is work/cache."""

    def __init__(self, tokens: list[str], work: Path, setup: Callable[[], object] = lambda: None):
        work.mkdir(parents=True, exist_ok=True)
        self.output = work / f"output-{time.monotonic_ns()}.txt"
        self.started = time.monotonic()
        self.reader, writer = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.id = os.fork()
        if not self.id:
            os.close(self.reader)
            child_main(tokens, work, self.output, writer, setup)
        os.close(writer)

    def kill(self, number: int) -> None:
        os.kill(self.id, number)

    def wait(self, seconds: float = 0.0) -> bool:
        """Wait for at most `seconds`; returns whether the command has ended."""
        ready, _, _ = select.select([self.reader], [], [], seconds)
        until = time.monotonic() + seconds
        while ready and time.monotonic() < until:
            self.received += (new := os.read(self.reader, 1 << 16))
            if not new:
                return True
            ready, _, _ = select.select([self.reader], [], [], max(0.0, until - time.monotonic()))
        return False

    received: bytes = b""

    def end(self, seconds: float = 60.0) -> CommandResult:
        """Wait for the end of the command and return its result; after `seconds` it is killed, with status -1."""
        hung = not self.wait(seconds)
        if hung:
            os.kill(self.id, 9)
        while new := os.read(self.reader, 1 << 16):
            self.received += new
        status = os.waitstatus_to_exitcode(os.waitpid(self.id, 0)[1])
        os.close(self.reader)
        text = self.output.read_text(errors="replace") if self.output.exists() else ""
        self.output.unlink(missing_ok=True)
        events = [line for line in self.received.decode().split("\n") if line]
        return CommandResult(-1 if hung else status, text, events, time.monotonic() - self.started)


def child_main(tokens: list[str], work: Path, output: Path, writer: int, setup: Callable[[], object]) -> None:
    """Run the command in the child, with its output in a file; never returns."""
    status = 1
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number, target in ((null, 0), (file, 1), (file, 2)):
            os.dup2(number, target)
        sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        os.environ["SIGHTLINE_CACHE"] = str(work / "cache")
        report_states(writer)
        import sightline.__main__ as commands

        with blank_figures():
            setup()
            status = commands.run(tokens)
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def report_states(writer: int) -> None:
    """Write the events of `CommandResult` to the pipe whenever a state is saved or loaded."""
    from sightline.engine import training_state

    save, load = training_state.save_state, training_state.load_state

    def saved(training: Any) -> None:
        save(training)
        os.write(writer, f"S {training.progress.step}\n".encode())

    def loaded(folder: Path, log: Any) -> Any:
        tensors, values = load(folder, log)
        os.write(writer, f"R {values['progress']['step']}\n".encode())
        return tensors, values

    training_state.save_state, training_state.load_state = saved, loaded


def run_child(tokens: list[str], work: Path, setup: Callable[[], object] = lambda: None) -> CommandResult:
    """Run a sightline command in a child process, and return its result."""
    return Child(tokens, work, setup).end()


def fingerprint(run: Path) -> dict[str, str]:
    """SHA-256 by path of the results of a run: weights and config.json of both checkpoints, and predictions."""
    files = [
        run / "checkpoints" / name / file for name in ("best", "last") for file in ("model.safetensors", "config.json")
    ]
    files += sorted(path for path in (run / "predictions").rglob("*") if path.is_file())
    digests = {}
    for path in files:
        there = path.is_file()
        digests[str(path.relative_to(run))] = hashlib.sha256(path.read_bytes()).hexdigest() if there else "missing"
    return digests


def different_files(first: dict[str, str], second: dict[str, str]) -> str:
    """The files in which two fingerprints differ, joined by commas."""
    return ", ".join(name for name in sorted(first | second) if first.get(name) != second.get(name))


def reference_run(toy: Toy, work: Path) -> tuple[dict[str, str], float, int]:
    """(fingerprint, seconds, steps) of a run without a fault, in work/run."""
    ended = run_child(toy.train(work), work)
    if ended.status:
        raise RuntimeError(f"the reference run of {toy.task} ended with status {ended.status}: {ended.text[-600:]}")
    return fingerprint(work / "run"), ended.seconds, ended.last_saved


def each_task(short: bool, folder: Path, **settings: Any) -> Generator[tuple[Toy, dict[str, str], int]]:
    """Yield (toy, fingerprint of its reference run, its number of steps) for each task, or for the first if `short`.

    The reference run stays in folder/reference-TASK.
    """
    for task in TASKS[: 1 if short else None]:
        toy = make_toy(folder, task, **settings)
        expected, _, steps = reference_run(toy, folder / f"reference-{task}")
        yield toy, expected, steps


def resume_or_restart(toy: Toy, work: Path, acknowledged: int) -> tuple[CommandResult, str]:
    """Resume an interrupted run, or train again if it had saved no state: (result, what was lost, "" if nothing).

    acknowledged: the last step that was reported as saved.
    """
    if not (work / "run" / "recipe.yaml").is_file():
        lost = f"recipe.yaml is missing after step {acknowledged} was acknowledged" if acknowledged >= 0 else ""
        return run_child(toy.train(work), work), lost
    ended = run_child(toy.resume(work), work)
    if ended.status == 2 and "no state to resume from" in ended.text and acknowledged < 0:
        cure = "--overwrite" in ended.text
        return run_child(toy.train(work, "--overwrite"), work), "" if cure else "the message has no cure"
    if ended.status == 0 and 0 <= ended.resumed_from < acknowledged:
        return ended, f"step {acknowledged} was acknowledged, but the run resumed from {ended.resumed_from}"
    return ended, ""


def compare_resumed(toy: Toy, work: Path, acknowledged: int, expected: dict[str, str]) -> str:
    """Finish an interrupted run; returns "" if its results equal the reference run's, otherwise the failure."""
    ended, lost = resume_or_restart(toy, work, acknowledged)
    if lost:
        return lost
    if ended.status:
        return f"resuming ended with status {ended.status}: {ended.text.strip()[-300:]}"
    differs = different_files(expected, fingerprint(work / "run"))
    return f"differs from the reference run: {differs}" if differs else ""
