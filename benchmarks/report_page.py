"""How long a report takes to draw, how large it is, and how long the map takes to paint itself in a browser.

    python benchmarks/report_page.py --images 2500 --epochs 3
    python benchmarks/report_page.py --images 50000 --epochs 3 --without-tsne

The run is made up: noisy features of 256 values around 50 class centers that move apart, random pictures of 32x32. The
frames are those of turning the wheel over the map, of moving the pointer over it, and of the points' travel from epoch
to epoch, in headless Chromium, which has no graphics card. t-SNE of 50,000 points takes minutes and makes no
difference to the frames.
"""

import argparse
import csv
import importlib
import io
import json
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from sightline.config.resolve import to_yaml
from sightline.engine.training_state import save_arrays
from sightline.report.page import write_report
from sightline.report.pdf import find_chromium
from sightline.runs.atomic import atomic_write
from sightline.tasks.files import config_of

CLASSES, WIDTH, SIDE = 50, 256, 32
WHEEL = """async (turns) => {
  const canvas = document.querySelector("canvas.map"), box = canvas.getBoundingClientRect(), times = [];
  for (let turn = 0; turn < turns; turn++) {
    const start = performance.now();
    const place = { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2, bubbles: true };
    canvas.dispatchEvent(new WheelEvent("wheel", { ...place, deltaY: turn % 2 ? 40 : -40, cancelable: true }));
    canvas.getContext("2d").getImageData(0, 0, 1, 1); // painting has ended
    times.push(performance.now() - start);
    await new Promise((resolve) => requestAnimationFrame(resolve));
  }
  return times;
}"""


HOVER = """async (turns) => {
  const canvas = document.querySelector("canvas.map"), box = canvas.getBoundingClientRect(), times = [];
  for (let turn = 0; turn < turns; turn++) {
    const start = performance.now();
    const place = { clientX: box.left + box.width * (0.3 + 0.01 * turn), clientY: box.top + box.height / 2 };
    canvas.dispatchEvent(new PointerEvent("pointermove", { ...place, pointerType: "mouse", bubbles: true }));
    canvas.getContext("2d").getImageData(0, 0, 1, 1);
    times.push(performance.now() - start);
    await new Promise((resolve) => requestAnimationFrame(resolve));
  }
  return times;
}"""
TRAVEL = """async (turns) => {
  const slider = document.querySelector(".map .time input"), times = [];
  const context = document.querySelector("canvas.map").getContext("2d"), stroke = context.clearRect.bind(context);
  let last = 0;
  context.clearRect = (...all) => {
    const now = performance.now();
    if (last) times.push(now - last);
    last = now;
    stroke(...all);
  };
  for (let turn = 0; turn < 6; turn++) {
    slider.value = String(turn % 2 ? slider.max : 0);
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    await new Promise((resolve) => setTimeout(resolve, 1200));
    last = 0;
  }
  return times;
}"""


def made_up_run(folder: Path, images: int, epochs: int) -> None:
    """A finished run's folder."""
    random = np.random.default_rng(0)
    truth = np.arange(images) % CLASSES
    predicted = np.where(random.random(images) < 0.8, truth, random.integers(0, CLASSES, images))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [f"class {index}" for index in range(CLASSES)]
    writer.writerow(["filename", "label", "truth", "confidence", *names])
    for index in range(images):
        row = [f"val/{index:06d}.png", names[predicted[index]], names[truth[index]], 0.7]
        writer.writerow([*row, *[0.7 if place == predicted[index] else 0.3 / 49 for place in range(CLASSES)]])
    atomic_write(folder / "predictions" / "val.csv", text.getvalue())
    coarse = random.integers(0, 256, (images, 3, 8, 8)).astype(np.uint8)
    pictures = coarse.repeat(SIDE // 8, 2).repeat(SIDE // 8, 3)
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
    save_arrays(folder / "snapshots" / "samples.npz", {"images": pictures, "labels": truth, "index": np.arange(images)})
    wrong = np.flatnonzero(truth != predicted)[:200]
    save_arrays(folder / "snapshots" / "mistakes.npz", {"images": pictures[wrong], "index": wrong})
    atomic_write(folder / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    atomic_write(folder / "recipe.yaml", to_yaml(config_of({"data.path": "photos"}, "recipe")))
    atomic_write(folder / "provenance.json", json.dumps({"data": {"classes": names}}))


def frames(page: Path, turns: int = 40) -> dict[str, list[float]]:
    """Milliseconds of the map at each turn of the wheel and move of the pointer, and between frames of a travel."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        window = browser.new_page(viewport={"width": 1280, "height": 900})
        window.goto(page.as_uri())
        window.wait_for_selector(".lives canvas.map")
        scripts = {"turning the wheel": WHEEL, "moving the pointer": HOVER, "frames of a travel": TRAVEL}
        found = {name: window.evaluate(script, turns) for name, script in scripts.items()}
        browser.close()
    return {name: times[5:] for name, times in found.items()}


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2500)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--without-tsne", action="store_true")
    options = parser.parse_args()
    if options.without_tsne:
        module = importlib.import_module("sightline.tasks.classify.report")
        without = partial(module.compute_findings, neighbors=False)
        setattr(module, "compute_findings", without)  # noqa: B010 - a module has no such type
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        made_up_run(folder, options.images, options.epochs)
        start = time.monotonic()
        page = write_report(folder)
        seconds = time.monotonic() - start
        text = page.read_text(encoding="utf-8")
        pictures = sum(len(part) for part in text.split('"') if part.startswith("data:image"))
        took = frames(page)
    print(f"{options.images:,} images, {options.epochs} epochs: drawn in {seconds:.1f} s")
    print(f"{len(text) / 1e6:.2f} MB, of which pictures {pictures / 1e6:.2f} MB")
    for name, times in took.items():
        print(f"{name}: {statistics.median(times):.1f} ms (longest {max(times):.1f} ms)" if times else f"{name}: none")


if __name__ == "__main__":
    main()
