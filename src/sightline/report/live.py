"""What the page's scripts read: pictures in sheets, maps, curves, the confusion matrix and masks, as JSON blocks.

The scripts are built from web/, whose src/data.ts has the other side of these names. Without them the page shows the
same in still pictures.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..errors import printable
from ..insight.curves import History
from ..insight.figures import class_order
from ..insight.projection import EpochMap
from ..insight.style import class_colors, png_rgb
from .drawing import kinds
from .findings import Findings
from .html import Child, Html, element, png_uri
from .run import Pictures, Predictions, RunFiles, Snapshot
from .words import percent

SHEET_PIXELS = 4096  # phones refuse much larger pictures
CLEAR = 95  # quality of small pictures, of which every pixel counts
FINE = 82
MOST_POINTS = 2000  # of a curve


def block(name: str, values: object) -> Html:
    """A JSON block that no text in it can end."""
    text = json.dumps(values, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return element("script", Html(text), type="application/json", id=name)


def live(kind: str, source: str, items: str | None = None) -> Html:
    """A place that the script fills, hidden until then."""
    return element("div", class_=f"live {kind}", data_live=kind, data_source=source, data_items=items, hidden=True)


def numbers(values: np.ndarray | None) -> str:
    """Whole numbers 0 to 65535 as base64 of little-endian 16-bit ones."""
    assert values is not None
    return base64.b64encode(np.ascontiguousarray(values, dtype="<u2").tobytes()).decode("ascii")


def shares(values: np.ndarray | None) -> str:
    """Shares of 1 as `numbers`."""
    assert values is not None
    return numbers(np.rint(np.clip(values, 0, 1) * 65535))


def webp(pixels: np.ndarray, quality: int) -> str:
    """A picture uint8 [h, w, 3] as a data: address."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def sheets(images: np.ndarray) -> dict[str, Any]:
    """Thumbnails uint8 [M, 3, h, w] side by side in a few large pictures."""
    _, _, height, width = images.shape
    columns = max(1, SHEET_PIXELS // width)
    rows = max(1, SHEET_PIXELS // height)
    columns = min(columns, max(1, int(np.ceil(np.sqrt(len(images) * height / width)))))
    found = []
    for start in range(0, len(images), rows * columns):
        part = images[start : start + rows * columns]
        lines = -(-len(part) // columns)
        sheet = np.zeros((lines * columns, 3, height, width), np.uint8)
        sheet[: len(part)] = part
        whole = sheet.reshape(lines, columns, 3, height, width).transpose(0, 3, 1, 4, 2)
        small = max(height, width) <= 40
        found.append(webp(whole.reshape(lines * height, columns * width, 3), CLEAR if small else FINE))
    return {"sheets": found, "tile": [height, width], "columns": columns, "perSheet": rows * columns}


def items(name: str, files: RunFiles, samples: Pictures, mistakes: Pictures | None) -> Html:
    """The block of the pictures: the samples, then those of the mistakes that are not among them."""
    predictions = files.predictions if samples is files.samples else None
    images, rows = samples.images, samples.rows
    if predictions is not None and not has_rows(predictions, rows).all():
        predictions = None  # the files are of different runs
    if predictions is not None and mistakes is not None and mistakes.images.shape[1:] == images.shape[1:]:
        fresh = ~np.isin(mistakes.rows, rows) & has_rows(predictions, mistakes.rows)
        images, rows = np.concatenate([images, mistakes.images[fresh]]), np.concatenate([rows, mistakes.rows[fresh]])
    known = facts_of(predictions, rows) if predictions else {"predicted": None, "confidence": None}
    if predictions is None:
        labels = samples.labels if samples.labels is not None else np.zeros(len(rows), np.int64)
        known |= {"truth": numbers(labels), "names": [f"image {row + 1}" for row in rows.tolist()]}
    classes = [printable(each) for each in files.classes]
    return block(name, {"classes": classes, "colors": class_colors(len(classes)), **known, **sheets(images)})


def has_rows(predictions: Predictions, rows: np.ndarray) -> np.ndarray:
    """Which of rows [M] the predictions have, bool [M]."""
    return (rows >= 0) & (rows < len(predictions.names))


def facts_of(predictions: Predictions, rows: np.ndarray) -> dict[str, Any]:
    """What predictions/val.csv says of its rows [M]."""
    return {
        "names": [printable(predictions.names[row]) for row in rows.tolist()],
        "truth": numbers(predictions.truth[rows]),
        "predicted": numbers(predictions.predicted[rows]),
        "confidence": shares(predictions.confidence[rows]),
    }


def map_block(name: str, maps: Sequence[EpochMap], snapshots: Sequence[Snapshot], classes: int) -> Html:
    """The block of the maps, on axes shared over the epochs, square, and what the model said at each epoch."""
    placed = {kind: squared([getattr(one, kind) for one in maps]) for kind in kinds(maps)}
    epochs = [
        {
            "epoch": one.epoch,
            "knn": "" if one.knn is None else f"{percent(one.knn)}%",
            "silhouette": "" if one.silhouette is None else f"{one.silhouette:.3f}",
            "explained": f"{percent(one.explained)}%",
        }
        for one in maps
    ]
    said = {one.epoch: one for one in snapshots}
    shown = [said[one.epoch] for one in maps]
    usable = all(one.predictions is not None and 0 <= one.predictions.min() <= one.predictions.max() < classes
                 for one in shown)  # fmt: skip
    sure = usable and all(one.confidence is not None for one in shown)
    return block(
        name,
        {
            "count": len(maps[0].pca),
            "epochs": epochs,
            "kinds": {kind: [numbers(points) for points in every] for kind, every in placed.items()},
            "predicted": [numbers(one.predictions) for one in shown] if usable else None,
            "confidence": [shares(one.confidence) for one in shown] if sure else None,
        },
    )


def squared(points: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Points [N, 2] of each epoch as 0 to 65535 of one square around all of them."""
    every = np.concatenate(points)
    low, high = every.min(0), every.max(0)
    side = max(float((high - low).max()), 1e-12)
    corner = (low + high) / 2 - side / 2
    return [np.rint(np.clip((place - corner) / side, 0, 1) * 65535).astype(np.uint16).ravel() for place in points]


def confusion_block(name: str, found: Findings, classes: Sequence[str]) -> Html | None:
    """The block of the confusion matrix with its orders; None where it is too large to be of use."""
    verdict = found.verdict
    if verdict is None or len(classes) > 200:
        return None
    orders = {
        "similar": class_order(verdict.confusion).tolist(),
        "name": sorted(range(len(classes)), key=lambda index: classes[index]),
        "worst": np.argsort(verdict.classes.recall, kind="stable").tolist(),
    }
    return block(name, {"orders": orders, "counts": verdict.confusion.tolist()})


CURVES = (
    ("loss", "Loss", 3, (("train", "loss", "training", 1.0), ("validation", "loss", "validation", 1.0))),
    (
        "accuracy",
        "Accuracy, %",
        2,
        (("validation", "accuracy", "validation", 100.0), ("other", "accuracy_top5", "top 5", 100.0)),
    ),
    ("mean-iou", "Mean IoU, %", 2, (("validation", "mean_iou", "validation", 100.0),)),
    ("knn-accuracy", "k-NN accuracy, %", 2, (("validation", "knn_accuracy", "evaluated images", 100.0),)),
    ("feature-std", "Spread of the projections, 0 to 1", 3, (("validation", "feature_std", "evaluated images", 1.0),)),
    ("effective-rank", "Effective rank", 1, (("validation", "effective_rank", "evaluated images", 1.0),)),
    ("learning-rate", "Learning rate", 6, (("train", "lr", "training", 1.0),)),
    ("gradient-norm", "Gradient norm", 3, (("train", "grad_norm", "training", 1.0),)),
    ("data-wait", "Waiting for data, % of the time", 1, (("train", "data_wait", "training", 100.0),)),
)


def curves_block(name: str, past: History) -> Html | None:
    """The block of all curves that the run has; None before its first epoch."""
    drawn = []
    for own, title, digits, wanted in CURVES:
        lines = [line for kind, field, label, factor in wanted if (line := curve(past, kind, field, label, factor))]
        if lines:
            drawn.append({"name": own, "title": title, "digits": digits, "lines": lines, "marks": marks(past)})
    return block(name, drawn) if drawn else None


def curve(past: History, kind: str, field: str, label: str, factor: float) -> dict[str, Any] | None:
    """One line; None without values. Of very many points every k-th is kept, and the last."""
    table: Mapping[str, np.ndarray] = past.train if kind == "train" else past.evaluation
    usable = np.flatnonzero(np.isfinite(table[field]) & np.isfinite(table["epoch"]))
    if not len(usable):
        return None
    step = -(-len(usable) // MOST_POINTS)
    usable = np.unique(np.append(usable[::step], usable[-1]))
    x, y = table["epoch"][usable], factor * table[field][usable]
    return {
        "label": label,
        "kind": kind,
        "x": [float(f"{value:.6g}") for value in x],
        "y": [float(f"{value:.6g}") for value in y],
    }


def marks(past: History) -> list[dict[str, Any]]:
    """Where the run was best, was taken up again, and stopped before its end."""
    found: list[dict[str, Any]] = [{"at": epoch, "kind": "resumed", "label": "resumed"} for epoch in past.resumes]
    if past.best_epoch and not past.ensemble:
        found.append({"at": past.best_epoch, "kind": "best", "label": f"best, epoch {past.best_epoch}"})
    if past.stop and past.stop != "all epochs done":
        found.append({"at": past.last_epoch, "kind": "stopped", "label": "stopped"})
    return found


def gray_png(mask: np.ndarray) -> str:
    """A mask of class indices uint8 [h, w] as a data: address."""
    return png_uri(png_rgb(mask))


def with_lives(still: Sequence[Child], *places: Html | None) -> Html:
    """Still pictures and the live place that stands for them where scripts run."""
    return element("div", [place for place in places if place], element("div", list(still), class_="still"))
