"""The HTML page of a sweep: the best trial, all trials, the metric against each setting, the search space."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..data.sources.splits import OUTER
from ..errors import counted
from ..insight.style import si_number
from ..report.formatting import duration, percent
from ..report.html import Child, element, missing_note, table, typeset
from ..report.origin import command_box
from ..report.page import layout
from ..report.sections import Figures, figure
from ..runs.run_folder import provenance
from ..tasks import TASKS
from ..tasks.contract import Metric
from .space import format_value

COMPARED = 4
"""Number of the best trials that are compared image by image, on the same validation images."""
DIGITS = 4
"""Significant digits with which values of settings are shown on the page."""
OPTIMISTIC = (
    "The best of {trials} trials was selected on {selection}, and so was the best epoch of each trial. The values on "
    "these images are therefore optimistic, and their intervals do not include the effect of this selection. "
)
REPORTED = "The result of the best trial is that on {images}, on which nothing was selected."
UNUSED = "No test split was used. If the data have one, evaluate the best run on it once, at the end."
PAIRED = (
    "Intervals are 95% paired intervals over the same images. They do not include the variation between "
    "seeds: with another train.seed, the order of two trials may change."
)


def trial_folder(sweep: Path, number: int) -> Path:
    """The run folder of a trial."""
    return sweep / f"trial-{number:04d}"


def ranked(rows: Iterable[Mapping[str, Any]], lowest: bool) -> list[Mapping[str, Any]]:
    """The complete trials, the best first, without those whose settings equal those of an earlier trial.

    rows: elements of `trials` in sweep.json. lowest: whether lower values of the metric are better.
    """
    complete = [row for row in rows if row["state"] == "complete" and row["value"] is not None]
    distinct = [row for row in complete if row["same_as"] is None]
    return sorted(distinct, key=lambda row: ((1 if lowest else -1) * row["value"], row["trial"]))


@dataclass(frozen=True)
class SweepData:
    """The data of a sweep's page.

    values: content of sweep.json. compared: content of compare.json, the comparison of the best trials; {} if there is
    none, and `note` then has the reason.
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
        """Whether lower values of the metric are better."""
        return bool(self.values["lowest"])

    @property
    def factor(self) -> float:
        """The factor by which values of the metric are multiplied for display: 100 for shares, shown in percent, else
        1."""
        return 100.0 if self.described.percent else 1.0

    @property
    def described(self) -> Metric:
        """The metric as a task describes it."""
        return described(self.metric)

    @property
    def title(self) -> str:
        return self.described.title + (", %" if self.factor != 1 else "")

    @property
    def ranked(self) -> list[Mapping[str, Any]]:
        """The complete trials, the best first, without those whose settings equal those of an earlier trial."""
        return ranked(self.rows, self.lowest)

    @property
    def best(self) -> Mapping[str, Any] | None:
        return next(iter(self.ranked), None)

    @property
    def selection(self) -> str:
        """The images that chose the trials, in words."""
        chosen = self.values.get("selection", {})  # earlier versions: the validation images
        count = counted(chosen.get("images", self.values["data"]["images"]["val"]), "image")
        held_out = f"{count} that were held out of the training images"
        return held_out if chosen.get("split") == "inner" else f"the {count} of the validation split"

    @property
    def reported(self) -> dict[int, Mapping[str, Any]]:
        """The results on the split that chose nothing, by trial."""
        split = self.values.get("report_split")
        return {one["trial"]: one for one in self.values.get("reported", []) if one["split"] == split}

    def reported_images(self, one: Mapping[str, Any]) -> str:
        """The images of an element of `reported`, in words."""
        if one["split"] == OUTER:
            return f"the {counted(one['images'], 'validation image')}"
        look = (
            f" (look {one['look']:,} at this test set, from {counted(one['look_runs'], 'run')})"
            if "look" in one
            else ""
        )
        return f"the {counted(one['images'], 'test image')}{look}"

    @property
    def finished(self) -> int:
        """The number of trials that have ended: complete, pruned or failed."""
        return sum(row["state"] != "running" for row in self.rows)

    def run_folder(self, trial: int) -> Path:
        return trial_folder(self.folder, trial)

    def value(self, value: float | None) -> str:
        """Format a value of the metric, shares in percent; "" for None."""
        if value is None:
            return ""
        return value_text(self.metric, value)


def described(metric: str) -> Metric:
    """The metric as a task describes it."""
    known = (task.metrics[metric] for task in TASKS.values() if metric in task.metrics)
    return next(known, Metric(metric))


def value_text(metric: str, value: float) -> str:
    """Format a value of the metric, a share in percent, without the sign."""
    return percent(value, 2) if described(metric).percent else f"{value:.4f}"


def sweep_page(data: SweepData, figures: Figures) -> str:
    """Build the HTML page of a sweep. figures: PNG bytes by name."""
    content: list[tuple[str, list[Child]]] = [
        ("The best trial", summary(data)),
        ("The search", search(data, figures)),
        ("Each setting", settings(data, figures)),
        ("How it was made", origin(data)),
    ]
    return layout("Sightline sweep", str(data.values.get("name")), "", content)


def sentences(data: SweepData) -> list[str]:
    """Sentences on the best trial, on its result on images that chose nothing, and on its difference there from the
    second best."""
    best = data.best
    if best is None:
        return ["No trial is complete."]
    unit = "%" if data.factor != 1 else ""
    settings = ", ".join(f"{key} {format_value(value, DIGITS)}" for key, value in best["values"].items())
    title = data.described.title
    title = title if title.startswith("k-NN") else title[0].lower() + title[1:]
    lines = [
        f"The best of {counted(data.finished, 'trial')} is trial {best['trial']}, with {settings}, selected by {title} "
        f"on {data.selection}: {data.value(best['value'])}{unit}, an optimistic value."
    ]
    result = data.reported.get(best["trial"], {})
    if data.metric not in result:
        return lines
    low, high = result.get(f"{data.metric}_interval") or (None, None)
    edges = "" if low is None or high is None else f" [{data.value(low)}, {data.value(high)}]"
    lines.append(
        f"On {data.reported_images(result)}, on which nothing was selected, its {title} is "
        f"{data.value(result[data.metric])}{unit}{edges}."
    )
    for pair in (data.compared.get("comparisons") or [])[: result["split"] == OUTER]:
        measure = f" in {data.compared['metric'].replace('_', ' ')}" if data.metric == "loss" else ""
        lines.append(f"Compared with the second best{measure}: {pair['sentence']}.")
    return lines


def summary(data: SweepData) -> list[Child]:
    """Section: sentences on the best trial, a warning on its selection on the validation images, links, next
    commands."""
    lead = element("ul", [element("li", typeset(line)) for line in sentences(data)], class_="lead")
    if data.best is None:
        return [lead]
    best = data.run_folder(data.best["trial"])
    links: list[Child] = [element("a", "the report of the best trial", href=quote(f"{best.name}/report.html"))]
    if data.compared:
        many = len(data.compared.get("runs", ()))
        links += [", ", element("a", f"a comparison of the best {many}", href="compare/report.html")]
    commands = [["train", str(data.folder / "best.yaml")], ["evaluate", str(best), "--split", "test"]]
    result, tested = data.reported.get(data.best["trial"]), data.values.get("report_split") == "test"
    tested = tested or not has_test_split(best)
    notice = OPTIMISTIC.format(trials=data.finished, selection=data.selection)
    notice += REPORTED.format(images=data.reported_images(result)) if result else UNUSED
    once = "" if tested else ", and to evaluate the best trial once on a test split"
    return [
        lead,
        element("aside", element("p", notice), class_="notice"),
        missing_note(data.note) if data.note else element("p", PAIRED, class_="small row"),
        element("p", "See also: ", links, ".", class_="row"),
        element("p", f"To train with the settings of the best trial on all training images{once}:", class_="row"),
        *(command_box(shlex.join(["sightline", *words])) for words in commands[: 1 if tested else 2]),
    ]


def has_test_split(run: Path) -> bool:
    """Whether the data of a run have a split `test`, as far as is known."""
    data = provenance(run).get("data")
    counts = data.get("counts") if isinstance(data, dict) else None
    return not isinstance(counts, dict) or "test" in counts


def trial_cells(data: SweepData, row: Mapping[str, Any], best: bool) -> list[Child]:
    """The cells of a trial's row in the table of all trials."""
    folder = data.run_folder(row["trial"])
    name: Child = str(row["trial"])
    if (folder / "report.html").is_file():
        name = element("a", name, href=quote(f"{folder.name}/report.html"))
    state = f"failed: {row['message']}" if row["state"] == "failed" else row["state"]
    if row["same_as"] is not None:
        state = f"same settings as trial {row['same_as']}"
    value = data.value(row["value"])
    return [
        name,
        element("b", value, " (best)") if best else value,
        *([data.value(data.reported.get(row["trial"], {}).get(data.metric))] if data.reported else []),
        str(row["best_epoch"] or ""),
        *(format_value(row["values"].get(key, ""), DIGITS) for key in data.values["space"]),
        f"{row['epochs']:g}",
        duration(row["seconds"]),
        si_number(row["flops"]) if row["flops"] else "",
        "" if state == "complete" else state,
    ]


def search(data: SweepData, figures: Figures) -> list[Child]:
    """Section: figures of progress and curves, and the table of all trials."""
    if not data.rows:
        return [missing_note("No trial has started.")]
    reported = [f"{data.title}, reported"] if data.reported else []
    head = ["Trial", data.title, *reported, "Best epoch", *data.values["space"], "Epochs", "Time", "FLOPs", "State"]
    rows = [trial_cells(data, row, row == data.best) for row in data.rows]
    states = [row["state"] for row in data.rows]
    words = {"complete": "complete", "pruned": "pruned", "failed": "failed", "running": "not finished"}
    counts = ", ".join(f"{states.count(state)} {word}" for state, word in words.items() if state in states)
    images = next((f"; reported: on {data.reported_images(one)}" for one in data.reported.values()), "")
    where = f"{data.title}: on {data.selection}, which selected the trials{images}. "
    note = "The value of a pruned trial is that of its best epoch before pruning. Pruned trials are not ranked."
    progress = figure(figures, "progress", f"{data.title} of each trial, and the best so far")
    curves = figure(figures, "curves", f"{data.title} of each trial over the epochs, the best in color")
    return [
        element("p", f"{counted(len(rows), 'trial')}: {counts}."),
        element("div", progress, curves, class_="pair"),
        table(head, rows, "All trials", numeric=range(1, len(head) - 1), sortable=True),
        element("p", where + note * ("pruned" in states), class_="small"),
    ]


def settings(data: SweepData, figures: Figures) -> list[Child]:
    """Section: a figure of the metric against each searched setting."""
    caption = f"{data.title} of each trial against"
    drawn = [
        figure(figures, f"setting-{index}", f"{caption} {key}") for index, key in enumerate(data.values["space"], 1)
    ]
    if not any(drawn):
        return [missing_note("No trial has a value yet.")]
    note = (
        "One dot per trial; hollow dots are pruned trials, and the ring marks the best trial. All settings vary at the "
        "same time, so a pattern in one figure may be caused by another setting."
    )
    return [element("div", drawn, class_="triple"), element("p", note, class_="small row")]


def origin(data: SweepData) -> list[Child]:
    """Section: the search space, fixed settings, search method and data."""
    values = data.values
    rows: list[list[Child]] = [[key, text, "searched"] for key, text in values["space"].items()]
    rows += [[key, text, "fixed"] for key, text in values.get("fixed", {}).items()]
    source = values.get("data", {})
    counts = [counted(images, f"{split} image") for split, images in source.get("images", {}).items()]
    facts = (
        f"Sampler {values['sampler']}, pruner {values['pruner']}, seed {values['seed']}, {values['wanted']} trials "
        f"requested. Data: {source.get('path')}, {', '.join(counts)}."
    )
    note = (
        f"The best {COMPARED} complete trials are compared. sweep.csv and sweep.json contain the results of all trials."
    )
    return [
        table(["Setting", "Values", ""], rows, "Search space", kind="facts"),
        element("p", facts),
        element("p", note, class_="small"),
    ]
