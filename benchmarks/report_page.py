"""Time to write a report, its size, and the time to draw its map in a browser.

    python benchmarks/report_page.py --images 2500 --epochs 3
    python benchmarks/report_page.py --images 50000 --epochs 3 --without-tsne

The run is synthetic: 50 classes, random images of 32x32, and 256 features per image in Gaussian clusters whose distance
increases with the epoch. In headless Chromium without a GPU, it measures the time to draw the map after an event of the
mouse wheel and of the pointer, and the time between frames of the animation from one epoch to another. t-SNE of 50,000
points takes minutes and does not change these times; --without-tsne omits it.
"""

import argparse
import csv
import importlib
import io
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from sightline.config.resolve import to_yaml
from sightline.engine.training_state import save_arrays
from sightline.report.page import write_report
from sightline.report.pdf import find_chromium
from sightline.runs.atomic import atomic_write
from sightline.tasks.files import config_of

CLASSES, WIDTH, SIDE = 50, 256, 32
WHEEL = """async (count) => {
  const canvas = document.querySelector("canvas.map"), box = canvas.getBoundingClientRect(), times = [];
  for (let index = 0; index < count; index++) {
    const start = performance.now();
    const position = { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2, bubbles: true };
    canvas.dispatchEvent(new WheelEvent("wheel", { ...position, deltaY: index % 2 ? 40 : -40, cancelable: true }));
    canvas.getContext("2d").getImageData(0, 0, 1, 1); // returns after drawing is complete
    times.push(performance.now() - start);
    await new Promise((resolve) => requestAnimationFrame(resolve));
  }
  return times;
}"""
HOVER = """async (count) => {
  const canvas = document.querySelector("canvas.map"), box = canvas.getBoundingClientRect(), times = [];
  for (let index = 0; index < count; index++) {
    const start = performance.now();
    const position = { clientX: box.left + box.width * (0.3 + 0.01 * index), clientY: box.top + box.height / 2 };
    canvas.dispatchEvent(new PointerEvent("pointermove", { ...position, pointerType: "mouse", bubbles: true }));
    canvas.getContext("2d").getImageData(0, 0, 1, 1);
    times.push(performance.now() - start);
    await new Promise((resolve) => requestAnimationFrame(resolve));
  }
  return times;
}"""
ANIMATION = """async () => {
  const slider = document.querySelector(".map .time input"), times = [];
  const context = document.querySelector("canvas.map").getContext("2d"), clearRect = context.clearRect.bind(context);
  let last = 0;
  context.clearRect = (...rectangle) => { // called once per frame
    const now = performance.now();
    if (last) times.push(now - last);
    last = now;
    clearRect(...rectangle);
  };
  for (let index = 0; index < 6; index++) {
    slider.value = String(index % 2 ? slider.max : 0);
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    await new Promise((resolve) => setTimeout(resolve, 1200));
    last = 0;
  }
  return times;
}"""


def write_synthetic_run(folder: Path, images: int, epochs: int) -> None:
    """Write the folder of a finished classification run."""
    random = np.random.default_rng(0)
    truth = np.arange(images) % CLASSES
    predicted = np.where(random.random(images) < 0.8, truth, random.integers(0, CLASSES, images))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [f"class {index}" for index in range(CLASSES)]
    writer.writerow(["filename", "label", "truth", "confidence", *names])
    for index in range(images):
        row = [f"val/{index:06d}.png", names[predicted[index]], names[truth[index]], 0.7]
        writer.writerow([*row, *[0.7 if label == predicted[index] else 0.3 / 49 for label in range(CLASSES)]])
    atomic_write(folder / "predictions" / "val.csv", text.getvalue())
    coarse = random.integers(0, 256, (images, 3, 8, 8)).astype(np.uint8)
    pixels = coarse.repeat(SIDE // 8, 2).repeat(SIDE // 8, 3)
    centers, noise = random.normal(size=(CLASSES, WIDTH)), random.normal(size=(images, WIDTH))
    records = []
    for epoch in range(1, epochs + 1):
        features = (noise + centers[truth] * epoch / epochs).astype(np.float16)
        save_arrays(
            folder / "snapshots" / f"epoch-{epoch:05d}" / "features.npz",
            {"features": features, "predictions": predicted},
        )
        common = {"step": epoch, "epoch": epoch, "seconds": epoch}
        records.append({"event": "eval", "split": "val", **common, "loss": 1 / epoch, "accuracy": 0.8})
    save_arrays(folder / "snapshots" / "samples.npz", {"images": pixels, "labels": truth, "index": np.arange(images)})
    wrong = np.flatnonzero(truth != predicted)[:200]
    save_arrays(folder / "snapshots" / "mistakes.npz", {"images": pixels[wrong], "index": wrong})
    atomic_write(folder / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    atomic_write(folder / "recipe.yaml", to_yaml(config_of({"data.path": "photos"}, "recipe")))
    atomic_write(folder / "provenance.json", json.dumps({"data": {"classes": names}}))


def frame_times(page: Path, events: int = 40) -> dict[str, list[float]]:
    """Return the milliseconds to draw the map after each event, and those between frames of an animation."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        window = browser.new_page(viewport={"width": 1280, "height": 900})
        window.goto(page.as_uri())
        window.wait_for_selector(".interactive canvas.map")
        scripts = {"mouse wheel": WHEEL, "pointer": HOVER, "animation between epochs": ANIMATION}
        measured = {name: window.evaluate(script, events) for name, script in scripts.items()}
        browser.close()
    return {name: times[5:] for name, times in measured.items()}


def main() -> None:
    """Print seconds and size of the report, and the times of its map."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2500, help="number of images and points")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--without-tsne", action="store_true", help="omit t-SNE")
    options = parser.parse_args()
    if options.without_tsne:
        module = importlib.import_module("sightline.tasks.classify.report")
        compute = module.compute_findings
        without_tsne = lambda files, **_: compute(files, neighbors=False)  # noqa: E731
        setattr(module, "compute_findings", without_tsne)  # noqa: B010 - type checkers reject a plain assignment
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        write_synthetic_run(folder, options.images, options.epochs)
        start = time.monotonic()
        page = write_report(folder)
        seconds = time.monotonic() - start
        text = page.read_text(encoding="utf-8")
        image_bytes = sum(len(part) for part in text.split('"') if part.startswith("data:image"))
        measured = frame_times(page)
    print(f"{options.images:,} images, {options.epochs} epochs: written in {seconds:.1f} s")
    print(f"{len(text) / 1e6:.2f} MB, of which images {image_bytes / 1e6:.2f} MB")
    for name, times in measured.items():
        summary = f"median {statistics.median(times):.1f} ms, longest {max(times):.1f} ms" if times else "no frames"
        print(f"{name}: {summary}")


if __name__ == "__main__":
    main()
