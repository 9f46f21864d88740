"""The report of a pre-training run: k-NN accuracy, collapse of the features, and feature maps over the epochs."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from ...insight.curves import MetricCurve, number
from ...insight.neighbors import NEIGHBORS, agreement, draw_neighbors, nearest, queries
from ...insight.projection import first_middle_last, why_no_map
from ...report.drawing import Plan, draw_all, plan
from ...report.findings import Findings, compute_findings, with_clusters
from ...report.formatting import epochs_text, percent, section
from ...report.html import Child, element, missing_note
from ...report.maps import maps, thumbnails
from ...report.run import RunFiles, with_samples
from ...report.sections import (
    Content,
    baselines_line,
    curves,
    displayed_images,
    fact_cards,
    figure,
    interval_text,
)
from ..contract import Metric
from .collapse import collapse
from .compare import COLLAPSE

LOSS = (
    "The loss alone is not informative: its targets change during training, and with BYOL or SimSiam a collapsed "
    "network, whose output is the same for every image, has the lowest loss. Look at the spread of the features and at "
    "their neighbors."
)
SPREAD = (
    "Spread: how much the directions of the evaluated images' projections differ; 0 is a collapse. Effective rank: the "
    "number of directions in which the backbone's features vary, weighted by their variance. Alignment: mean squared "
    "distance of the features of two views of an image, scaled to length 1. Uniformity: how evenly the features of "
    "different images are spread, the lower the more evenly; features that collapse have an alignment and a uniformity "
    "near 0. The loss and the alignment are of the first 500 evaluated images."
)
NEAREST = (
    "The evaluated images whose features are most similar (cosine) to those of the image on the left, among the images "
    "of the maps."
)
FRAMES = (
    " A blue frame is the same class, an orange one another. The images on the left illustrate the features; "
    "the k-NN accuracy measures them."
)
LEARNED = (
    MetricCurve("linear_accuracy", "Accuracy of a logistic regression", small=True, label="evaluated images"),
    MetricCurve("alignment", "Alignment of two views", False, True, 3, "evaluated images"),
    MetricCurve("uniformity", "Uniformity of the features", False, True, 2, "evaluated images"),
)
"""Curves of further measures of the features; runs of earlier versions have none of them."""


def content(files: RunFiles, metrics: Mapping[str, Metric], watched: bool) -> Content:
    """Sections and figures of a run's page.

    metrics: the task's metrics by key. watched: whether the run is still training; t-SNE is then left out, because it
    is slow.
    """
    files = with_clusters(with_samples(files))
    findings = compute_findings(files, neighbors=not watched)
    curve = MetricCurve("knn_accuracy", metrics["knn_accuracy"].title, label="evaluated images")
    shown = (curve, *LEARNED, *COLLAPSE)
    neighbors, draw = neighbors_figure(files)
    caption = NEAREST if files.clustered else NEAREST + FRAMES
    figures = draw_all(plan(findings, files.classes, shown) | draw)
    sections: list[tuple[str, list[Child]]] = [
        ("Summary", [*summary(files, findings), thumbnails(files)]),
        ("Features over the epochs", maps(files, figures, findings)),
        (
            "Nearest neighbors",
            [figure(figures, "neighbors", neighbors, caption, wide=True) if draw else missing_note(neighbors)],
        ),
        ("Curves", curves(figures, findings.past, shown, f"{LOSS} {SPREAD}")),
    ]
    return Content(files, sections, figures, findings.past, displayed_images(files, findings, "evaluated"))


def neighbors_figure(files: RunFiles) -> tuple[str, Plan]:
    """(alternative text, function that draws the nearest neighbors of some images at the first, middle and last epoch).

    If there is nothing to draw: (the reason, {}).
    """
    if not files.snapshots:
        return "No neighbors: no epoch has stored features yet.", {}
    samples, stored = files.samples, [one for one in files.snapshots if not why_no_map(one.features)]
    if samples is None or any(len(one.features) != len(samples.rows) for one in stored):
        return "No neighbors: the images whose features were stored are missing.", {}
    chosen = first_middle_last([one.epoch for one in stored])
    stored = [one for one in stored if one.epoch in chosen]
    if not stored:
        return "No neighbors: no epoch has features that differ between images.", {}
    labels = None if files.clustered else samples.labels
    rows = queries(labels, len(samples.rows))
    found = [nearest(one.features, rows) for one in stored]
    epochs = [one.epoch for one in stored]
    text = f"The {NEIGHBORS} nearest neighbors of {len(rows)} images after {epochs_text(epochs)}"
    if labels is not None:
        shares = (f"{percent(agreement(each, rows, labels), 0)}%" for each in found)
        text += f"; of the class of their image are {', '.join(shares)}"
    return text, {"neighbors": partial(draw_neighbors, samples.images, rows, found, epochs, labels)}


def latest(findings: Findings, done: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of the last evaluation by name; values that are not finite are left out.

    done: the record of the end of the run, or {}. Its metrics are of the weights as they are stored, in float32, and
    replace those of the last epoch, which may be of bfloat16.
    """
    columns = {name: values[-1] for name, values in findings.past.evaluation.items() if len(values)}
    columns |= {name: done[name] for name in columns if name in done}
    return {name: float(value) for name, value in columns.items() if np.isfinite(value)}


def summary(files: RunFiles, findings: Findings) -> list[Child]:
    """The lead sentence, a warning if the features have collapsed, and the facts of the run."""
    done = files.end if findings.past.finished else {}  # not of a run that is trained further
    numbers = latest(findings, done)
    parts: list[Child] = [element("p", lead(files, numbers), class_="lead")]
    warning = collapse(numbers) if {"feature_std", "effective_rank"} <= numbers.keys() else ""
    warnings = [f"{warning[0].upper()}{warning[1:]}."] if warning else no_better_than_pixels(numbers, done, files)
    if warnings:
        parts.append(element("aside", element("p", warnings), class_="notice"))
    facts: list[tuple[str, str, str]] = []
    for name, title in (("knn_accuracy", "k-NN accuracy"), ("linear_accuracy", "Logistic regression")):
        if name not in numbers:
            continue
        edges, note = done.get(f"{name}_interval"), "of the evaluated images"
        if isinstance(edges, list) and len(edges) == 2:
            note = interval_text([number(edge) for edge in edges], 2)
        facts.append((title, f"{percent(numbers[name], 2)}%", note))
    if "feature_std" in numbers:
        facts.append(("Spread", f"{numbers['feature_std']:.3f}", "of the projections; 0 to 1, 0 is a collapse"))
    if "effective_rank" in numbers:
        facts.append(("Effective rank", f"{numbers['effective_rank']:.1f}", "of the backbone's features"))
    parts += [fact_cards(files, findings.past, facts), baselines_line(files)]
    return parts


def no_better_than_pixels(numbers: Mapping[str, float], done: Mapping[str, Any], files: RunFiles) -> list[Child]:
    """A warning if k-NN is right no more often on the features than on raw pixels, else []. Features can be so without
    having collapsed: SimSiam without its predictor's rate had an effective rank of 16, see docs/pretrain.md."""
    found = done.get("baselines")
    pixels = number(found.get("knn_raw_pixels")) if isinstance(found, dict) else np.nan
    if not numbers.get("knn_accuracy", np.inf) <= pixels:
        return []
    advice: list[Child] = [
        f"From raw pixels k-NN classifies {percent(pixels)}% of these images correctly, and no more from the features: "
        "train longer",
    ]
    method = section(files.recipe, "pretrain").get("method")
    if method in ("byol", "simsiam"):
        rate = element("code", "--pretrain.predictor_rate 100", class_="option")
        advice += [", with a faster predictor (", rate, ")"]
    if method != "moco":
        advice += [", or try another objective (", element("code", "--pretrain.method moco", class_="option"), ")"]
    return [*advice, "."]


def lead(files: RunFiles, numbers: dict[str, float]) -> str:
    """A sentence on the model, its data and its result."""
    model, data = section(files.recipe, "model"), section(files.provenance, "data")
    chosen = section(files.recipe, "pretrain")
    method = str(files.provenance.get("method") or chosen.get("method") or "")
    method = "MoCo v3" if chosen.get("contrast") == 1 else method  # a recipe of an earlier version
    images = number(section(data, "counts").get("train"), 0)
    what = (
        f"{model.get('name', 'A network')}, pre-trained by {method or 'self-supervision'} on {images:,.0f} images"
        " without labels"
    )
    if not numbers:
        return f"{what}, has no result yet."
    if "knn_accuracy" not in numbers:
        return f"{what}; to evaluate its features, fine-tune it on labeled images (--model.weights)."
    return f"{what}: k-NN on its features classifies {percent(numbers['knn_accuracy'])}% of the images correctly."
