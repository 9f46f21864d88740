"""Fixtures: small synthetic data sets, toy settings of each task, a separate cache, and one thread per process."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy, whose library would start a thread for each processor

import base64
import contextlib
import gc
import importlib
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from config_toys import configured
from forked import ended, fork, sightline_command, wait_until
from multilabel_toys import write_quarters
from sightline.config.resolve import resolve
from sightline.config.schema import Config
from sightline.recipes import load_recipe
from sightline.runs.atomic import atomic_write, read_json_lines

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MEMORY = Path("/dev/shm")
if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 4 << 30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))  # temporary files in memory

# The same examples in every run, so that failures are reproducible; "explore" tries new ones.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the test that takes minutes first, so that no worker waits for it in the end."""
    items.sort(key=lambda item: item.name != "test_short_run_passes")


def pytest_collection_finish() -> None:
    """Collect garbage seldom, and without a scan of the half a million objects of the imported modules."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Cache decoded images in a folder of the test session instead of the user's cache."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("SIGHTLINE_CACHE", str(folder))
    shutil.rmtree(folder / "test-looks", ignore_errors=True)  # the data of tests have the same content
    return folder


@pytest.fixture(scope="session", autouse=True)
def no_fsync() -> Iterator[None]:
    """Skip fsync, which is slow and matters only after a power loss; runs/test_atomic.py tests its order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def float32() -> Iterator[None]:
    """Let `train.precision: auto` be float32 on every processor, without a measurement in each toy run;
    engine/test_device.py tests the choice."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("engine.device", "tasks.whole_image.cost"):
            patch.setattr(importlib.import_module(f"sightline.{module}"), "has_bfloat16", lambda: False)
        yield


@pytest.fixture(scope="session", autouse=True)
def traced_once() -> Iterator[None]:
    """Trace each network once per test session, which takes a tenth of the time of a toy run."""
    setup = importlib.import_module("sightline.engine.setup")
    real, tracer, texts = setup.trace_architecture, setup.trace, {}

    def trace_architecture(folder: Path, config: Config, parts: Any) -> Path:
        if setup.trace is not tracer:  # replaced by a test
            return real(folder, config, parts)
        spec = parts.trace_spec
        key = repr((config.task, config.model, spec.image, spec.method, type(parts.model).__module__, parts.model))
        if key not in texts:
            texts[key] = real(folder, config, parts).read_bytes()
        return atomic_write(folder / "architecture.json", texts[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "trace_architecture", trace_architecture)
        yield


@pytest.fixture(scope="session", autouse=True)
def short_tsne() -> Iterator[None]:
    """Few iterations of t-SNE, which took a quarter of the time of a toy run; insight/test_projection.py has all."""
    projection = importlib.import_module("sightline.insight.projection")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projection, "EXAGGERATED", 10)
        patch.setattr(projection, "ITERATIONS", 20)
        yield


BLANK = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg==")


@contextlib.contextmanager
def figures(wanted: Callable[[tuple[str, str]], bool]) -> Iterator[None]:
    """Draw only those figures of run reports for which `wanted((name of the drawing function, name))` is true. The
    others are written as images of one pixel."""
    drawing = importlib.import_module("sightline.report.drawing")
    real = drawing.drawn
    with pytest.MonkeyPatch.context() as patch:

        def drawn(name: str, draw: Callable[[], object]) -> bytes:
            function = getattr(draw, "func", draw)  # unwrap functools.partial
            return real(name, draw) if wanted((function.__qualname__, name)) else BLANK

        patch.setattr(drawing, "drawn", drawn)
        yield


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """Draw no figures of run reports, and write the figures of comparisons as images of one pixel."""
    with figures(lambda figure: False), pytest.MonkeyPatch.context() as patch:
        for name in ("report.compare.files", "start.results", "transfer.output"):
            patch.setattr(importlib.import_module(f"sightline.{name}"), "png", lambda figure: BLANK)
        yield


@pytest.fixture(scope="module")
def quick_figures() -> Iterator[None]:
    """Draw no figures in the tests of a module; drawing takes nine tenths of the time of a toy run."""
    with undrawn():
        yield


@pytest.fixture
def no_figures() -> Iterator[None]:
    """Draw no figures in one test."""
    with undrawn():
        yield


@pytest.fixture(scope="module")
def no_reports(quick_figures: None) -> Iterator[None]:
    """Write no report at the end of a run in the tests of a module; its maps take a third of the time of a toy run."""
    with pytest.MonkeyPatch.context() as patch:
        train = importlib.import_module("sightline.train")
        patch.setattr(train, "write_report", lambda folder: folder / "report.html")
        yield


@pytest.fixture(scope="session")
def figures_seen() -> set[tuple[str, str]]:
    """The figures that `each_figure_once` has drawn."""
    return set()


@pytest.fixture
def each_figure_once(figures_seen: set[tuple[str, str]]) -> Iterator[None]:
    """Draw each figure once per test session, for the first run that has it."""
    with figures(lambda figure: figure not in figures_seen and not figures_seen.add(figure)):
        yield


def class_image(label: int, number: int, size: int = 16) -> Image.Image:
    """A noisy image with a bright square, whose corner and color depend on the label."""
    random = np.random.default_rng([label, number])
    pixels = random.integers(0, 90, (size, size, 3))
    half = size // 2
    top, left = half * (label // 2 % 2), half * (label % 2)
    pixels[top : top + half, left : left + half, label % 3] += 140
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture(scope="session")
def make_photos() -> Callable[..., Path]:
    """make_photos(folder, classes=4, train=16, val=4, size=16, test=0): write class folders of PNG files in train/,
    val/ and test/, with this number of images per class; returns `folder`."""

    def make(folder: Path, classes: int = 4, train: int = 16, val: int = 4, size: int = 16, test: int = 0) -> Path:
        for split, first, count in (("train", 0, train), ("val", 10_000, val), ("test", 20_000, test)):
            for label in range(classes if count else 0):
                class_folder = folder / split / f"class_{label}"
                class_folder.mkdir(parents=True, exist_ok=True)
                for number in range(first, first + count):
                    class_image(label, number, size).save(class_folder / f"{number}.png")
        return folder

    return make


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory, make_photos: Callable[..., Path]) -> Path:
    """Class folders: 4 classes with 16 training and 4 validation images of 16x16 pixels each."""
    return make_photos(tmp_path_factory.mktemp("photos"))


LAND = np.array([(0, 255, 255), (255, 255, 0), (255, 0, 255), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)])


def land_pair(number: int, size: int = 32) -> tuple[Image.Image, Image.Image]:
    """A noisy image of four squares, one color per class, and its mask in the land-cover palette."""
    random = np.random.default_rng([7, number])
    half = size // 2
    fields = random.permutation(7)[:4].reshape(2, 2).repeat(half, 0).repeat(half, 1)
    tints = np.random.default_rng(1).integers(40, 200, (7, 3))
    pixels = tints[fields] + random.integers(-25, 25, (size, size, 3))
    return Image.fromarray(pixels.astype(np.uint8)), Image.fromarray(LAND[fields].astype(np.uint8))


@pytest.fixture(scope="session")
def make_scenes() -> Callable[..., Path]:
    """make_scenes(folder, train=8, val=4, size=32): write NNNN_sat.jpg and NNNN_mask.png in train/ and validation/;
    returns `folder`."""

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
    "model.args": {"widths": [16, 32, 32], "hidden": 64},
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
    """Settings with which a classifier is trained on `photos` in a second."""
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
    """toy(**settings): configuration of a segmenter that is trained on scenes of 32x32 pixels in a second."""
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
    """small(**settings): configuration of a pre-training of seconds: small_cnn at 16 pixels with small projectors."""
    strong = load_recipe("moco_fast").augment.model_copy(update={"progressive": (), "normalize": "half"})
    base = configured(PRETRAINING).model_copy(update={"augment": strong})
    return lambda **settings: resolve(base, settings)


@pytest.fixture(scope="session")
def quarters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """labels.csv of 80 training and 24 validation images with any number of labels, of 16x16 pixels."""
    return write_quarters(tmp_path_factory.mktemp("quarters"))


@pytest.fixture
def train_and_kill() -> Callable[..., None]:
    """train_and_kill(arguments, run, step): run `sightline train ARGUMENTS`, and send SIGKILL once `step` is logged."""

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
    """Headless Chromium; tests that use it are skipped if it is not installed."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: make .venv/.installed-dev"
    )
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()
