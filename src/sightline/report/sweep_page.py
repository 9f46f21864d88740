"""The page of a sweep: the best trial and what can be said of it, all trials, each setting, how it was made."""

import shlex
from typing import Any
from urllib.parse import quote

from ..errors import counted
from .grid_page import set_in_type
from .html import Child, element, missing_note, table
from .origin import command_box
from .page import layout
from .sections import Figures, figure
from .sweep import COMPARED, TITLES, Found, label
from .words import bits, duration, percent

OPTIMISTIC = (
    "The best of {trials} trials was picked on the validation images, and so were the epochs of each: its number is "
    "optimistic, for the luckiest of many is picked along with the best, and its interval does not cover that choice. "
    "No test split was looked at. If the data have one, a single look at the end gives a number that nothing was "
    "picked by."
)
PAIRED = (
    "Intervals are of the same images, by a paired bootstrap at 95%. Other seeds are in no interval: trained again "
    "with another train.seed, two trials may change places."
)


def sweep_page(found: Found, figures: Figures) -> str:
    """The whole page."""
    content: list[tuple[str, list[Child]]] = [
        ("The best trial", summary(found)),
        ("The search", search(found, figures)),
        ("Each setting", settings(found, figures)),
        ("How it was made", origin(found)),
    ]
    return layout("Sightline sweep", str(found.values.get("name")), "", content)


def value_of(found: Found, value: float | None) -> str:
    """The metric for people: shares in percent."""
    if value is None:
        return ""
    return percent(value, 2) if found.factor != 1 else f"{value:.4f}"


def titled(found: Found) -> str:
    """The metric's name within a sentence."""
    title = TITLES.get(found.metric, found.metric)
    return title if title.startswith("k-NN") else title[0].lower() + title[1:]


def shown(value: Any) -> str:
    """A setting's value in four digits."""
    return f"{value:.4g}" if isinstance(value, float) else label(value)


def sentences(found: Found) -> list[str]:
    """What there is to say: the best, and whether it can be told from the second."""
    if not found.order:
        return ["No trial has reached its end."]
    best = found.row(found.order[0])
    unit = "%" if found.factor != 1 else ""
    with_what = ", ".join(f"{key} {shown(value)}" for key, value in best["values"].items())
    finished = sum(row["state"] != "running" for row in found.rows)
    lines = [
        f"The best of {counted(finished, 'trial')} is trial {best['trial']}, {titled(found)} "
        f"{value_of(found, best['value'])}{unit}, with {with_what}."
    ]
    pairs = found.compared.get("comparisons") or []
    if pairs and found.metric != "loss":
        text = str(pairs[0]["sentence"])
        lines.append(f"Against the second: {text}.")
    elif pairs:
        lines.append(f"Against the second, in {found.compared['metric'].replace('_', ' ')}: {pairs[0]['sentence']}.")
    return lines


def summary(found: Found) -> list[Child]:
    """The sentences, the warning, what to do next."""
    lead = element("ul", [element("li", set_in_type(line)) for line in sentences(found)], class_="lead")
    if not found.order:
        return [lead]
    finished = sum(row["state"] != "running" for row in found.rows)
    best = found.place(found.order[0])
    parts: list[Child] = [lead, element("aside", element("p", OPTIMISTIC.format(trials=finished)), class_="notice")]
    parts.append(missing_note(found.note) if found.note else element("p", PAIRED, class_="small row"))
    links: list[Child] = [element("a", "the report of the best trial", href=quote(f"{best.name}/report.html"))]
    if found.compared:
        many = len(found.compared.get("runs", ()))
        links += [", ", element("a", f"the {many} best side by side", href="compare/report.html")]
    parts.append(element("p", "Further: ", links, ".", class_="row"))
    parts.append(element("p", "The best trial's settings as a recipe, and the one look at a test split:", class_="row"))
    commands = [["train", str(found.folder / "best.yaml")], ["evaluate", str(best), "--split", "test"]]
    parts += [command_box(shlex.join(["sightline", *words])) for words in commands]
    return parts


def search(found: Found, figures: Figures) -> list[Child]:
    """Progress, curves, the table of all trials."""
    if not found.rows:
        return [missing_note("No trial has begun.")]
    keys = list(found.values["space"])
    head = ["Trial", found.title, "Best epoch", *keys, "Epochs", "Time", "FLOPs", "State"]
    best = found.order[0] if found.order else None
    rows: list[list[Child]] = []
    for row in found.rows:
        linked = (found.place(row["trial"]) / "report.html").is_file()
        name: Child = str(row["trial"])
        if linked:
            name = element("a", name, href=quote(f"{found.place(row['trial']).name}/report.html"))
        value: Child = value_of(found, row["value"])
        state = f"failed: {row['message']}" if row["state"] == "failed" else row["state"]
        if row["same_as"] is not None:
            state = f"as trial {row['same_as']}"
        cells = [shown(row["values"][key]) if key in row["values"] else "" for key in keys]
        cost = [f"{row['epochs']:g}", duration(row["seconds"]), bits(row["flops"]) if row["flops"] else ""]
        chosen = str(row["best_epoch"]) if row["best_epoch"] else ""
        rows.append([name, element("b", value, " (best)") if row["trial"] == best else value, chosen, *cells, *cost,
                     "" if state == "complete" else state])  # fmt: skip
    states = [row["state"] for row in found.rows]
    counts = ", ".join(f"{states.count(state)} {word}" for state, word in
                       (("complete", "whole"), ("pruned", "pruned"), ("failed", "failed"), ("running", "not done"))
                       if state in states)  # fmt: skip
    last = len(head) - 2
    note = "Of a pruned trial the value is the best until then; it is never the sweep's best."
    says = f"{found.title} of each trial, and the best so far"
    return [
        element("p", f"{counted(len(found.rows), 'trial')}: {counts}."),
        element(
            "div",
            figure(figures, "progress", says),
            figure(figures, "curves", f"{found.title} of each trial over the epochs, the best in color"),
            class_="pair",
        ),
        table(head, rows, "All trials", numeric=range(1, last + 1), sortable=True),
        element("p", note, class_="small") if "pruned" in states else None,
    ]


def settings(found: Found, figures: Figures) -> list[Child]:
    """The value against each setting."""
    keys = list(found.values["space"])
    drawn = [
        figure(figures, f"setting-{place}", f"{found.title} of each trial against {key}")
        for place, key in enumerate(keys, 1)
    ]
    if not any(drawn):
        return [missing_note("No trial has a value yet: there is nothing to draw.")]
    note = (
        "A dot a trial; hollow ones were pruned, a ring marks the best. The settings change together: a pattern in one "
        "drawing may come from another setting."
    )
    return [element("div", drawn, class_="triple"), element("p", note, class_="small row")]


def origin(found: Found) -> list[Child]:
    """The space, what was fixed, how it was searched."""
    values = found.values
    rows: list[list[Child]] = [[key, text, "searched"] for key, text in values["space"].items()]
    rows += [[key, text, "fixed"] for key, text in values.get("fixed", {}).items()]
    data = values.get("data", {})
    images = data.get("images", {})
    facts = (
        f"Sampler {values['sampler']}, pruner {values['pruner']}, seed {values['seed']}; {values['wanted']} wanted. "
        f"Data: {data.get('path')}, {images.get('train', 0):,} training images"
        + (f" and {images['val']:,} validation images." if "val" in images else ".")
    )
    compared = f"The {COMPARED} best whole trials are compared."
    return [
        table(["Setting", "Values", ""], rows, "The space", kind="facts"),
        element("p", facts),
        element("p", compared, " sweep.csv and sweep.json beside this page have every number.", class_="small"),
    ]
