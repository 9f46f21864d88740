"""JSON blocks for the interactive views of a page: thumbnails, maps, curves and confusion matrix.

web/src/data.ts declares the same names. Without scripts the page shows still figures.
"""

import base64
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..errors import printable
from ..insight.curves import Columns, History, MetricCurve
from ..insight.figures import class_order
from ..insight.projection import EpochMap
from ..insight.style import class_colors, png_rgb
from .drawing import TRAINING_CURVES, kinds
from .findings import Findings
from .formatting import percent
from .html import Child, Html, element, png_uri
from .run import Predictions, RunFiles, Snapshot, Thumbnails

SHEET_PIXELS = 4096  # largest side of a sprite sheet; phones cannot display much larger images
CLEAR = 95  # WebP quality of images of at most 40 pixels
FINE = 82  # WebP quality of larger images
MOST_POINTS = 2000  # maximum number of points of a curve


def block(name: str, values: object) -> Html:
    """A <script> element with JSON data for the page's script. `<` is escaped so that no text can close the element."""
    text = json.dumps(values, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return element("script", Html(text), type="application/json", id=name)


def live(kind: str, source: str, items: str | None = None) -> Html:
    """A hidden element in which the page's script creates an interactive view.

    kind: of the view, "map" or "curves", for example. source, items: names of the JSON blocks with its data and
    thumbnails.
    """
    return element("div", class_=f"live {kind}", data_live=kind, data_source=source, data_items=items, hidden=True)


def numbers(values: np.ndarray | None) -> str:
    """Encode integers 0 to 65535 as base64 of little-endian uint16."""
    assert values is not None
    return base64.b64encode(np.ascontiguousarray(values, dtype="<u2").tobytes()).decode("ascii")


def shares(values: np.ndarray | None) -> str:
    """Encode shares 0 to 1 as base64 of little-endian uint16, scaled to 0..65535."""
    assert values is not None
    return numbers(np.rint(np.clip(values, 0, 1) * 65535))


def webp(pixels: np.ndarray, quality: int) -> str:
    """Encode an image uint8 [h, w, 3] as a data: URL of a WebP."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def sheets(images: np.ndarray) -> dict[str, Any]:
    """Arrange thumbnails uint8 [M, 3, h, w] in sprite sheets; returns the sheets and their layout."""
    _, _, height, width = images.shape
    columns = max(1, SHEET_PIXELS // width)
    rows = max(1, SHEET_PIXELS // height)
    columns = min(columns, max(1, int(np.ceil(np.sqrt(len(images) * height / width)))))
    encoded = []
    for start in range(0, len(images), rows * columns):
        part = images[start : start + rows * columns]
        lines = -(-len(part) // columns)
        sheet = np.zeros((lines * columns, 3, height, width), np.uint8)
        sheet[: len(part)] = part
        pixels = sheet.reshape(lines, columns, 3, height, width).transpose(0, 3, 1, 4, 2)
        small = max(height, width) <= 40
        encoded.append(webp(pixels.reshape(lines * height, columns * width, 3), CLEAR if small else FINE))
    return {"sheets": encoded, "tile": [height, width], "columns": columns, "perSheet": rows * columns}


def items(name: str, files: RunFiles, samples: Thumbnails, mistakes: Thumbnails | None) -> Html:
    """The JSON block of the thumbnails: first the sample images, then the misclassified images that are not samples."""
    predictions = files.predictions if samples is files.samples else None
    images, rows = samples.images, samples.rows
    if predictions is not None and not has_rows(predictions, rows).all():
        predictions = None  # the files are from different runs
    if predictions is not None:
        images, rows = with_mistakes(samples, mistakes, len(predictions.names))
    known = facts_of(predictions, rows) if predictions else {"predicted": None, "confidence": None}
    if predictions is None:
        labels = samples.labels if samples.labels is not None else np.zeros(len(rows), np.int64)
        known |= {"truth": numbers(labels), "names": [f"image {row + 1}" for row in rows.tolist()]}
    return items_block(name, files.classes, images, known)


def with_mistakes(samples: Thumbnails, mistakes: Thumbnails | None, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(thumbnails, rows) of the sample images, then of the mistakes that are not samples and have a row below `count`.

    Mistakes of another size than the samples are left out, because all tiles of a sprite sheet have one size.
    """
    images, rows = samples.images, samples.rows
    if mistakes is None or mistakes.images.shape[1:] != images.shape[1:]:
        return images, rows
    fresh = ~np.isin(mistakes.rows, rows) & (mistakes.rows >= 0) & (mistakes.rows < count)
    return np.concatenate([images, mistakes.images[fresh]]), np.concatenate([rows, mistakes.rows[fresh]])


def items_block(name: str, classes: Sequence[str], images: np.ndarray, facts: dict[str, Any]) -> Html:
    """The JSON block of thumbnails uint8 [M, 3, h, w]. facts: the other fields of `Items` in web/src/data.ts."""
    names = [printable(each) for each in classes]
    return block(name, {"classes": names, "colors": class_colors(len(names)), **facts, **sheets(images)})


def has_rows(predictions: Predictions, rows: np.ndarray) -> np.ndarray:
    """Whether each index in `rows` [M] is a row of the predictions, bool [M]."""
    return (rows >= 0) & (rows < len(predictions.names))


def facts_of(predictions: Predictions, rows: np.ndarray) -> dict[str, Any]:
    """Names, true classes, predicted classes and confidence of rows [M] of predictions/val.csv."""
    return {
        "names": [printable(predictions.names[row]) for row in rows.tolist()],
        "truth": numbers(predictions.truth[rows]),
        "predicted": numbers(predictions.predicted[rows]),
        "confidence": shares(predictions.confidence[rows]),
    }


def map_block(name: str, maps: Sequence[EpochMap], snapshots: Sequence[Snapshot], classes: int) -> Html:
    """The JSON block of the maps of all epochs, with the predictions at each epoch if they were stored.

    The maps of all epochs have the same square axes.
    """
    scaled = {kind: squared([getattr(one, kind) for one in maps]) for kind in kinds(maps)}
    epochs = [
        {
            "epoch": one.epoch,
            "knn": "" if one.knn is None else f"{percent(one.knn)}%",
            "silhouette": "" if one.silhouette is None else f"{one.silhouette:.3f}",
            "explained": f"{percent(one.explained)}%",
        }
        for one in maps
    ]
    by_epoch = {one.epoch: one for one in snapshots}
    shown = [by_epoch[one.epoch] for one in maps]
    usable = all(one.predictions is not None and 0 <= one.predictions.min() <= one.predictions.max() < classes
                 for one in shown)  # fmt: skip
    with_confidence = usable and all(one.confidence is not None for one in shown)
    return block(
        name,
        {
            "count": len(maps[0].pca),
            "epochs": epochs,
            "kinds": {kind: [numbers(points) for points in every] for kind, every in scaled.items()},
            "predicted": [numbers(one.predictions) for one in shown] if usable else None,
            "confidence": [shares(one.confidence) for one in shown] if with_confidence else None,
        },
    )


def squared(points: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Scale the points [N, 2] of all epochs to 0..65535 within a common square; returns flat arrays [2 N]."""
    every = np.concatenate(points)
    low, high = every.min(0), every.max(0)
    side = max(float((high - low).max()), 1e-12)
    corner = (low + high) / 2 - side / 2
    return [np.rint(np.clip((one - corner) / side, 0, 1) * 65535).astype(np.uint16).ravel() for one in points]


def confusion_block(name: str, findings: Findings, classes: Sequence[str]) -> Html | None:
    """The JSON block of the confusion matrix; None above 200 classes.

    The classes are listed in three orders: similar classes adjacent, by name, by ascending recall.
    """
    summary = findings.summary
    if summary is None or len(classes) > 200:
        return None
    orders = {
        "similar": class_order(summary.confusion).tolist(),
        "name": sorted(range(len(classes)), key=lambda index: classes[index]),
        "worst": np.argsort(summary.classes.recall, kind="stable").tolist(),
    }
    return block(name, {"orders": orders, "counts": summary.confusion.tolist()})


def curves_block(name: str, past: History, metrics: Sequence[MetricCurve]) -> Html | None:
    """The JSON block of the curves of a run; None before its first epoch. The axis of a percentage ends at 100."""
    train, evaluation = (past.train, "train"), (past.evaluation, "validation")
    losses = [curve(*train, "loss", "training"), curve(*evaluation, "loss", "validation")]
    panels: list[tuple[str, str, int, Any, list[Any]]] = [("loss", "Loss", 3, None, losses)]
    for one in (*metrics, *TRAINING_CURVES):
        lines = [curve(*(train if one.records == "train" else evaluation), one.field, one.label, one.factor)]
        if one.second:
            lines.append(curve(past.evaluation, "other", *one.second, one.factor))
        panels.append((one.name, one.heading, one.digits, 100 if one.factor == 100 else None, lines))
    drawn = [
        {"name": own, "title": title, "digits": digits, "top": top, "lines": kept, "marks": marks(past)}
        for own, title, digits, top, lines in panels
        if (kept := [line for line in lines if line])
    ]
    return block(name, drawn) if drawn else None


def curve(columns: Columns, kind: str, field: str, label: str, factor: float = 1.0) -> dict[str, Any] | None:
    """The data of one line in a plot of the page's script; None if there are no values.

    columns: records of the run. kind: "train", "validation" or "other", which sets the line's color. field: of the
    records. label: name of the line. factor: by which values are multiplied. Of more than MOST_POINTS points, every
    k-th and the last are kept.
    """
    usable = np.flatnonzero(np.isfinite(columns[field]) & np.isfinite(columns["epoch"]))
    if not len(usable):
        return None
    step = -(-len(usable) // MOST_POINTS)
    usable = np.unique(np.append(usable[::step], usable[-1]))
    x, y = columns["epoch"][usable], factor * columns[field][usable]
    rounded = {"x": [float(f"{value:.6g}") for value in x], "y": [float(f"{value:.6g}") for value in y]}
    return {"label": label, "kind": kind, **rounded}


def marks(past: History) -> list[dict[str, Any]]:
    """Marks of the curves for the page's script: resumes, the best epoch and an early stop."""
    marked: list[dict[str, Any]] = [{"at": epoch, "kind": "resumed", "label": "resumed"} for epoch in past.resumes]
    if past.best_epoch and not past.ensemble:
        marked.append({"at": past.best_epoch, "kind": "best", "label": f"best, epoch {past.best_epoch}"})
    if past.stopped_early:
        marked.append({"at": past.last_epoch, "kind": "stopped", "label": "stopped"})
    return marked


def gray_png(mask: np.ndarray) -> str:
    """Encode a mask of class indices uint8 [h, w] as a data: URL of a gray PNG."""
    return png_uri(png_rgb(mask))


def with_live_views(still: Sequence[Child], *views: Html | None) -> Html:
    """Still figures, and the JSON blocks and elements of the interactive views that replace these figures if scripts
    run."""
    return element("div", [one for one in views if one], element("div", list(still), class_="still"))
