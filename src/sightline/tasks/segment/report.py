"""The report of a segmentation run: its findings, figures and sections."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ...data.decode.palettes import display_colors, from_dict
from ...errors import SightlineError, printable
from ...insight import figures, strips
from ...insight.curves import History, history, number
from ...insight.projection import first_middle_last
from ...report.drawing import draw_all, plan_curves
from ...report.extent import of, sentence, split_size
from ...report.html import Child, Html, element, missing_note, table
from ...report.live import FINE, block, gray_png, live, webp, with_lives
from ...report.next_looks import Look, next_looks, of_curves
from ...report.run import RunFiles, attempt
from ...report.sections import Content, Figures, bar, curves, facts_of_the_run, figure
from ...report.words import in_words, percent, section
from ...runs.sampling import named_rows
from ...stats.segmentation import (
    class_intervals,
    class_iou,
    class_numbers,
    interval,
    mean_iou,
    other_definitions,
    segment_numbers,
)

STRIPS = 6
"""Validation images in the film strip."""
WORST = 8


@dataclass(frozen=True)
class MaskFindings:
    """What a run's masks say. per_image: int64 [N, K, K]; with_ignored: [K + 1, K + 1]; colors: uint8 [K, 3].

    named: the images that the strip was asked to show.
    samples: images uint8 [M, 3, h, w], truth uint8 [M, h, w], names; epochs and, for each, masks uint8 [M, h, w].
    worst: images, truth, predicted, names. pixels: counts of each class by split.
    """

    past: History
    classes: tuple[str, ...]
    colors: np.ndarray
    per_image: np.ndarray | None
    with_ignored: np.ndarray | None
    samples: dict[str, np.ndarray]
    epochs: tuple[int, ...]
    masks: tuple[np.ndarray, ...]
    worst: dict[str, np.ndarray]
    pixels: dict[str, np.ndarray]
    named: tuple[str, ...]
    missing: tuple[str, ...]


def find_masks(files: RunFiles) -> MaskFindings:
    """The findings of a segmentation run; what is missing is empty, and named."""
    missing: list[str] = []
    palette = attempt("checkpoints/best/config.json", files.path, read_palette, missing, None)
    classes = palette.classes if palette else files.classes
    colors = display_colors(palette) if palette else np.zeros((len(classes), 3), np.uint8)
    confusion = attempt("predictions/val-confusion.npz", files.path, read_arrays, missing, {})
    samples = attempt("snapshots/samples.npz", files.path, read_arrays, missing, {})
    kept = sorted((files.path / "snapshots").glob("epoch-*/masks.npz"))
    masks = {}
    for epoch in [int(path.parent.name.removeprefix("epoch-")) for path in kept]:
        arrays = attempt(f"snapshots/epoch-{epoch:05d}/masks.npz", files.path, read_arrays, missing, {})
        if "masks" in arrays:
            masks[epoch] = arrays["masks"]
    counts = section(files.provenance, "pixels")
    named = section(files.recipe, "report").get("samples")
    return MaskFindings(
        past=history(files.records),
        classes=classes,
        colors=colors,
        per_image=confusion.get("confusion"),
        with_ignored=confusion.get("with_ignored"),
        samples=samples,
        epochs=tuple(masks),
        masks=tuple(masks.values()),
        worst=attempt("snapshots/mistakes.npz", files.path, read_arrays, missing, {}),
        pixels={split: np.array(values, np.int64) for split, values in counts.items() if isinstance(values, list)},
        named=tuple(map(str, named)) if isinstance(named, list) else (),
        missing=tuple(missing),
    )


def read_palette(path: Path) -> Any:
    """The palette out of a checkpoint's config.json."""
    return from_dict(json.loads(path.read_text(encoding="utf-8"))["palette"])


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a .npz file; nothing is unpickled."""
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def plan_masks(found: MaskFindings) -> dict[str, Callable[[], Figure]]:
    """What to draw for these findings, by name."""
    todo = plan_curves(found.past)
    if found.samples and found.masks:
        todo["film-strip"] = lambda: film_strip(found)
    if found.per_image is not None:
        matrix = found.per_image.sum(0)
        edges = np.stack(class_intervals(found.per_image), axis=1)
        mean = segment_numbers(matrix)["mean_iou"]
        todo["iou"] = lambda: strips.draw_ious(class_iou(matrix), edges, found.classes, found.colors, mean)
        todo["confusion"] = lambda: figures.draw_confusion(matrix, found.classes)
    if found.worst:
        worst = {name: array[:WORST] for name, array in found.worst.items()}
        todo["worst"] = lambda: strips.draw_errors(
            worst["images"],
            worst["truth"],
            worst["predicted"],
            found.colors,
            found.classes,
            [str(name) for name in worst["names"]],
            WORST,
        )
    if {"train", "val"} <= set(found.pixels):
        counts = (found.pixels["train"], found.pixels["val"])
        todo["class-frequencies"] = lambda: strips.draw_class_frequencies(*counts, found.classes, found.colors)
    return todo


def film_strip(found: MaskFindings) -> Figure:
    """The named images, or some of the followed ones from easy to hard, with their masks at each kept epoch."""
    rows, chosen = shown_rows(found), first_middle_last(list(found.epochs))
    return strips.draw_strip(
        found.samples["images"][rows],
        found.samples["labels"][rows],
        [masks[rows] for epoch, masks in zip(found.epochs, found.masks, strict=True) if epoch in chosen],
        chosen,
        found.colors,
        found.classes,
        [str(name) for name in found.samples["names"][rows]],
    )


def shown_rows(found: MaskFindings) -> np.ndarray:
    """Rows of the samples that the strip shows."""
    return asked(found) if found.named else spread(found)


def film_block(name: str, found: MaskFindings) -> Html:
    """What the page's script needs to show the strip's images at every kept epoch."""
    rows, images = shown_rows(found), []
    for row in rows.tolist():
        truth, masks = found.samples["labels"][row], [masks[row] for masks in found.masks]
        matrices = [strips.confusion(mask, truth, len(found.classes)) for mask in masks]
        images.append(
            {
                "name": printable(str(found.samples["names"][row])),
                "image": webp(found.samples["images"][row].transpose(1, 2, 0), FINE),
                "truth": gray_png(truth),
                "masks": [gray_png(mask) for mask in masks],
                "scores": [strips.score_text(matrix) for matrix in matrices],
            }
        )
    colors = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in found.colors.tolist()]
    classes = [printable(each) for each in found.classes]
    return block(name, {"epochs": list(found.epochs), "classes": classes, "colors": colors, "images": images})


def asked(found: MaskFindings) -> np.ndarray:
    """Rows of the samples that were named in the recipe, as far as the run has kept them."""
    kept = [str(name) for name in found.samples["names"]]
    rows = []
    for name in found.named:
        with contextlib.suppress(SightlineError):  # recipe.yaml may have been edited since
            rows += named_rows(kept, [name]).tolist()
    return np.array(rows, dtype=np.int64) if rows else spread(found)


def spread(found: MaskFindings, count: int = STRIPS) -> np.ndarray:
    """Rows of the samples spread over their difficulty at the last epoch, the easiest first."""
    if found.per_image is None:
        return np.arange(min(count, len(found.samples["names"])))
    scores = np.nan_to_num(mean_iou(found.per_image[found.samples["index"]]), nan=-1.0)
    order = np.argsort(-scores, kind="stable")
    return order[np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))]


def content(files: RunFiles, watched: bool) -> Content:
    """The page of a run. watched: the run is still training."""
    found = find_masks(files)
    figures = draw_all(plan_masks(found))
    files = replace(files, missing=(*files.missing, *found.missing))
    sections = sections_of(files, found, figures)
    sections[0][1].append(next_looks(of_segmenter(found)))
    return Content(files, sections, figures, found.past, pictured_masks(files, found))


def sections_of(files: RunFiles, found: MaskFindings, drawn: Figures) -> list[tuple[str, list[Child]]]:
    """The sections of the page that are about masks, in order."""
    return [
        ("Summary", summary(files, found)),
        ("Masks over the epochs", film(drawn, found)),
        ("Curves", curves(drawn, found.past)),
        ("Class by class", by_class(drawn, found)),
        ("Worst images", worst_images(drawn, found)),
        ("What else is called mIoU", other_numbers(found)),
    ]


def summary(files: RunFiles, found: MaskFindings) -> list[Child]:
    """One sentence for somebody who reads only one, the headline, the facts."""
    past = found.past
    parts: list[Child] = [element("p", lead(files, found), class_="lead")]
    tiles: list[tuple[str, str, str]] = []
    if found.per_image is not None:
        numbers = segment_numbers(found.per_image)
        low, high = interval(found.per_image)
        edges = (
            f"95% interval {percent(low, 2)} to {percent(high, 2)}%" if np.isfinite(low) else "one image: no interval"
        )
        tiles.append(("Mean IoU", f"{percent(numbers['mean_iou'], 2)}%", edges))
        tiles.append(("Pixel accuracy", f"{percent(numbers['pixel_accuracy'], 2)}%", "of the pixels that count"))
    parts.append(facts_of_the_run(files, past, tiles))
    if found.per_image is not None:
        parts.append(
            element(
                "p",
                "Mean IoU is the mean over the classes of TP / (TP + FP + FN), each summed over all "
                f"{len(found.per_image):,} validation images; ignored pixels count nowhere. The interval is a "
                "bootstrap over these images: it does not cover the choice of the best epoch, which was made on the "
                "same images, nor what another random seed would give.",
                class_="small",
            )
        )
    return parts


def lead(files: RunFiles, found: MaskFindings) -> str:
    """What was trained on what, and what came out."""
    model = section(files.recipe, "model")
    counts = section(section(files.provenance, "data"), "counts")
    weights = str(model.get("weights") or "none")
    start = "from scratch" if weights == "none" else f"from the weights {weights}"
    what = f"{model.get('name', 'A model')}, trained {start} on {number(counts.get('train'), 0):,.0f} images"
    if found.per_image is None:
        return f"{what}, has no result yet."
    iou = class_iou(found.per_image.sum(0))
    known = [index for index in np.argsort(iou) if np.isfinite(iou[index])]
    mean = percent(segment_numbers(found.per_image)["mean_iou"])
    best, worst = found.classes[known[-1]], found.classes[known[0]]
    return (
        f"{what}, reaches a mean IoU of {mean}% over {len(known)} classes; it is best at {best} "
        f"({percent(float(iou[known[-1]]))}%) and worst at {worst} ({percent(float(iou[known[0]]))}%)."
    )


def film(drawn: Figures, found: MaskFindings) -> list[Child]:
    """The film strip."""
    if "film-strip" not in drawn:
        return [missing_note("No masks were kept: report.samples is 0, or no epoch has ended.")]
    order = " from the easiest to the hardest of those that were followed" if found.per_image is not None else ""
    chosen = "The images that were asked for" if found.named else f"Validation images{order}"
    says = (
        f"{chosen}, with the truth and the predicted masks after {in_words(found.epochs)}. Gray pixels count nowhere."
    )
    still = [figure(drawn, "film-strip", says, says, wide=True)]
    return [with_lives(still, film_block("film-data", found), live("film", "film-data"))]


def by_class(drawn: Figures, found: MaskFindings) -> list[Child]:
    """The table of classes with intervals, the confusion matrix, how frequent the classes are."""
    if found.per_image is None:
        return [missing_note("There is no predictions/val-confusion.npz; it is written when training ends.")]
    numbers = class_numbers(found.per_image)
    low, high = class_intervals(found.per_image)
    rows: list[list[Child]] = []
    for index in np.argsort(np.nan_to_num(numbers.iou, nan=2.0), kind="stable"):
        present = np.isfinite(numbers.iou[index])
        edges = f"{percent(float(low[index]))} to {percent(float(high[index]))}" if np.isfinite(low[index]) else ""
        shares = [percent(float(v[index])) if np.isfinite(v[index]) else "" for v in numbers[:3]]
        rows.append(
            [
                found.classes[index],
                bar(float(numbers.iou[index])) if present else None,
                shares[0] or "does not occur",
                edges,
                *shares[1:],
                f"{int(numbers.support[index]):,}",
            ]
        )
    head = ["Class", "", "IoU, %", "95% interval", "Precision, %", "Recall, %", "Pixels"]
    says = "Rows are the truth, columns the prediction, in pixels."
    frequent = "Share of the pixels of each class in the training and validation images."
    return [
        table(head, rows, "Class by class", numeric=2, sortable=True),
        figure(drawn, "iou", "IoU of each class with its 95% interval"),
        element("h3", "Confusion matrix"),
        figure(drawn, "confusion", "Confusion matrix of the pixels", says, wide=True),
        element("h3", "How frequent the classes are") if "class-frequencies" in drawn else None,
        figure(drawn, "class-frequencies", frequent, frequent),
    ]


def worst_images(drawn: Figures, found: MaskFindings) -> list[Child]:
    """The images with the lowest mean IoU and where they are wrong."""
    if "worst" not in drawn:
        return [missing_note("There is no snapshots/mistakes.npz; it is written when training ends.")]
    says = "The validation images with most wrong pixels: image, truth, prediction, and where the two differ."
    return [figure(drawn, "worst", says, f"{says} Look here first for wrong masks.", wide=True)]


def other_numbers(found: MaskFindings) -> list[Child]:
    """The numbers that other tools print under the same name, side by side."""
    if found.per_image is None:
        return [missing_note("There are no predictions yet.")]
    own = percent(segment_numbers(found.per_image)["mean_iou"], 2)
    headline = "mean over the classes of TP / (TP + FP + FN), each summed over the whole set"
    rows: list[list[Child]] = [["mean_iou, the headline", own, headline]]
    for name, definition in other_definitions(found.per_image, found.with_ignored).items():
        value = percent(float(definition.value), 2) if np.isfinite(definition.value) else "none"
        parts = name.split("_")
        breakable = [[part, "_", element("wbr")] for part in parts[:-1]]
        rows.append([[breakable, parts[-1]], value, definition.meaning])
    note = "The same masks give all of these numbers. Compare results only by the same one."
    head = ["Name", "%", "What it is, and who prints it"]
    return [element("p", note), table(head, rows, "What is called mIoU", numeric=range(1, 2))]


def of_segmenter(found: MaskFindings) -> list[Look]:
    """The weakest class, and what the curves say."""
    looks: list[Look] = []
    if found.per_image is not None:
        iou = class_iou(found.per_image.sum(0))
        if np.isfinite(iou).any():
            weakest = int(np.nanargmin(iou))
            looks.append((f"{found.classes[weakest]}: its IoU of {percent(float(iou[weakest]))}% is the lowest",
                          "class-by-class"))  # fmt: skip
    if found.worst:
        looks.append(("The worst images: are their masks right?", "worst-images"))
    return looks + of_curves(found.past)


def pictured_masks(files: RunFiles, found: MaskFindings) -> str:
    """The same of a segmenter's page."""
    parts = []
    total = len(found.per_image) if found.per_image is not None else split_size(files, "val")
    if found.samples and found.masks:
        parts.append(f"{of(len(shown_rows(found)), total)} validation images over the epochs")
    if found.worst:
        parts.append(f"{of(min(WORST, len(found.worst['names'])), total)} with the most wrong pixels")
    return sentence(parts)
