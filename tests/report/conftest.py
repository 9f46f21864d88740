"""A complete run folder, written without training, and its page in a real browser."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sightline.config.resolve import resolve, to_yaml
from sightline.config.schema import Config
from sightline.report.page import write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CLASSES = ("<script>alert(1)</script>", "Maine & Coon", "犬", "$5 note")


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    """make_run(folder, images=24, classes=4, epochs=(1, 2, 3, 6)): a finished run; every fifth image is wrong."""
    return write_run


def write_run(folder: Path, images: int = 24, classes: int = 4, epochs: tuple[int, ...] = (1, 2, 3, 6)) -> Path:
    rng = np.random.default_rng(0)
    names = (*CLASSES, *(f"class {i}" for i in range(4, classes)))[:classes]
    truth = np.arange(images) % classes
    predicted = np.where(np.arange(images) % 5 == 0, (truth + 1) % classes, truth)
    probabilities = np.full((images, classes), 0.2 / classes)
    probabilities[np.arange(images), predicted] += 0.5 + 0.3 * rng.random(images)
    (folder / "predictions").mkdir(parents=True)
    with open(folder / "predictions" / "val.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["filename", "label", "truth", "confidence", *names])
        for i, row in enumerate(probabilities):
            writer.writerow([f"val/{i}.png", names[predicted[i]], names[truth[i]], row.max(), *row])
    thumbnails = rng.integers(0, 256, (images, 3, 6, 8)).astype(np.uint8)
    wrong = np.flatnonzero(predicted != truth)
    write_snapshots(folder / "snapshots", truth, thumbnails, wrong, epochs)
    config = resolve(Config(name="tiny"), {"data.path": "photos", "optim.lr": 0.25, "train.epochs": 8})
    (folder / "recipe.yaml").write_text(to_yaml(config), encoding="utf-8")
    counts = {"train": 96, "val": images}
    provenance = {
        "command": ["sightline", "train", "tiny", "--data", "my photos"],
        "device": "a processor",
        "threads": 1,
        "precision": "fp32",
        "parameters": 4321,
        "notes": ["found <b>train/</b> and val/"],
        "data": {"path": "photos", "classes": list(names), "counts": counts, "digest": {"val": "ab"}},
    }
    (folder / "provenance.json").write_text(json.dumps(provenance), encoding="utf-8")
    lines = [json.dumps(record) for record in records(epochs[-1])]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_snapshots(
    folder: Path, truth: np.ndarray, thumbnails: np.ndarray, wrong: np.ndarray, epochs: tuple[int, ...]
) -> None:
    rng, index = np.random.default_rng(1), np.arange(len(truth))
    for epoch in epochs:
        snapshot = folder / f"epoch-{epoch:05d}"
        snapshot.mkdir(parents=True)
        features = rng.normal(size=(len(truth), 5)) + epoch * np.eye(5)[truth % 5]
        np.savez(snapshot / "features.npz", features=features.astype(np.float16), predictions=truth, confidence=truth)
    files = np.array([f"val/{i}.png" for i in index])
    np.savez(folder / "samples.npz", images=thumbnails, labels=truth, names=files, index=index)
    np.savez(folder / "mistakes.npz", images=thumbnails[wrong], index=wrong)


def records(epochs: int) -> list[dict]:
    lines: list[dict] = [{"event": "start", "step": 0, "epoch": 0, "seconds": 0.0}]
    for epoch in range(1, epochs + 1):
        common = {"step": 10 * epoch, "epoch": epoch, "seconds": 11.0 * epoch}
        lines.append({"event": "train", **common, "loss": 2 / epoch, "lr": 0.1, "images_per_second": 50.0,
                      "data_wait": 0.01, "grad_norm": 1.0})  # fmt: skip
        lines.append({"event": "eval", **common, "split": "val", "loss": 1 / epoch, "accuracy": 1 - 1 / (epoch + 1),
                      "accuracy_top5": 1.0, "calibration_error": 0.1, "best": epoch < epochs})  # fmt: skip
    end = {"step": 10 * epochs, "epoch": epochs, "seconds": 11.0 * epochs}
    lines.append({"event": "stop", **end, "reason": "no better accuracy for 1 epochs"})
    baselines = {"most_frequent_class": 0.25, "knn_raw_pixels": 10 / 24}
    named = {"baselines": baselines, "baseline_notes": ["k-NN classifies 16 of 24 images"]}
    return [*lines, {"event": "done", **end, "accuracy": 2 / 3, "best_epoch": max(1, epochs - 1), **named}]


@pytest.fixture(scope="session")
def report(make_run: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run of 24 images at four kept epochs."""
    run = make_run(tmp_path_factory.mktemp("browser") / "<img src=x onerror=alert(2)>")
    for folder in (run / "snapshots").glob("epoch-*"):  # at epoch 1 all are predicted as the first class
        epoch = int(folder.name.removeprefix("epoch-"))
        arrays = dict(np.load(folder / "features.npz"))
        truth = np.arange(24) % 4
        predictions = {"predictions": truth * (epoch > 1), "confidence": np.full(24, 0.125 * epoch)}
        np.savez(folder / "features.npz", **arrays | predictions)
    return write_report(run)


@pytest.fixture
def open_page(browser: "Browser") -> Iterator[Callable[..., "Page"]]:
    """open_page(path, width=1280, dark=False, still=False): the page. Afterwards assert that it sent no requests and
    had no errors. still: without animations, as with the setting prefers-reduced-motion."""
    requested, failed, contexts = [], [], []

    def opened(path: Path, width: int = 1280, dark: bool = False, still: bool = False) -> "Page":
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            has_touch=width < 600,
            reduced_motion="reduce" if still else "no-preference",
        )
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: requested.append(request.url))
        page.on("console", lambda message: failed.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.on("dialog", lambda dialog: failed.append(f"dialog {dialog.message}"))
        page.goto(path.as_uri())
        page.wait_for_selector(".interactive")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not failed
    assert not [url for url in requested if not url.startswith(("file:", "data:"))]
