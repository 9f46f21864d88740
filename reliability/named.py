"""Runs, grids, sweeps and masks as their commands leave them, with one text in every name that others may choose; and
every page that shows them."""

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

from reliability.mutants import scene
from reliability.toys import PNG, swapped
from sightline.config.resolve import resolve, to_yaml
from sightline.config.schema import Config

COMMON = {"step": 1, "epoch": 1, "seconds": 1.0}
NUMBERS = {
    "classify": {"accuracy": 0.5, "accuracy_top5": 1.0},
    "segment": {"mean_iou": 0.5, "pixel_accuracy": 0.5},
    "byol": {"knn_accuracy": 0.5, "feature_std": 0.6, "effective_rank": 3.0},
}


def as_file(mark: str) -> str:
    """The text as a name that the file system takes."""
    return mark.replace("/", "\u2215").replace("\0", "0")


def classes_of(mark: str) -> list[str]:
    return [f"{place} {mark}" for place in range(3)]


def names_of(mark: str) -> list[str]:
    return [f"val/{place} {as_file(mark)}.png" for place in range(9)]


# ---------------------------------------------------------------------------------------------------------- run folders


def write_run(folder: Path, mark: str, task: str = "classify") -> Path:
    """A finished run, as training leaves it."""
    (folder / "snapshots" / "epoch-00001").mkdir(parents=True)
    write_facts(folder, mark, task)
    write_architecture(folder / "architecture.json", mark)
    if task == "segment":
        return with_masks(folder, mark)
    if task == "classify":
        with_predictions(folder, mark)
    return with_pictures(folder, mark, labeled=task == "classify")


def write_facts(folder: Path, mark: str, task: str) -> None:
    """recipe.yaml, provenance.json and metrics.jsonl."""
    best = {"classify": "accuracy", "segment": "mean_iou", "byol": "epoch"}[task]
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


def truth_and_said() -> tuple[np.ndarray, np.ndarray]:
    """Classes [9] of the images and what the model says of them."""
    return np.arange(9) % 3, (np.arange(9) + (np.arange(9) % 4 == 0)) % 3


def with_predictions(folder: Path, mark: str) -> None:
    """predictions/val.csv."""
    classes, (truth, predicted) = classes_of(mark), truth_and_said()
    (folder / "predictions").mkdir()
    with open(folder / "predictions" / "val.csv", "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(["filename", "label", "truth", "confidence", *classes])
        for name, row, column in zip(names_of(mark), truth, predicted, strict=True):
            shares = [0.8 if place == column else 0.1 for place in range(3)]
            writer.writerow([name, classes[column], classes[row], 0.8, *shares])


def with_pictures(folder: Path, mark: str, labeled: bool) -> Path:
    """Snapshots of features, and the pictures that they are of."""
    truth, predicted = truth_and_said()
    pictures = np.random.default_rng(0).integers(0, 256, (9, 3, 6, 8)).astype(np.uint8)
    wrong, place = np.flatnonzero(truth != predicted), folder / "snapshots"
    features = np.random.default_rng(1).normal(size=(9, 4)).astype(np.float16)
    said: Any = {"predictions": predicted, "confidence": np.full(9, 0.8)} if labeled else {}
    np.savez(place / "epoch-00001" / "features.npz", features=features, **said)
    labels: Any = {"labels": truth} if labeled else {}
    np.savez(place / "samples.npz", images=pictures, **labels, names=np.array(names_of(mark)), index=np.arange(9))
    if labeled:
        np.savez(place / "mistakes.npz", images=pictures[wrong], index=wrong)
    return folder


def palette_of(mark: str) -> Any:
    from sightline.data.decode.palettes import Palette

    classes = tuple(classes_of(mark))
    shown = ((240, 220, 0), (0, 120, 0), (0, 0, 240))
    index = np.arange(3, dtype=np.uint8)
    return Palette(names=classes, colors=None, classes=classes, index=index, ignored=(), ids=(0, 1, 2), shown=shown)


def with_masks(folder: Path, mark: str) -> Path:
    """What a segmenter leaves."""
    from sightline.data.decode.masks import write_mask
    from sightline.data.decode.palettes import to_dict
    from sightline.stats.segmentation import confusion_per_image
    from sightline.tasks.segment.results import mask_names

    palette, names = palette_of(mark), np.array(names_of(mark))
    truth = np.random.default_rng(2).integers(0, 3, (9, 6, 8)).astype(np.uint8)
    predicted = np.where(np.arange(8) < 5, truth, 0).astype(np.uint8)
    images = np.random.default_rng(0).integers(0, 256, (9, 3, 6, 8)).astype(np.uint8)
    for place in ("predictions/val", "checkpoints/best"):
        (folder / place).mkdir(parents=True)
    counts = confusion_per_image(predicted, truth, 3)
    np.savez(folder / "predictions" / "val-confusion.npz", confusion=counts, names=names)
    for name, mask in zip(mask_names(names.tolist()), predicted, strict=True):
        (folder / "predictions" / "val" / name).write_bytes(write_mask(mask, palette))
    (folder / "checkpoints" / "best" / "config.json").write_text(json.dumps({"palette": to_dict(palette)}))
    place = folder / "snapshots"
    np.savez(place / "samples.npz", images=images, labels=truth, names=names, index=np.arange(9))
    np.savez(place / "epoch-00001" / "masks.npz", masks=predicted)
    worst: Any = {"images": images[:2], "truth": truth[:2], "predicted": predicted[:2], "names": names[:2]}
    np.savez(place / "mistakes.npz", **worst, index=np.arange(2))
    return folder


def write_architecture(path: Path, mark: str) -> None:
    """A model of two layers whose names are a stranger's."""
    one = {"role": "linear", "shapes": [[4]], "parameters": 20, "multiply_adds": 16, "name": f"{mark} 1", "kind": mark}
    layers = [one | {"inputs": [[-1, 0]]}, one | {"name": f"{mark} 2", "inputs": [[0, 0]]}]
    whole = {"role": "block", "inputs": [], "outputs": [[1, 0]], "children": layers, "name": mark, "kind": mark}
    model = one | whole | {"parameters": 40}
    values = {"format": 1, "name": mark, "image": [3, 8, 8], "outputs": [mark], "method": "", "notes": [mark]}
    path.write_text(json.dumps(values | {"model": model}), encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------------- pages


def the_report(folder: Path, mark: str, task: str = "classify") -> str:
    from sightline.report.page import write_report

    return write_report(write_run(folder / f"run {as_file(mark)}", mark, task)).read_text(encoding="utf-8")


def the_masks_report(folder: Path, mark: str) -> str:
    return the_report(folder, mark, "segment")


def the_pretraining_report(folder: Path, mark: str) -> str:
    return the_report(folder, mark, "byol")


def the_comparison(folder: Path, mark: str, task: str = "classify") -> str:
    from sightline.reporting import report

    runs = [write_run(folder / f"{number} {as_file(mark)}", mark, task) for number in range(2)]
    return Path(report(runs[0], *runs[1:], out=folder / "compared", quiet=True)).read_text(encoding="utf-8")


def the_masks_comparison(folder: Path, mark: str) -> str:
    return the_comparison(folder, mark, "segment")


def the_diagnosis(folder: Path, mark: str) -> str:
    """The doctor's page of data with findings: files that can't be read, copies, and classes by their names."""
    from sightline.doctor import doctor

    name = as_file(mark)
    for label in range(2):
        place = folder / f"photos {name}" / f"{label} {name}"
        place.mkdir(parents=True)
        for number in range(4):
            scene((12, 12), seed=number + 4 * label).save(place / f"{number} {name}.png")
        scene((12, 12), seed=4 * label).save(place / f"copy {name}.png")
        (place / f"bad {name}.png").write_text(f"<html>{mark}")
    return doctor(folder / f"photos {name}", out=folder / "page.html", quiet=True).page.read_text(encoding="utf-8")


def the_grid(folder: Path, mark: str) -> str:
    """A transfer grid of which two runs are finished and the predictions of a third cannot be read."""
    from sightline.recipes.transfer import transfer_fast
    from sightline.transfer.grid import resolve_grid
    from sightline.transfer.results import write_grid_report

    place = folder / f"grid {as_file(mark)}"
    for setting in "ABC":
        write_run(place / f"{setting}-0", mark)
    with open(place / "B-0" / "predictions" / "val.csv", "a", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerow([mark, f"other {mark}", f"other {mark}", 1, 1, 0, 0])
    write_run(place / "pretrain-unlabeled", mark, "byol")
    paths = {f"{stage}.data.path": f"/data/{mark}" for stage in ("labeled", "unlabeled", "full", "frozen")}
    grid = resolve_grid(transfer_fast(), {"name": mark, "seeds": (0,), "labeled_weights": f"/weights/{mark}", **paths})
    return write_grid_report(place, grid).report.read_text(encoding="utf-8")


def the_sweep(folder: Path, mark: str) -> str:
    """A sweep with two whole trials and one that failed."""
    from sightline.sweep.report import write_sweep_report

    place = folder / f"sweep {as_file(mark)}"
    for trial in range(2):
        write_run(place / f"trial-{trial:04d}", mark)
    row = {"epochs": 1.0, "seconds": 1.0, "flops": 1e9, "best_epoch": 1, "same_as": None, "message": ""}
    rows = [row | {"trial": n, "state": "complete", "value": 0.5, "values": {"data.path": mark}} for n in range(2)]
    rows.append(row | {"trial": 2, "state": "failed", "value": None, "values": {"data.path": mark}, "message": mark})
    values = {
        "name": mark, "metric": "accuracy", "lowest": False, "sampler": mark, "pruner": mark, "seed": 0, "wanted": 3,
        "space": {"data.path": f"{mark},b"}, "fixed": {"model.weights": mark}, "best": 0, "trials": rows,
        "data": {"path": mark, "images": {"train": 9, "val": 9}},
    }  # fmt: skip
    (place / "sweep.json").write_text(json.dumps(values), encoding="utf-8")
    write_sweep_report(place)
    return (place / "report.html").read_text(encoding="utf-8")


def the_segments(folder: Path, mark: str) -> str:
    """The page of `sightline masks` with a clean-up, and an image that was left out."""
    from sightline.segment_anything.clean_up import CleanUp
    from sightline.segment_anything.outputs import PlannedImage
    from sightline.segment_anything.page import render

    name = f"{as_file(mark)}.png"
    image = PlannedImage(name, str(folder / name), folder / name.removesuffix(".png"))
    scene((16, 12)).save(folder / name)
    scene((16, 12)).save(image.file("_overlay.png"))
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(12, 16) % 3).save(image.file("_segments.png"))
    counts, mask = [np.full((3, 3), 5)], np.zeros((12, 16), np.uint8)
    parts = cast(Any, SimpleNamespace(palette=palette_of(mark)))
    shown = {name: [(title, mask, mark) for title in ("prediction", "cleaned up", "truth")]}
    cleaned = CleanUp(parts, {}, {}, counts, counts, shown)
    settings = {"points_per_side": 8, "points_per_batch": 8, "quality": 0.5, "stability": 0.5, "nms": 0.7}
    record = {
        "seconds_per_image": 1.0, "errors": [{"filename": mark, "error": mark}], "settings": settings, "threads": 1,
        "clean_up": {"run": mark, "sentence": f"clean-up of {mark}"}, "device": mark, "versions": {mark: mark},
        "checkpoint": {"name": mark, "sha256": mark},
        "images": [{"file_name": name, "height": 12, "width": 16, "masks": 3, "covered": 0.5, "seconds": 1.0}],
    }  # fmt: skip
    return render(mark, [image], record, cleaned)


def the_server(folder: Path, mark: str) -> str:
    from sightline.serve.page import page

    return page([mark, f"{mark} 2"], ["classes", "a mask"], "http://127.0.0.1:8000/", 1000)


def the_watched(folder: Path, mark: str) -> str:
    """The page of `report --watch` before the run begins."""
    from sightline.report.watch import WatchedRun

    return WatchedRun(folder / as_file(mark)).page()


PAGES: dict[str, Callable[[Path, str], str]] = {
    "report": the_report,
    "report of masks": the_masks_report,
    "report of a pre-training": the_pretraining_report,
    "comparison": the_comparison,
    "comparison of masks": the_masks_comparison,
    "transfer grid": the_grid,
    "sweep": the_sweep,
    "segments": the_segments,
    "doctor's page": the_diagnosis,
    "served page": the_server,
    "watched page": the_watched,
}
PLANS = (
    ("report.compare.files", "plan_comparison"),
    ("transfer.results", "plan_grid"),
    ("sweep.report", "plan_sweep"),
)


@contextlib.contextmanager
def without_figures() -> Generator[None]:
    """Write one blank image for each planned figure: drawing takes nearly all of the time."""

    def blanks(plan: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        return lambda *arguments: dict.fromkeys(plan(*arguments), lambda: None)

    drawing = importlib.import_module("sightline.report.drawing")
    with contextlib.ExitStack() as stack:
        stack.enter_context(swapped(drawing, "drawn", lambda name, draw: PNG))
        for name, plan in PLANS:
            module = importlib.import_module(f"sightline.{name}")
            stack.enter_context(swapped(module, plan, blanks(getattr(module, plan))))
            stack.enter_context(swapped(module, "png", lambda figure: PNG))
        yield
