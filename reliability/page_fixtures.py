"""Run folders, grids, sweeps and masks in which every name contains a given text, and the HTML pages made from them.

`mark` is always that text.
"""

import contextlib
import csv
import importlib
import json
from collections.abc import Callable, Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from PIL import Image

from reliability.mutations import synthetic_image
from reliability.toys import PNG, patched
from sightline.config.resolve import resolve, to_yaml
from sightline.config.schema import Config

COMMON = {"step": 1, "epoch": 1, "seconds": 1.0}
NUMBERS = {
    "classify": {"accuracy": 0.5, "accuracy_top5": 1.0},
    "segment": {"mean_iou": 0.5, "pixel_accuracy": 0.5},
    "pretrain": {"knn_accuracy": 0.5, "feature_std": 0.6, "effective_rank": 3.0},
}


def as_file(mark: str) -> str:
    """The text without "/" and NUL, which file names cannot contain."""
    return mark.replace("/", "\u2215").replace("\0", "0")


def classes_of(mark: str) -> list[str]:
    """Three class names."""
    return [f"{index} {mark}" for index in range(3)]


def names_of(mark: str) -> list[str]:
    """Nine image names."""
    return [f"val/{index} {as_file(mark)}.png" for index in range(9)]


# ---------------------------------------------------------------------------------------------------------- run folders


def write_run(folder: Path, mark: str, task: str = "classify") -> Path:
    """Write the folder of a finished run of `task`."""
    (folder / "snapshots" / "epoch-00001").mkdir(parents=True)
    write_metadata(folder, mark, task)
    write_architecture(folder / "architecture.json", mark)
    if task == "segment":
        return add_masks(folder, mark)
    if task == "classify":
        add_predictions(folder, mark)
    return add_images(folder, mark, labeled=task == "classify")


def write_metadata(folder: Path, mark: str, task: str) -> None:
    """Write recipe.yaml, provenance.json and metrics.jsonl."""
    best = {"classify": "accuracy", "segment": "mean_iou", "pretrain": "epoch"}[task]
    settings = {"task": task, "train.best_metric": best, "data.path": f"/data/{mark}", "data.classes": classes_of(mark)}
    model = {"segment": "unet"}.get(task, "small_cnn")
    settings = {key: value for key, value in settings.items() if task == "classify" or key != "data.classes"}
    config = resolve(Config(name=mark), settings | {"model.name": model})
    (folder / "recipe.yaml").write_text(to_yaml(config), encoding="utf-8")
    data = {"path": mark, "classes": classes_of(mark), "counts": {"train": 9, "val": 9}, "digest": {"val": "ab"}}
    provenance = {
        "command": ["sightline", "train", mark], "device": mark, "threads": 1, "precision": "fp32", "parameters": 1,
        "notes": [f"found {mark}"], "git": mark, "warnings": [mark], "versions": {"torch": mark}, "data": data,
        "pixels": {"train": [3, 2, 1], "val": [1, 2, 3]},
    }  # fmt: skip
    (folder / "provenance.json").write_text(json.dumps(provenance), encoding="utf-8")
    lines = [
        {"event": "start", "step": 0, "epoch": 0, "seconds": 0.0},
        {"event": "warning", **COMMON, "text": mark},
        {"event": "train", **COMMON, "loss": 1.0, "lr": 0.1, "images_per_second": 1.0, "grad_norm": 1.0},
        {"event": "eval", **COMMON, "split": "val", "loss": 1.0, **NUMBERS[task], "best": True},
        {"event": "stop", **COMMON, "reason": mark},
        {"event": "done", **COMMON, **NUMBERS[task], "best_epoch": 1},
    ]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")


def labels_and_predictions() -> tuple[np.ndarray, np.ndarray]:
    """True and predicted class indices [9] of the images."""
    return np.arange(9) % 3, (np.arange(9) + (np.arange(9) % 4 == 0)) % 3


def add_predictions(folder: Path, mark: str) -> None:
    """Write predictions/val.csv."""
    classes, (truth, predicted) = classes_of(mark), labels_and_predictions()
    (folder / "predictions").mkdir()
    with open(folder / "predictions" / "val.csv", "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(["filename", "label", "truth", "confidence", *classes])
        for name, row, column in zip(names_of(mark), truth, predicted, strict=True):
            probabilities = [0.8 if index == column else 0.1 for index in range(3)]
            writer.writerow([name, classes[column], classes[row], 0.8, *probabilities])


def add_images(folder: Path, mark: str, labeled: bool) -> Path:
    """Write the snapshots of images and their features."""
    truth, predicted = labels_and_predictions()
    images = np.random.default_rng(0).integers(0, 256, (9, 3, 6, 8)).astype(np.uint8)
    wrong, snapshots = np.flatnonzero(truth != predicted), folder / "snapshots"
    features = np.random.default_rng(1).normal(size=(9, 4)).astype(np.float16)
    predictions: Any = {"predictions": predicted, "confidence": np.full(9, 0.8)} if labeled else {}
    np.savez(snapshots / "epoch-00001" / "features.npz", features=features, **predictions)
    labels: Any = {"labels": truth} if labeled else {}
    np.savez(snapshots / "samples.npz", images=images, **labels, names=np.array(names_of(mark)), index=np.arange(9))
    if labeled:
        np.savez(snapshots / "mistakes.npz", images=images[wrong], index=wrong)
    return folder


def palette_of(mark: str) -> Any:
    """A palette of the three classes."""
    from sightline.data.decode.palettes import Palette

    classes = tuple(classes_of(mark))
    shown = ((240, 220, 0), (0, 120, 0), (0, 0, 240))
    index = np.arange(3, dtype=np.uint8)
    return Palette(names=classes, colors=None, classes=classes, index=index, ignored=(), ids=(0, 1, 2), shown=shown)


def add_masks(folder: Path, mark: str) -> Path:
    """Write the masks, metrics and snapshots of a segmenter."""
    from sightline.data.decode.masks import write_mask
    from sightline.data.decode.palettes import to_dict
    from sightline.stats.segmentation import confusion_per_image
    from sightline.tasks.segment.results import mask_names

    palette, names = palette_of(mark), np.array(names_of(mark))
    truth = np.random.default_rng(2).integers(0, 3, (9, 6, 8)).astype(np.uint8)
    predicted = np.where(np.arange(8) < 5, truth, 0).astype(np.uint8)
    images = np.random.default_rng(0).integers(0, 256, (9, 3, 6, 8)).astype(np.uint8)
    for name in ("predictions/val", "checkpoints/best"):
        (folder / name).mkdir(parents=True)
    counts = confusion_per_image(predicted, truth, 3)
    np.savez(folder / "predictions" / "val-confusion.npz", confusion=counts, names=names)
    for name, mask in zip(mask_names(names.tolist()), predicted, strict=True):
        (folder / "predictions" / "val" / name).write_bytes(write_mask(mask, palette))
    (folder / "checkpoints" / "best" / "config.json").write_text(json.dumps({"palette": to_dict(palette)}))
    snapshots = folder / "snapshots"
    np.savez(snapshots / "samples.npz", images=images, labels=truth, names=names, index=np.arange(9))
    np.savez(snapshots / "epoch-00001" / "masks.npz", masks=predicted)
    worst: Any = {"images": images[:2], "truth": truth[:2], "predicted": predicted[:2], "names": names[:2]}
    np.savez(snapshots / "mistakes.npz", **worst, index=np.arange(2))
    return folder


def write_architecture(path: Path, mark: str) -> None:
    """Write architecture.json of a model with two layers."""
    one = {"role": "linear", "shapes": [[4]], "parameters": 20, "multiply_adds": 16, "name": f"{mark} 1", "kind": mark}
    layers = [one | {"inputs": [[-1, 0]]}, one | {"name": f"{mark} 2", "inputs": [[0, 0]]}]
    block = {"role": "block", "inputs": [], "outputs": [[1, 0]], "children": layers, "name": mark, "kind": mark}
    model = one | block | {"parameters": 40}
    values = {"format": 1, "name": mark, "image": [3, 8, 8], "outputs": [mark], "method": "", "notes": [mark]}
    path.write_text(json.dumps(values | {"model": model}), encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------------- pages


def report_page(folder: Path, mark: str, task: str = "classify") -> str:
    from sightline.report.page import write_report

    return write_report(write_run(folder / f"run {as_file(mark)}", mark, task)).read_text(encoding="utf-8")


def segmenter_page(folder: Path, mark: str) -> str:
    return report_page(folder, mark, "segment")


def pretraining_page(folder: Path, mark: str) -> str:
    return report_page(folder, mark, "pretrain")


def comparison_page(folder: Path, mark: str, task: str = "classify") -> str:
    from sightline.reporting import report

    runs = [write_run(folder / f"{number} {as_file(mark)}", mark, task) for number in range(2)]
    return Path(report(runs[0], *runs[1:], out=folder / "compared", quiet=True)).read_text(encoding="utf-8")


def segmenters_page(folder: Path, mark: str) -> str:
    return comparison_page(folder, mark, "segment")


def doctor_page(folder: Path, mark: str) -> str:
    """The page of `sightline doctor` for data with unreadable files and copies."""
    from sightline.doctor import doctor

    name = as_file(mark)
    for label in range(2):
        class_folder = folder / f"photos {name}" / f"{label} {name}"
        class_folder.mkdir(parents=True)
        for number in range(4):
            synthetic_image((12, 12), seed=number + 4 * label).save(class_folder / f"{number} {name}.png")
        synthetic_image((12, 12), seed=4 * label).save(class_folder / f"copy {name}.png")
        (class_folder / f"bad {name}.png").write_text(f"<html>{mark}")
    return doctor(folder / f"photos {name}", out=folder / "page.html", quiet=True).page.read_text(encoding="utf-8")


def grid_page(folder: Path, mark: str) -> str:
    """The page of a transfer grid in which the predictions of one run cannot be read."""
    from sightline.recipes.transfer import transfer_fast
    from sightline.transfer.grid import resolve_grid
    from sightline.transfer.output import write_grid_report

    grid_folder = folder / f"grid {as_file(mark)}"
    for name in ("A-0", "B-p0-0", "C-p0-0"):
        write_run(grid_folder / name, mark)
    with open(grid_folder / "B-p0-0" / "predictions" / "val.csv", "a", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerow([mark, f"other {mark}", f"other {mark}", 1, 1, 0, 0])
    write_run(grid_folder / "pretrain-unlabeled-0", mark, "pretrain")
    paths = {f"{stage}.data.path": f"/data/{mark}" for stage in ("labeled", "unlabeled", "full", "frozen")}
    grid = resolve_grid(transfer_fast(), {"name": mark, "seeds": (0,), "labeled_weights": f"/weights/{mark}", **paths})
    return write_grid_report(grid_folder, grid).report.read_text(encoding="utf-8")


def sweep_page(folder: Path, mark: str) -> str:
    """The page of a sweep with two complete trials and one that failed."""
    from sightline.sweep.report import write_sweep_report

    sweep_folder = folder / f"sweep {as_file(mark)}"
    for trial in range(2):
        write_run(sweep_folder / f"trial-{trial:04d}", mark)
    row = {"epochs": 1.0, "seconds": 1.0, "flops": 1e9, "best_epoch": 1, "same_as": None, "message": ""}
    rows = [row | {"trial": n, "state": "complete", "value": 0.5, "values": {"data.path": mark}} for n in range(2)]
    rows.append(row | {"trial": 2, "state": "failed", "value": None, "values": {"data.path": mark}, "message": mark})
    values = {
        "name": mark, "metric": "accuracy", "lowest": False, "sampler": mark, "pruner": mark, "seed": 0, "wanted": 3,
        "space": {"data.path": f"{mark},b"}, "fixed": {"model.weights": mark}, "best": 0, "trials": rows,
        "data": {"path": mark, "images": {"train": 9, "val": 9}},
    }  # fmt: skip
    (sweep_folder / "sweep.json").write_text(json.dumps(values), encoding="utf-8")
    write_sweep_report(sweep_folder)
    return (sweep_folder / "report.html").read_text(encoding="utf-8")


def masks_page(folder: Path, mark: str) -> str:
    """The page of `sightline masks` with a clean-up, and an image with an error."""
    from sightline.segment_anything.clean_up import CleanUp
    from sightline.segment_anything.outputs import PlannedImage
    from sightline.segment_anything.page import render

    name = f"{as_file(mark)}.png"
    image = PlannedImage(name, str(folder / name), folder / name.removesuffix(".png"))
    synthetic_image((16, 12)).save(folder / name)
    synthetic_image((16, 12)).save(image.file("_overlay.png"))
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(12, 16) % 3).save(image.file("_segments.png"))
    counts, mask = [np.full((3, 3), 5)], np.zeros((12, 16), np.uint8)
    parts = cast(Any, SimpleNamespace(palette=palette_of(mark), learner=SimpleNamespace(config=Config())))
    shown = {name: [(title, mask, mark) for title in ("prediction", "cleaned up", "truth")]}
    cleaned = CleanUp(parts, {}, {}, counts, counts, [f"{row}.png" for row in range(len(counts))], shown)
    settings = {"points_per_side": 8, "points_per_batch": 8, "quality": 0.5, "stability": 0.5, "nms": 0.7}
    record = {
        "seconds_per_image": 1.0, "errors": [{"filename": mark, "error": mark}], "settings": settings, "threads": 1,
        "clean_up": {"run": mark, "sentence": f"clean-up of {mark}"}, "device": mark, "versions": {mark: mark},
        "checkpoint": {"name": mark, "sha256": mark},
        "images": [{"file_name": name, "height": 12, "width": 16, "masks": 3, "covered": 0.5, "seconds": 1.0}],
    }  # fmt: skip
    return render(mark, [image], record, cleaned)


def server_page(folder: Path, mark: str) -> str:
    from sightline.serve.page import page

    return page([mark, f"{mark} 2"], ["classes", "a mask"], "http://127.0.0.1:8000/", 1000)


def watched_page(folder: Path, mark: str) -> str:
    """The page of `report --watch` before the run starts."""
    from sightline.report.watch import WatchedRun

    return WatchedRun(folder / as_file(mark)).page()


PAGES: dict[str, Callable[[Path, str], str]] = {
    "report": report_page,
    "report of a segmenter": segmenter_page,
    "report of a pre-training": pretraining_page,
    "comparison": comparison_page,
    "comparison of segmenters": segmenters_page,
    "transfer grid": grid_page,
    "sweep": sweep_page,
    "masks": masks_page,
    "doctor": doctor_page,
    "server": server_page,
    "watched report": watched_page,
}
FIGURE_PLANS = (
    ("report.compare.files", "plan_comparison"),
    ("transfer.output", "plan_grid"),
    ("sweep.report", "plan_sweep"),
)


@contextlib.contextmanager
def without_figures() -> Generator[None]:
    """Write an empty image for each figure, because drawing takes nearly all of the time."""

    def blanks(plan: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        return lambda *arguments: dict.fromkeys(plan(*arguments), lambda: None)

    drawing = importlib.import_module("sightline.report.drawing")
    with contextlib.ExitStack() as stack:
        stack.enter_context(patched(drawing, "drawn", lambda name, draw: PNG))
        for name, plan in FIGURE_PLANS:
            module = importlib.import_module(f"sightline.{name}")
            stack.enter_context(patched(module, plan, blanks(getattr(module, plan))))
            stack.enter_context(patched(module, "png", lambda figure: PNG))
        yield
