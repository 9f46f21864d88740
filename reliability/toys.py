"""Runs of a fraction of a second of each task, in forked children that can be killed."""

import contextlib
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

TASKS = ("classify", "segment", "byol")
COLORS = np.array([(0, 255, 255), (255, 255, 0), (255, 0, 255), (0, 255, 0)])  # of the land-cover palette
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
    "byol": {
        "task": "byol",
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


def prepare() -> None:
    """Import what a run imports, in one thread, so that a forked child starts at once."""
    import torch

    torch.set_num_threads(1)
    for task in ("classify", "segment", "pretrain"):
        for name in ("build", "task", "results", "evaluate", "report"):
            importlib.import_module(f"sightline.tasks.{task}.{name}")
    for name in ("__main__", "train", "report.page", "report.architecture", "insight.architecture.tracing"):
        importlib.import_module(f"sightline.{name}")
    for name in ("torch._dynamo", "torchvision", "PIL.ImageOps", "PIL.WebPImagePlugin"):  # lazily by torch and Pillow
        importlib.import_module(name)
    Image.init()


def ready() -> str:
    """What rows of toy runs give as `needs`: called before anything forks, it imports once for all of them."""
    prepare()
    return "" if hasattr(os, "fork") else "this system cannot fork"


def make_data(folder: Path, task: str) -> Path:
    """Pictures of 8x8 in class folders, or of 32x32 with masks."""
    train, val = (8, 4) if task == "segment" else (16, 8)
    random = np.random.default_rng(5)
    for split, count in (("train", train), ("val", val)):
        for number in range(count):
            if task == "segment":
                fields = random.integers(0, 4, (2, 2)).repeat(16, 0).repeat(16, 1)
                place = folder / split
                place.mkdir(parents=True, exist_ok=True)
                noise = random.integers(0, 50, (32, 32, 3))
                Image.fromarray((COLORS[fields] // 2 + noise).astype(np.uint8)).save(place / f"{number}_sat.png")
                Image.fromarray(COLORS[fields].astype(np.uint8)).save(place / f"{number}_mask.png")
            else:
                place = folder / split / f"class_{number % 2}"
                place.mkdir(parents=True, exist_ok=True)
                pixels = random.integers(0, 90, (8, 8, 3))
                pixels[:, :, number % 2] += 120
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{split}{number}.png")
    return folder


@contextlib.contextmanager
def blank_figures() -> Generator[None]:
    """Write an empty image for each planned figure, and record no git commit: both take nine tenths of a toy run."""
    drawing, provenance = (
        importlib.import_module(f"sightline.{name}") for name in ("report.drawing", "runs.provenance")
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(swapped(drawing, "drawn", lambda name, draw: PNG))
        stack.enter_context(swapped(provenance, "git_commit", lambda: None))
        yield


@contextlib.contextmanager
def swapped(module: Any, name: str, value: Any) -> Generator[None]:
    """`module.name` is `value` within the block."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextlib.contextmanager
def workplace(folder: Path) -> Generator[Path]:
    """A folder for thousands of small files: in memory where the machine has such a disk, else below `folder`."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 1 << 30 else folder
    made = Path(tempfile.mkdtemp(prefix="reliability-", dir=place))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@dataclass(frozen=True)
class Toy:
    """A task with its data and recipe. Runs of it live in folders `place`: the run in place/run, its cache beside."""

    task: str
    data: Path
    recipe: Path

    def train(self, place: Path, *more: str) -> list[str]:
        return ["train", str(self.recipe), "--data", str(self.data), "--out", str(place / "run"), *more]

    def resume(self, place: Path, *more: str) -> list[str]:
        return ["resume", str(place / "run"), *more]


def make_toy(folder: Path, task: str, **settings: Any) -> Toy:
    """Write data and recipe of a task below `folder`."""
    from sightline.config.resolve import to_yaml
    from sightline.tasks.files import configured

    config = configured({"name": "toy"} | COMMON | SETTINGS[task] | settings)
    data = make_data(folder / f"{task}-data", task)
    recipe = folder / f"{task}.yaml"
    recipe.write_text(to_yaml(config))
    return Toy(task, data, recipe)


@dataclass(frozen=True)
class Ended:
    """How a command ended. status: its exit status, -9 for SIGKILL. text: stdout and stderr. told: what the child wrote
    into its pipe: `S n`, the state of step n is saved; `R n`, it goes on from step n."""

    status: int
    text: str
    told: list[str]
    seconds: float

    @property
    def saved(self) -> int:
        return max((int(line[2:]) for line in self.told if line.startswith("S ")), default=-1)

    @property
    def began(self) -> int:
        return max((int(line[2:]) for line in self.told if line.startswith("R ")), default=-1)

    @property
    def traceback(self) -> bool:
        return "Traceback" in self.text


class Child:
    """A command of Sightline's in a forked process."""

    def __init__(self, tokens: list[str], place: Path, inside: Callable[[], object] = lambda: None):
        place.mkdir(parents=True, exist_ok=True)
        self.output = place / f"said-{time.monotonic_ns()}.txt"
        self.started = time.monotonic()
        self.reader, writer = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.id = os.fork()
        if not self.id:
            os.close(self.reader)
            work(tokens, place, self.output, writer, inside)
        os.close(writer)

    def kill(self, number: int) -> None:
        os.kill(self.id, number)

    def wait(self, seconds: float = 0.0) -> bool:
        """Whether it has ended within so many seconds."""
        ready, _, _ = select.select([self.reader], [], [], seconds)
        until = time.monotonic() + seconds
        while ready and time.monotonic() < until:
            self.told_so_far += (new := os.read(self.reader, 1 << 16))
            if not new:
                return True
            ready, _, _ = select.select([self.reader], [], [], max(0.0, until - time.monotonic()))
        return False

    told_so_far: bytes = b""

    def end(self, seconds: float = 60.0) -> Ended:
        """Wait for its end; one that hangs is killed and has the status -1."""
        hung = not self.wait(seconds)
        if hung:
            os.kill(self.id, 9)
        while new := os.read(self.reader, 1 << 16):
            self.told_so_far += new
        status = os.waitstatus_to_exitcode(os.waitpid(self.id, 0)[1])
        os.close(self.reader)
        text = self.output.read_text(errors="replace") if self.output.exists() else ""
        self.output.unlink(missing_ok=True)
        told = self.told_so_far.decode().split("\n")
        spent = time.monotonic() - self.started
        return Ended(-1 if hung else status, text, [line for line in told if line], spent)


def work(tokens: list[str], place: Path, output: Path, writer: int, inside: Callable[[], object]) -> None:
    """The life of a child: never returns."""
    status = 1
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number, target in ((null, 0), (file, 1), (file, 2)):
            os.dup2(number, target)
        sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        os.environ["SIGHTLINE_CACHE"] = str(place / "cache")
        tell_of_states(writer)
        import sightline.__main__ as commands

        with blank_figures():
            inside()
            status = commands.run(tokens)
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def tell_of_states(writer: int) -> None:
    """Write into the pipe which states are saved, and from which one a resumption goes on."""
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


def run_child(tokens: list[str], place: Path, inside: Callable[[], object] = lambda: None) -> Ended:
    """A command from its start to its end."""
    return Child(tokens, place, inside).end()


def fingerprint(run: Path) -> dict[str, str]:
    """SHA-256 of everything that a run is for: weights and their description, best and last, and the predictions."""
    files = [
        run / "checkpoints" / name / file for name in ("best", "last") for file in ("model.safetensors", "config.json")
    ]
    files += sorted(path for path in (run / "predictions").rglob("*") if path.is_file())
    digests = {}
    for path in files:
        there = path.is_file()
        digests[str(path.relative_to(run))] = hashlib.sha256(path.read_bytes()).hexdigest() if there else "missing"
    return digests


def differing(first: dict[str, str], second: dict[str, str]) -> str:
    """The files in which two fingerprints differ, as text; "" where they are the same."""
    return ", ".join(name for name in sorted(first | second) if first.get(name) != second.get(name))


def reference(toy: Toy, place: Path) -> tuple[dict[str, str], float, int]:
    """(fingerprint, seconds, steps) of the run that nothing happens to."""
    ended = run_child(toy.train(place), place)
    if ended.status:
        raise RuntimeError(f"the untroubled run of {toy.task} ended with status {ended.status}: {ended.text[-600:]}")
    return fingerprint(place / "run"), ended.seconds, ended.saved


def each_task(short: bool, place: Path) -> Generator[tuple[Toy, dict[str, str], int]]:
    """Of each task, in a short run of the first alone: (its toy, the fingerprint of its untroubled run, its steps).

    That run stays in place/whole-TASK.
    """
    for task in TASKS[: 1 if short else 3]:
        toy = make_toy(place, task)
        whole, _, steps = reference(toy, place / f"whole-{task}")
        yield toy, whole, steps


def go_on(toy: Toy, place: Path, acknowledged: int, inside: Callable[[], object] = lambda: None) -> tuple[Ended, str]:
    """Go on as a user would after a run that was cut off: (how that ended, what was lost or "").

    Resume where there is a run; where none has begun, or it has not saved its first state, train again.
    """
    if not (place / "run" / "recipe.yaml").is_file():
        lost = f"recipe.yaml is gone after step {acknowledged} was acknowledged" if acknowledged >= 0 else ""
        return run_child(toy.train(place), place, inside), lost
    ended = run_child(toy.resume(place), place, inside)
    if ended.status == 2 and "no state to resume from" in ended.text and acknowledged < 0:
        again = "--overwrite" in ended.text
        return run_child(toy.train(place, "--overwrite"), place, inside), "" if again else "no cure is named"
    if ended.status == 0 and 0 <= ended.began < acknowledged:
        return ended, f"step {acknowledged} was acknowledged, it went on from {ended.began}"
    return ended, ""


def judged(toy: Toy, place: Path, acknowledged: int, whole: dict[str, str]) -> str:
    """Go on to the end after a run was cut off; "" where that gives what the untroubled run gave."""
    ended, lost = go_on(toy, place, acknowledged)
    if lost:
        return lost
    if ended.status:
        return f"going on ended with status {ended.status}: {ended.text.strip()[-300:]}"
    differs = differing(whole, fingerprint(place / "run"))
    return f"not the same as the untroubled run: {differs}" if differs else ""
