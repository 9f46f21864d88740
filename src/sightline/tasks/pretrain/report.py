"""The report of a pre-training run: whether images stay apart, what the features are worth, their maps."""

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure

from ...insight import curves as draw
from ...insight.curves import number
from ...report import alt
from ...report.drawing import draw_all, plan
from ...report.extent import pictured
from ...report.findings import Findings, find
from ...report.groups import with_groups
from ...report.html import Child, element
from ...report.maps import maps, pictures
from ...report.run import RunFiles, with_samples
from ...report.sections import Content, Figures, curves, facts_of_the_run, figure
from ...report.words import percent, section
from .collapse import collapse

METHODS = {"byol": "BYOL", "simsiam": "SimSiam", "moco": "MoCo v3"}
LOSS = (
    "The loss alone says little here: what has to be predicted moves too, and a network that gives the same answer for "
    "every image has the lowest loss of all. What tells is whether images stay apart, and what their neighbors are."
)
COLLAPSE = (
    ("curve-feature-std", "feature_std", "Spread of the projections, 0 to 1"),
    ("curve-effective-rank", "effective_rank", "Effective rank of the features"),
)
SPREAD = (
    "Spread: how far apart the projections of the evaluated images point; 0 is one and the same for all, a collapse. "
    "Effective rank: in how many directions the backbone's features vary, weighed by how much."
)


def plan_pretraining(found: Findings, classes: tuple[str, ...]) -> dict[str, Callable[[], Figure]]:
    """What to draw for these findings, by name."""
    todo, past = plan(found, classes), found.past
    if np.isfinite(past.evaluation["knn_accuracy"]).any():
        todo["curve-knn-accuracy"] = lambda: draw.draw_metric(past, "knn_accuracy", "k-NN accuracy, %")
    for name, field, title in COLLAPSE:
        if np.isfinite(past.evaluation[field]).any():
            todo[name] = lambda f=field, t=title: draw.draw_watched(past, f, t)
    return todo


def content(files: RunFiles, watched: bool) -> Content:
    """The page of a run. watched: the run is still training, and its page leaves out t-SNE, which takes seconds."""
    files = with_groups(with_samples(files))
    found = find(files, neighbors=not watched)
    figures = draw_all(plan_pretraining(found, files.classes))
    return Content(files, sections_of(files, found, figures), figures, found.past, pictured(files, found, "evaluated"))


def sections_of(files: RunFiles, found: Findings, figures: Figures) -> list[tuple[str, list[Child]]]:
    """The sections of the page, in order."""
    return [
        ("Summary", [*summary(files, found), pictures(files)]),
        ("What it has learned", maps(files, figures, found)),
        ("Curves", curves(figures, found.past, f"{LOSS} {SPREAD}", collapse_curves(figures, found))),
    ]


def latest(found: Findings) -> dict[str, float]:
    """The numbers of the last evaluation, those that it has."""
    columns = {name: values[-1] for name, values in found.past.evaluation.items() if len(values)}
    return {name: float(value) for name, value in columns.items() if np.isfinite(value)}


def summary(files: RunFiles, found: Findings) -> list[Child]:
    """One sentence for somebody who reads only one, the alarm if there is one, the facts."""
    numbers = latest(found)
    parts: list[Child] = [element("p", lead(files, numbers), class_="lead")]
    alarm = collapse(numbers) if {"feature_std", "effective_rank"} <= numbers.keys() else ""
    if alarm:
        parts.append(element("aside", element("p", f"{alarm[0].upper()}{alarm[1:]}."), class_="notice"))
    tiles: list[tuple[str, str, str]] = []
    if "knn_accuracy" in numbers:
        ends = [record for record in files.records if record.get("event") == "done"]
        edges = ends[-1].get("knn_accuracy_interval") if ends else None
        note = "of the evaluated images"
        if isinstance(edges, list) and len(edges) == 2:
            note = f"95% interval {percent(number(edges[0]), 2)} to {percent(number(edges[1]), 2)}%"
        tiles.append(("k-NN accuracy", f"{percent(numbers['knn_accuracy'], 2)}%", note))
    if "feature_std" in numbers:
        tiles.append(("Spread", f"{numbers['feature_std']:.3f}", "of the projections; 0 is a collapse, 1 the most"))
    if "effective_rank" in numbers:
        tiles.append(("Effective rank", f"{numbers['effective_rank']:.1f}", "of the backbone's features"))
    parts.append(facts_of_the_run(files, found.past, tiles))
    return parts


def lead(files: RunFiles, numbers: dict[str, float]) -> str:
    """What was trained on what, and what came out."""
    model, data = section(files.recipe, "model"), section(files.provenance, "data")
    method = METHODS.get(str(section(files.recipe, "pretrain").get("method")), "")
    images = number(section(data, "counts").get("train"), 0)
    what = f"{model.get('name', 'A network')}, pre-trained by {method or 'self-supervision'} on {images:,.0f} images"
    what += " without looking at a label"
    if not numbers:
        return f"{what}, has no result yet."
    if "knn_accuracy" not in numbers:
        return f"{what}: what it is worth shows when it is trained further on labels (--model.weights)."
    return (
        f"{what}: a vote of the nearest neighbors among its features puts {percent(numbers['knn_accuracy'])}% of the "
        "evaluated images in the right class."
    )


def collapse_curves(figures: Figures, found: Findings) -> list[Child]:
    """The curves of the evaluations that say whether images stay apart."""
    past = found.past
    return [
        figure(figures, name, alt.watched(past, field, title))
        for name, field, title in COLLAPSE
        if np.isfinite(past.evaluation[field]).any()
    ]
