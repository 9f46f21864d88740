"""Small pictures that are quick to learn, a cache of their own, one thread a process."""

import base64
import contextlib
import importlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from config_toys import configured
from forked import ended, fork, sightline_command, wait_until
from sightline.config.resolve import resolve
from sightline.config.schema import Config
from sightline.recipes import load_recipe
from sightline.runs.atomic import read_json_lines

if TYPE_CHECKING:
    from playwright.sync_api import Browser

os.environ["OMP_NUM_THREADS"] = "1"

MEMORY = Path("/dev/shm")
if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 4 << 30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))  # no test's temporary files wait for a disk

# The same examples each time, so that no commit fails by the chance of another one's fault; "explore" looks for more.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Decoded images go to a folder of the test session, never to the user's cache."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("SIGHTLINE_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session", autouse=True)
def unsynced() -> Iterator[None]:
    """No test waits for the disk: a flush guards against a power cut, which no test has. `test_files` sees to them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


BLANK = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg==")


@contextlib.contextmanager
def figures(wanted: Callable[[tuple[str, str]], bool]) -> Iterator[None]:
    """Draw only figures of run reports that `wanted` selects, given (the name of the function that draws, name);
    the others are planned as usual and written as an empty image."""
    drawing = importlib.import_module("sightline.report.drawing")
    real = drawing.drawn
    with pytest.MonkeyPatch.context() as patch:

        def drawn(name: str, draw: Callable[[], object]) -> bytes:
            function = getattr(draw, "func", draw)  # of a functools.partial
            return real(name, draw) if wanted((function.__qualname__, name)) else BLANK

        patch.setattr(drawing, "drawn", drawn)
        yield


@pytest.fixture(scope="module")
def quick_figures() -> Iterator[None]:
    """For modules that train often: no report draws a figure, which is nine tenths of a run of seconds. The tests of
    reports, guides and commands do draw them."""
    with figures(lambda figure: False):
        yield


@pytest.fixture
def no_figures() -> Iterator[None]:
    """The same for one test."""
    with figures(lambda figure: False):
        yield


@pytest.fixture(scope="session")
def figures_seen() -> set[tuple[str, str]]:
    """The figures that `each_figure_once` has let through."""
    return set()


@pytest.fixture
def each_figure_once(figures_seen: set[tuple[str, str]]) -> Iterator[None]:
    """For tests of several runs: each figure is drawn for the first run that has one of its name, in whichever test."""
    with figures(lambda figure: figure not in figures_seen and not figures_seen.add(figure)):
        yield


def picture(label: int, number: int, size: int = 16) -> Image.Image:
    """A noisy picture whose class shows: a bright square in a corner that depends on the label, tinted by it."""
    random = np.random.default_rng([label, number])
    pixels = random.integers(0, 90, (size, size, 3))
    half = size // 2
    top, left = half * (label // 2 % 2), half * (label % 2)
    pixels[top : top + half, left : left + half, label % 3] += 140
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture(scope="session")
def make_photos() -> Callable[..., Path]:
    """make_photos(folder, classes=4, train=16, val=4, size=16, test=0): class folders of PNG files in train/ and val/,
    and in test/ where there are some."""

    def make(folder: Path, classes: int = 4, train: int = 16, val: int = 4, size: int = 16, test: int = 0) -> Path:
        for split, first, count in (("train", 0, train), ("val", 10_000, val), ("test", 20_000, test)):
            for label in range(classes if count else 0):
                place = folder / split / f"class_{label}"
                place.mkdir(parents=True, exist_ok=True)
                for number in range(first, first + count):
                    picture(label, number, size).save(place / f"{number}.png")
        return folder

    return make


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory, make_photos: Callable[..., Path]) -> Path:
    """4 classes, 16 + 4 pictures of 16x16 each."""
    return make_photos(tmp_path_factory.mktemp("photos"))


LAND = np.array([(0, 255, 255), (255, 255, 0), (255, 0, 255), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)])


def land_pair(number: int, size: int = 32) -> tuple[Image.Image, Image.Image]:
    """A picture of four fields and its mask in the land-cover palette; each class has its own color, with noise."""
    random = np.random.default_rng([7, number])
    half = size // 2
    fields = random.permutation(7)[:4].reshape(2, 2).repeat(half, 0).repeat(half, 1)
    tints = np.random.default_rng(1).integers(40, 200, (7, 3))
    pixels = tints[fields] + random.integers(-25, 25, (size, size, 3))
    return Image.fromarray(pixels.astype(np.uint8)), Image.fromarray(LAND[fields].astype(np.uint8))


@pytest.fixture(scope="session")
def make_scenes() -> Callable[..., Path]:
    """make_scenes(folder, train=8, val=4, size=32): train/ and validation/ with NNNN_sat.jpg and NNNN_mask.png."""

    def make(folder: Path, train: int = 8, val: int = 4, size: int = 32) -> Path:
        for split, first, count in (("train", 0, train), ("validation", 900, val)):
            (folder / split).mkdir(parents=True, exist_ok=True)
            for number in range(first, first + count):
                image, mask = land_pair(number, size)
                image.save(folder / split / f"{number:04d}_sat.jpg", quality=95)
                mask.save(folder / split / f"{number:04d}_mask.png")
        return folder

    return make


TINY = {
    "data.size": 16,
    "model.name": "small_cnn",
    "augment.crop": "random",
    "augment.padding": 2,
    "augment.horizontal_flip": 0.5,
    "train.epochs": 2,
    "train.batch_size": 10,
    "train.precision": "fp32",
    "train.threads": 1,
}


@pytest.fixture(scope="session")
def tiny() -> dict[str, object]:
    """Settings that make any recipe a run of a second on `photos`."""
    return dict(TINY)


TOY = {
    "name": "t",
    "task": "segment",
    "data.palette": "landcover",
    "model.name": "unet",
    "model.args": {"width": 8, "blocks": [1, 1, 1, 1], "decoder": [16, 16, 16]},
    "augment.window": [32, 32],
    "augment.horizontal_flip": 0.5,
    "optim.name": "adamw",
    "optim.lr": 3e-3,
    "train.best_metric": "mean_iou",
    "train.epochs": 2,
    "train.batch_size": 4,
    "train.precision": "fp32",
    "train.threads": 1,
}


@pytest.fixture(scope="session")
def toy() -> Callable[..., Config]:
    """toy(**settings): a segmenter that takes a second on scenes of 32x32."""
    return lambda **settings: configured(TOY | settings)


PRETRAINING = {
    "name": "toy",
    "task": "pretrain",
    "data.size": 16,
    "model": {"name": "small_cnn", "args": {"widths": [16, 32, 32], "dropout": 0.0}},
    "pretrain.projector": [64, 32],
    "pretrain.predictor": 64,
    "pretrain.momentum": 0.9,
    "pretrain.momentum_batch": 0,
    "pretrain.second_blur": 0.0,
    "optim.name": "adamw",
    "optim.lr": 2e-3,
    "train.epochs": 2,
    "train.batch_size": 16,
    "train.precision": "fp32",
    "train.threads": 1,
    "train.best_metric": "epoch",
    "train.checkpoint_minutes": 5,
    "report.samples": 16,
}


@pytest.fixture(scope="session")
def small() -> Callable[..., Config]:
    """small(**settings): a pre-training of seconds; small_cnn at 16 pixels, strong views, narrow heads."""
    strong = load_recipe("byol_fast").augment.model_copy(update={"progressive": (), "normalize": "half"})
    base = configured(PRETRAINING).model_copy(update={"augment": strong})
    return lambda **settings: resolve(base, settings)


@pytest.fixture
def train_and_kill() -> Callable[..., None]:
    """train_and_kill(arguments of `sightline train`, its run folder, step): SIGKILL once that step is logged."""

    def start(arguments: list[object], run: Path, step: int) -> None:
        def logged() -> bool:
            steps = [r["step"] for r in read_json_lines(run / "metrics.jsonl") if r["event"] == "train"]
            return not process.is_alive() or (bool(steps) and steps[-1] >= step)

        process = fork(sightline_command, "train", *arguments, "--quiet", output=run.with_name("killed.txt"))
        wait_until(logged, pause=0.002)
        process.kill()
        assert ended(process) == -signal.SIGKILL, "the run ended before it could be killed"

    return start


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """A Chromium without a window; tests that ask for it are skipped where there is none."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: make .venv/.installed-dev"
    )
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium is here (Debian: apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()
