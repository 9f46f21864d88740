"""The report of a segmenter: reads the run's files, computes the numbers, and builds figures and sections."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ...data.decode.palettes import display_colors, from_dict
from ...errors import SightlineError, printable, some_of
from ...insight import figures, mask_figures
from ...insight.curves import History, MetricCurve, history, number
from ...insight.projection import first_middle_last
from ...insight.style import PALETTE, class_colors
from ...report import sections
from ...report.drawing import Plan, draw_all, plan_curves
from ...report.formatting import epochs_text, percent, section
from ...report.html import Child, Html, element, missing_note, table
from ...report.live import FINE, block, gray_png, live, webp, with_live_views
from ...report.run import RunFiles, attempt, read_arrays
from ...runs.sampling import evenly_spread, rows_by_name
from ...stats import segmentation as measures
from ...stats.groups import Groups, ids_in, read_groups
from ...stats.units import FEWEST
from ..contract import Metric

STRIPS = 6
"""Number of validation images whose masks are shown over the epochs."""
WORST = 8
"""Number of images shown of those with the largest share of wrong pixels."""


@dataclass(frozen=True)
class MaskFindings:
    """The data of a segmenter's report; None or empty where the run has none.

    per_image: confusion matrices of the validation images, int64 [N, K, K]; rows: true class, columns: predicted class.
    with_ignored: their sum over the split, with ignored pixels as one more class, int64 [K + 1, K + 1]. groups: of the
    validation images, or None. colors: uint8 [K, 3], of the classes. samples: arrays of the M sample images: "images"
    uint8 [M, 3, h, w], "labels" (true masks) uint8 [M, h, w], "names", "index". epochs: those with stored masks. masks:
    for each of these epochs the predicted masks uint8 [M, h, w]. worst: arrays "images", "truth", "predicted", "names"
    of the images with the most errors. pixels: for each split the number of pixels of each class. named: image names in
    report.samples. missing: notes on missing files.
    """

    past: History
    classes: tuple[str, ...]
    colors: np.ndarray
    per_image: np.ndarray | None
    with_ignored: np.ndarray | None
    groups: Groups | None
    samples: dict[str, np.ndarray]
    epochs: tuple[int, ...]
    masks: tuple[np.ndarray, ...]
    worst: dict[str, np.ndarray]
    pixels: dict[str, np.ndarray]
    named: tuple[str, ...]
    missing: tuple[str, ...]


def find_masks(files: RunFiles) -> MaskFindings:
    """Read the data of a segmenter's report from the files of its run."""
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
        groups=read_groups(files.path, [str(name) for name in confusion.get("names", [])]),
        samples=samples,
        epochs=tuple(masks),
        masks=tuple(masks.values()),
        worst=attempt("snapshots/mistakes.npz", files.path, read_arrays, missing, {}),
        pixels={split: np.array(values, np.int64) for split, values in counts.items() if isinstance(values, list)},
        named=tuple(map(str, named)) if isinstance(named, list) else (),
        missing=tuple(missing),
    )


def read_palette(path: Path) -> Any:
    """Read the palette in a checkpoint's config.json."""
    return from_dict(json.loads(path.read_text(encoding="utf-8"))["palette"])


def plan_masks(findings: MaskFindings, curve: MetricCurve) -> Plan:
    """Plan the figures of the report; returns functions that draw them, by file name without extension."""
    todo = plan_curves(findings.past, [curve])
    if findings.samples and findings.masks:
        todo["film-strip"] = lambda: film_strip(findings)
    if findings.per_image is not None:
        matrix = findings.per_image.sum(0)
        edges = np.stack(measures.class_intervals(findings.per_image, ids_in(findings.groups)), axis=1)
        mean = measures.segment_numbers(matrix)["mean_iou"]
        todo["iou"] = lambda: mask_figures.draw_ious(
            measures.class_iou(matrix), edges, findings.classes, findings.colors, mean
        )
        todo["confusion"] = lambda: figures.draw_confusion(matrix, findings.classes)
    if findings.worst:
        worst = [findings.worst[name][:WORST] for name in ("images", "truth", "predicted")]
        names = [str(name) for name in findings.worst["names"][:WORST]]
        todo["worst"] = lambda: mask_figures.draw_errors(*worst, findings.colors, findings.classes, names, WORST)
    if {"train", "val"} <= set(findings.pixels):
        counts = (findings.pixels["train"], findings.pixels["val"])
        todo["class-frequencies"] = lambda: mask_figures.draw_class_frequencies(
            *counts, findings.classes, findings.colors
        )
    return todo


def film_strip(findings: MaskFindings) -> Figure:
    """Draw sample images with their true masks and their predicted masks at the first, middle and last stored epoch."""
    rows, chosen = shown_rows(findings), first_middle_last(list(findings.epochs))
    return mask_figures.draw_masks_over_epochs(
        findings.samples["images"][rows],
        findings.samples["labels"][rows],
        [masks[rows] for epoch, masks in zip(findings.epochs, findings.masks, strict=True) if epoch in chosen],
        chosen,
        findings.colors,
        findings.classes,
        [str(name) for name in findings.samples["names"][rows]],
    )


def shown_rows(findings: MaskFindings) -> np.ndarray:
    """Indices of the sample images shown over the epochs: those named in the recipe, or else a selection from high
    to low mean IoU."""
    kept = [str(name) for name in findings.samples["names"]]
    rows = []
    for name in findings.named:
        with contextlib.suppress(SightlineError):  # recipe.yaml was edited after training
            rows += rows_by_name(kept, [name]).tolist()
    return np.array(rows, dtype=np.int64) if rows else spread(findings)


def film_block(name: str, findings: MaskFindings) -> Html:
    """The JSON block with which the page's script shows the sample images at every stored epoch. name: the id of its
    element."""
    rows, images = shown_rows(findings), []
    for row in rows.tolist():
        truth, masks = findings.samples["labels"][row], [masks[row] for masks in findings.masks]
        matrices = [measures.confusion(mask, truth, len(findings.classes)) for mask in masks]
        images.append(
            {
                "name": printable(str(findings.samples["names"][row])),
                "image": webp(findings.samples["images"][row].transpose(1, 2, 0), FINE),
                "truth": gray_png(truth),
                "masks": [gray_png(mask) for mask in masks],
                "scores": [mask_figures.score_text(matrix) for matrix in matrices],
            }
        )
    colors = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in findings.colors.tolist()]
    classes = [printable(each) for each in findings.classes]
    distinct = class_colors(len(classes)) if len(classes) <= len(PALETTE) else []
    shown = {"classes": classes, "colors": colors, "distinct": distinct, "images": images}
    return block(name, {"epochs": list(findings.epochs), **shown})


def spread(findings: MaskFindings, count: int = STRIPS) -> np.ndarray:
    """Indices of `count` sample images at evenly spaced ranks of their mean IoU, the highest first."""
    if findings.per_image is None:
        return np.arange(min(count, len(findings.samples["names"])))
    scores = np.nan_to_num(measures.mean_iou(findings.per_image[findings.samples["index"]]), nan=-1.0)
    order = np.argsort(-scores, kind="stable")
    return order[evenly_spread(len(order), count)]


def content(files: RunFiles, metrics: Mapping[str, Metric], watched: bool) -> sections.Content:
    """Sections and figures of a run's page. metrics: the task's metrics by key. watched: whether the run is still
    training."""
    findings = find_masks(files)
    curve = MetricCurve("mean_iou", metrics["mean_iou"].title)
    drawn = draw_all(plan_masks(findings, curve))
    files = replace(files, missing=(*files.missing, *findings.missing))
    titled: list[tuple[str, list[Child]]] = [
        ("Summary", [*summary(files, findings), sections.hints_list(segmenter_hints(findings))]),
        ("Masks over the epochs", film(drawn, findings)),
        ("Curves", sections.curves(drawn, findings.past, [curve])),
        ("Class by class", by_class(drawn, findings)),
        ("Worst images", worst_images(drawn, findings)),
        ("Other definitions of mIoU", other_definitions(findings)),
    ]
    return sections.Content(files, titled, drawn, findings.past, masks_shown(files, findings))


def summary(files: RunFiles, findings: MaskFindings) -> list[Child]:
    """Section: a sentence on the run, and cards with mean IoU, its interval, pixel accuracy, time and device."""
    past = findings.past
    parts: list[Child] = [element("p", lead(files, findings), class_="lead")]
    facts: list[tuple[str, str, str]] = []
    if findings.per_image is not None:
        numbers = measures.segment_numbers(findings.per_image)
        edges = sections.interval_text(measures.interval(findings.per_image, groups=ids_in(findings.groups)), 2)
        facts.append(("Mean IoU", f"{percent(numbers['mean_iou'], 2)}%", edges))
        facts.append(("Pixel accuracy", f"{percent(numbers['pixel_accuracy'], 2)}%", "of the labeled pixels"))
    parts += [sections.fact_cards(files, past, facts), sections.baselines_line(files)]
    if findings.per_image is not None:
        note = (
            "Mean IoU is the mean over the classes of TP / (TP + FP + FN), each summed over all validation images, "
            "without ignored pixels. "
        )
        groups, count = findings.groups, len(findings.per_image)
        effective = measures.effective_images(findings.per_image, groups.ids) if groups else count
        rare = measures.rare_classes(findings.per_image, ids_in(findings.groups))
        if rare.any() and not (groups and groups.count < FEWEST):
            names = some_of([findings.classes[index] for index in np.flatnonzero(rare)])
            units = "groups of images" if groups else "images"
            note += f"No interval is given, because fewer than {FEWEST} {units} have these classes: {names}."
        else:
            note += sections.interval_note(count, groups, effective, bool(past.best_epoch))
        parts.append(element("p", note, class_="small"))
    return parts


def lead(files: RunFiles, findings: MaskFindings) -> str:
    """A sentence on the model, its data and its result."""
    model = section(files.recipe, "model")
    counts = section(section(files.provenance, "data"), "counts")
    weights = str(model.get("weights") or "none")
    start = "from scratch" if weights == "none" else f"from the weights {weights}"
    what = f"{model.get('name', 'A model')}, trained {start} on {number(counts.get('train'), 0):,.0f} images"
    if findings.per_image is None:
        return f"{what}, has no result yet."
    iou = measures.class_iou(findings.per_image.sum(0))
    known = [index for index in np.argsort(iou) if np.isfinite(iou[index])]
    mean = percent(measures.segment_numbers(findings.per_image)["mean_iou"])
    best, worst = findings.classes[known[-1]], findings.classes[known[0]]
    return (
        f"{what}, reaches a mean IoU of {mean}% over {len(known)} classes; the highest IoU is that of "
        f"{best} ({percent(float(iou[known[-1]]))}%), the lowest that of {worst} ({percent(float(iou[known[0]]))}%)."
    )


def film(drawn: sections.Figures, findings: MaskFindings) -> list[Child]:
    """Section: sample images with their masks over the epochs."""
    if "film-strip" not in drawn:
        return [missing_note("No masks were stored: report.samples is 0, or no epoch has ended.")]
    order = " from the highest to the lowest mean IoU of the samples" if findings.per_image is not None else ""
    chosen = "The images named in report.samples" if findings.named else f"Validation images{order}"
    epochs = epochs_text(findings.epochs)
    text = f"{chosen}, with the truth and the predicted masks after {epochs}. Gray pixels are ignored."
    still = [sections.figure(drawn, "film-strip", text, text, wide=True)]
    return [with_live_views(still, film_block("film-data", findings), live("film", "film-data"))]


def by_class(drawn: sections.Figures, findings: MaskFindings) -> list[Child]:
    """Section: table of the classes with intervals, confusion matrix, and class frequencies."""
    if findings.per_image is None:
        return [missing_note("predictions/val-confusion.npz is missing; it is written when training ends.")]
    numbers = measures.class_numbers(findings.per_image)
    low, high = measures.class_intervals(findings.per_image, ids_in(findings.groups))
    rows: list[list[Child]] = []
    for index in np.argsort(np.nan_to_num(numbers.iou, nan=2.0), kind="stable"):
        present = np.isfinite(numbers.iou[index])
        edges = f"{percent(float(low[index]))} to {percent(float(high[index]))}" if np.isfinite(low[index]) else ""
        shares = [percent(float(v[index])) if np.isfinite(v[index]) else "" for v in numbers[:3]]
        row: list[Child] = [findings.classes[index], sections.bar(float(numbers.iou[index])) if present else None]
        rows.append([*row, shares[0] or "does not occur", edges, *shares[1:], f"{int(numbers.support[index]):,}"])
    head = ["Class", "", "IoU, %", "95% interval", "Precision, %", "Recall, %", "Pixels"]
    text = "Rows are the truth, columns the prediction, in pixels."
    frequent = "Share of the pixels of each class in the training and validation images."
    return [
        table(head, rows, "Class by class", numeric=2, sortable=True),
        sections.figure(drawn, "iou", "IoU of each class with its 95% interval"),
        element("h3", "Confusion matrix"),
        sections.figure(drawn, "confusion", "Confusion matrix of the pixels", text, wide=True),
        element("h3", "Class frequencies") if "class-frequencies" in drawn else None,
        sections.figure(drawn, "class-frequencies", frequent, frequent),
    ]


def worst_images(drawn: sections.Figures, findings: MaskFindings) -> list[Child]:
    """Section: the images with the largest share of wrong pixels, with these pixels marked."""
    if "worst" not in drawn:
        return [missing_note("snapshots/mistakes.npz is missing; it is written when training ends.")]
    text = "The images with the largest share of wrong pixels: image, truth, prediction, and where the two differ."
    return [sections.figure(drawn, "worst", text, f"{text} Check these images first for wrong masks.", wide=True)]


def other_definitions(findings: MaskFindings) -> list[Child]:
    """Section: a table of definitions of mIoU that other tools use, with their values for this run."""
    if findings.per_image is None:
        return [missing_note("There are no predictions yet.")]
    own = percent(measures.segment_numbers(findings.per_image)["mean_iou"], 2)
    headline = "mean over the classes of TP / (TP + FP + FN), each summed over the data set"
    rows: list[list[Child]] = [["mean_iou (this report)", own, headline]]
    for name, definition in measures.other_definitions(findings.per_image, findings.with_ignored).items():
        value = percent(float(definition.value), 2) if np.isfinite(definition.value) else "none"
        parts = name.split("_")
        breakable = [[part, "_", element("wbr")] for part in parts[:-1]]
        rows.append([[breakable, parts[-1]], value, definition.meaning])
    note = "All values are of the same masks. Compare results of the same definition only."
    if findings.with_ignored is None:
        note += (
            " mean_iou_with_ignored and mean_iou_course are missing, because predictions/val-confusion.npz has no "
            "predictions on ignored pixels."
        )
    head = ["Name", "%", "Definition, and tools that print it"]
    return [element("p", note), table(head, rows, "Definitions of mIoU", numeric=range(1, 2))]


def segmenter_hints(findings: MaskFindings) -> list[sections.Hint]:
    """Hints on the class with the lowest IoU, the worst images, and the training curves."""
    hints: list[sections.Hint] = []
    if findings.per_image is not None:
        iou = measures.class_iou(findings.per_image.sum(0))
        if np.isfinite(iou).any():
            weakest = int(np.nanargmin(iou))
            text = f"{findings.classes[weakest]} has the lowest IoU, {percent(float(iou[weakest]))}%"
            hints.append((text, "class-by-class"))
    if findings.worst:
        hints.append(("Check the masks of the images with the largest share of wrong pixels", "worst-images"))
    return hints + sections.curve_hints(findings.past)


def masks_shown(files: RunFiles, findings: MaskFindings) -> str:
    """A sentence on the number of validation images that the page shows."""
    parts = []
    total = len(findings.per_image) if findings.per_image is not None else sections.split_size(files, "val")
    if findings.samples and findings.masks:
        parts.append(f"{sections.part_of(len(shown_rows(findings)), total)} validation images over the epochs")
    if findings.worst:
        worst = sections.part_of(min(WORST, len(findings.worst["names"])), total)
        parts.append(f"{worst} with the largest share of wrong pixels")
    return sections.displayed_sentence(parts)
