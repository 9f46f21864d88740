"""The page of a sweep: the best trial, all trials, each setting, how it was made."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import counted
from ..insight.style import si_number
from ..report.formatting import duration, percent
from ..report.html import Child, element, missing_note, table, typeset
from ..report.origin import command_box
from ..report.page import layout
from ..report.sections import Figures, figure
from ..tasks import TASKS

COMPARED = 4
"""The best trials, which are compared image by image."""
TITLES = {name: metric.title for task in TASKS.values() for name, metric in task.metrics.items()}
OPTIMISTIC = (
    "The best of {trials} trials was selected on the validation images, and so was the epoch of each: its number is "
    "optimistic, and its interval does not cover that selection. No test split was used. If the data have one, a "
    "single evaluation at the end gives a number that nothing was selected by."
)
PAIRED = (
    "Intervals are of the same images, by a paired bootstrap at 95%. They do not include other seeds: trained again "
    "with another train.seed, two trials may change their order."
)


def trial_folder(sweep: Path, number: int) -> Path:
    """The run folder of a trial."""
    return sweep / f"trial-{number:04d}"


def ranked(rows: Iterable[Mapping[str, Any]], lowest: bool) -> list[Mapping[str, Any]]:
    """Complete trials with a run of their own, the best first; of equal ones the earlier."""
    complete = [row for row in rows if row["state"] == "complete" and row["value"] is not None]
    own = [row for row in complete if row["same_as"] is None]
    return sorted(own, key=lambda row: ((1 if lowest else -1) * row["value"], row["trial"]))


@dataclass(frozen=True)
class SweepData:
    """A sweep as its page shows it. values: sweep.json. compared: compare.json of the best trials, or empty.

    note: why there is no comparison.
    """

    folder: Path
    values: Mapping[str, Any]
    compared: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def rows(self) -> list[dict[str, Any]]:
        return list(self.values["trials"])

    @property
    def metric(self) -> str:
        return str(self.values["metric"])

    @property
    def lowest(self) -> bool:
        """Whether the best value is the lowest."""
        return bool(self.values["lowest"])

    @property
    def factor(self) -> float:
        """From the metric to what is shown: shares are shown in percent."""
        return 1.0 if self.metric == "loss" else 100.0

    @property
    def title(self) -> str:
        return TITLES.get(self.metric, self.metric) + (", %" if self.factor != 1 else "")

    @property
    def ranked(self) -> list[Mapping[str, Any]]:
        """Complete trials, the best first."""
        return ranked(self.rows, self.lowest)

    @property
    def best(self) -> Mapping[str, Any] | None:
        return next(iter(self.ranked), None)

    @property
    def finished(self) -> int:
        """The number of trials with an outcome."""
        return sum(row["state"] != "running" for row in self.rows)

    def run_folder(self, trial: int) -> Path:
        return trial_folder(self.folder, trial)

    def value(self, value: float | None) -> str:
        """A value of the metric as text: shares in percent."""
        if value is None:
            return ""
        return percent(value, 2) if self.factor != 1 else f"{value:.4f}"


def label(value: Any) -> str:
    """A value of a setting as text: true, 0.1, adamw."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def shown(value: Any) -> str:
    """The same with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else label(value)


def sweep_page(data: SweepData, figures: Figures) -> str:
    """The whole page."""
    content: list[tuple[str, list[Child]]] = [
        ("The best trial", summary(data)),
        ("The search", search(data, figures)),
        ("Each setting", settings(data, figures)),
        ("How it was made", origin(data)),
    ]
    return layout("Sightline sweep", str(data.values.get("name")), "", content)


def sentences(data: SweepData) -> list[str]:
    """The best trial, and whether it differs from the second."""
    best = data.best
    if best is None:
        return ["No trial is complete."]
    unit = "%" if data.factor != 1 else ""
    settings = ", ".join(f"{key} {shown(value)}" for key, value in best["values"].items())
    title = TITLES.get(data.metric, data.metric)
    title = title if title.startswith("k-NN") else title[0].lower() + title[1:]
    value = f"{data.value(best['value'])}{unit}"
    lines = [
        f"The best of {counted(data.finished, 'trial')} is trial {best['trial']}, {title} {value}, with {settings}."
    ]
    for pair in (data.compared.get("comparisons") or [])[:1]:
        other = f", in {data.compared['metric'].replace('_', ' ')}" if data.metric == "loss" else ""
        lines.append(f"Against the second{other}: {pair['sentence']}.")
    return lines


def summary(data: SweepData) -> list[Child]:
    """The sentences, the warning about selection, links and next commands."""
    lead = element("ul", [element("li", typeset(line)) for line in sentences(data)], class_="lead")
    if data.best is None:
        return [lead]
    best = data.run_folder(data.best["trial"])
    links: list[Child] = [element("a", "the report of the best trial", href=quote(f"{best.name}/report.html"))]
    if data.compared:
        many = len(data.compared.get("runs", ()))
        links += [", ", element("a", f"the {many} best side by side", href="compare/report.html")]
    commands = [["train", str(data.folder / "best.yaml")], ["evaluate", str(best), "--split", "test"]]
    return [
        lead,
        element("aside", element("p", OPTIMISTIC.format(trials=data.finished)), class_="notice"),
        missing_note(data.note) if data.note else element("p", PAIRED, class_="small row"),
        element("p", "See also: ", links, ".", class_="row"),
        element("p", "Train with the best trial's settings; evaluate it, once, on a test split:", class_="row"),
        *(command_box(shlex.join(["sightline", *words])) for words in commands),
    ]


def trial_cells(data: SweepData, row: Mapping[str, Any], best: bool) -> list[Child]:
    """The row of a trial in the table of all trials."""
    folder = data.run_folder(row["trial"])
    name: Child = str(row["trial"])
    if (folder / "report.html").is_file():
        name = element("a", name, href=quote(f"{folder.name}/report.html"))
    state = f"failed: {row['message']}" if row["state"] == "failed" else row["state"]
    if row["same_as"] is not None:
        state = f"as trial {row['same_as']}"
    value = data.value(row["value"])
    return [
        name,
        element("b", value, " (best)") if best else value,
        str(row["best_epoch"] or ""),
        *(shown(row["values"].get(key, "")) for key in data.values["space"]),
        f"{row['epochs']:g}",
        duration(row["seconds"]),
        si_number(row["flops"]) if row["flops"] else "",
        "" if state == "complete" else state,
    ]


def search(data: SweepData, figures: Figures) -> list[Child]:
    """Progress, curves, the table of all trials."""
    if not data.rows:
        return [missing_note("No trial has started.")]
    head = ["Trial", data.title, "Best epoch", *data.values["space"], "Epochs", "Time", "FLOPs", "State"]
    rows = [trial_cells(data, row, row == data.best) for row in data.rows]
    states = [row["state"] for row in data.rows]
    words = {"complete": "complete", "pruned": "pruned", "failed": "failed", "running": "not finished"}
    counts = ", ".join(f"{states.count(state)} {word}" for state, word in words.items() if state in states)
    note = "The value of a pruned trial is its best until then; it never becomes the sweep's best."
    progress = figure(figures, "progress", f"{data.title} of each trial, and the best so far")
    curves = figure(figures, "curves", f"{data.title} of each trial over the epochs, the best in color")
    return [
        element("p", f"{counted(len(rows), 'trial')}: {counts}."),
        element("div", progress, curves, class_="pair"),
        table(head, rows, "All trials", numeric=range(1, len(head) - 1), sortable=True),
        element("p", note, class_="small") if "pruned" in states else None,
    ]


def settings(data: SweepData, figures: Figures) -> list[Child]:
    """The value of each trial against each setting."""
    says = f"{data.title} of each trial against"
    drawn = [figure(figures, f"setting-{index}", f"{says} {key}") for index, key in enumerate(data.values["space"], 1)]
    if not any(drawn):
        return [missing_note("No trial has a value yet: there is nothing to draw.")]
    note = (
        "One dot per trial; hollow dots are pruned trials, the ring marks the best. All settings vary together: a "
        "pattern in one figure may be caused by another setting."
    )
    return [element("div", drawn, class_="triple"), element("p", note, class_="small row")]


def origin(data: SweepData) -> list[Child]:
    """The search space, fixed settings, search method and data."""
    values = data.values
    rows: list[list[Child]] = [[key, text, "searched"] for key, text in values["space"].items()]
    rows += [[key, text, "fixed"] for key, text in values.get("fixed", {}).items()]
    source = values.get("data", {})
    counts = [counted(images, f"{split} image") for split, images in source.get("images", {}).items()]
    facts = (
        f"Sampler {values['sampler']}, pruner {values['pruner']}, seed {values['seed']}, {values['wanted']} trials "
        f"requested. Data: {source.get('path')}, {', '.join(counts)}."
    )
    note = f"The {COMPARED} best complete trials are compared. sweep.csv and sweep.json contain every number."
    return [
        table(["Setting", "Values", ""], rows, "The space", kind="facts"),
        element("p", facts),
        element("p", note, class_="small"),
    ]
