"""Run folders for comparisons, written without training, with known numbers."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sightline.config.resolve import resolve, to_yaml
from sightline.config.schema import Config
from sightline.data.decode.masks import write_mask
from sightline.data.decode.palettes import Palette, to_dict
from sightline.stats.segmentation import confusion_per_image

CLASSES = ("cat", "dog", "<b>cow</b>")
MODELS = {"classify": "small_cnn", "segment": "unet", "byol": "small_cnn"}
LAND = Palette(
    names=("field", "wood", "lake"),
    colors=None,
    classes=("field", "wood", "lake"),
    index=np.arange(3, dtype=np.uint8),
    ignored=(),
    ids=(0, 1, 2),
    shown=((240, 220, 0), (0, 120, 0), (0, 0, 240)),
)


def write_run(
    folder: Path,
    task: str = "classify",
    settings: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    numbers: Mapping[str, float] | None = None,
    classes: Sequence[str] = CLASSES,
    digest: str | None = "aa",
    finished: bool = True,
) -> Path:
    """recipe.yaml, provenance.json and metrics.jsonl of a run of three epochs. numbers: of its last evaluation."""
    folder.mkdir(parents=True)
    base = {"task": task, "data.path": "photos", "model.name": MODELS[task], "train.epochs": 3}
    base["train.best_metric"] = {"classify": "accuracy", "segment": "mean_iou", "byol": "epoch"}[task]
    config = resolve(Config(name="toy"), base | dict(settings or {}))
    (folder / "recipe.yaml").write_text(to_yaml(config), encoding="utf-8")
    data = {"path": "photos", "classes": list(classes), "counts": {"train": 30}}
    data["digest"] = {"train": "tt"} | ({"val": digest} if digest else {})
    provenance = {"device": "a processor", "threads": 1, "precision": "fp32", "parameters": 1000, "data": data}
    (folder / "provenance.json").write_text(json.dumps(provenance | dict(facts or {})), encoding="utf-8")
    numbers = dict(numbers or {})
    lines: list[dict[str, Any]] = []
    for epoch in (1, 2, 3):
        common = {"step": 10 * epoch, "epoch": epoch, "seconds": 60.0 * epoch}
        lines.append({"event": "train", **common, "loss": 2 / epoch, "lr": 0.1})
        grown = {name: value * epoch / 3 for name, value in numbers.items()}
        lines.append({"event": "eval", **common, "split": "val", "loss": 1 / epoch, "best": True, **grown})
    if finished:
        end = {"step": 30, "epoch": 3, "seconds": 190.0}
        edges: dict[str, Any] = {f"{name}_interval": [value - 0.05, value + 0.05] for name, value in numbers.items()}
        edges |= {"baselines": {"most_frequent_class": 0.25}}
        lines.append({"event": "done", **end, "best_epoch": 3, "train_flops": 3e9, **numbers, **edges})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


def classifier(
    folder: Path,
    predicted: Sequence[int],
    truth: Sequence[int],
    names: Sequence[str] = (),
    classes: Sequence[str] = CLASSES,
    **more: Any,
) -> Path:
    """A finished classifier with predictions `predicted` of images with classes `truth`, and thumbnails of all."""
    names = names or [f"val/{i:03d}.png" for i in range(len(truth))]
    right = float(np.mean(np.array(predicted) == np.array(truth)))
    write_run(folder, classes=classes, numbers={"accuracy": right}, **more)
    (folder / "predictions").mkdir()
    with open(folder / "predictions" / "val.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["filename", "label", "truth", "confidence", *classes])
        for row, (name, said, true) in enumerate(zip(names, predicted, truth, strict=True)):
            sure = 0.5 + 0.4 * (row % 7) / 7
            each = [sure if k == said else 0 for k in range(len(classes))]
            writer.writerow([name, classes[said], classes[true], sure, *each])
    pictures = np.random.default_rng(0).integers(0, 256, (len(truth), 3, 6, 8)).astype(np.uint8)
    (folder / "snapshots").mkdir()
    arrays = {"images": pictures, "labels": np.array(truth), "index": np.arange(len(truth)), "names": np.array(names)}
    np.savez(folder / "snapshots" / "samples.npz", **arrays)
    return folder


def segmenter(folder: Path, predicted: np.ndarray, truth: np.ndarray, palette: Palette = LAND, **more: Any) -> Path:
    """A finished segmenter with its masks. predicted, truth: uint8 [N, h, w]; `more` may have names."""
    names = more.pop("names", [f"val/{i:04d}_sat.jpg" for i in range(len(truth))])
    counts = confusion_per_image(predicted, truth, len(palette.classes))
    write_run(folder, "segment", classes=palette.classes, numbers={"mean_iou": 0.5}, **more)
    for place in ("predictions/val", "snapshots", "checkpoints/best"):
        (folder / place).mkdir(parents=True)
    np.savez(folder / "predictions" / "val-confusion.npz", confusion=counts, names=np.array(names))
    for name, mask in zip(names, predicted, strict=True):
        stem = Path(name).stem.removesuffix("_sat")
        (folder / "predictions" / "val" / f"{stem}_mask.png").write_bytes(write_mask(mask, palette))
    (folder / "checkpoints" / "best" / "config.json").write_text(json.dumps({"palette": to_dict(palette)}))
    images = np.random.default_rng(1).integers(0, 256, (len(truth), 3, *truth.shape[1:])).astype(np.uint8)
    arrays = {"images": images, "labels": truth, "names": np.array(names), "index": np.arange(len(truth))}
    np.savez(folder / "snapshots" / "samples.npz", **arrays)
    return folder


def pretraining(folder: Path, knn: float, **more: Any) -> Path:
    """A finished pre-training run."""
    numbers = {"knn_accuracy": knn, "feature_std": 0.6, "effective_rank": 12.0}
    return write_run(folder, "byol", numbers=numbers, **more)
