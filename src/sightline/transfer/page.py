"""The HTML page of a transfer grid: comparisons, table, links to the runs, recipes."""

from pathlib import Path
from typing import Any

from ..report.formatting import duration, percent
from ..report.html import Child, element, missing_note, table, typeset
from ..report.origin import flat, shown
from ..report.page import layout
from ..report.sections import figure
from .grid import SETTINGS, Grid, grid_yaml
from .outcomes import GridResult

STAGE_TITLES = {
    "labeled": "Pre-training with labels",
    "unlabeled": "Pre-training without labels",
    "full": "Full model",
    "frozen": "Head only",
}


def grid_page(folder: Path, grid: Grid, result: GridResult, figures: dict[str, bytes]) -> str:
    """Build the HTML page of a transfer grid. figures: PNG bytes by name."""
    content: list[tuple[str, list[Child]]] = [
        ("Does pre-training help?", summary(grid, result, figures)),
        ("Runs", run_links(folder, grid, result)),
        ("During pre-training", pretraining(figures)),
        ("How it was made", recipes(grid)),
    ]
    return layout("Sightline transfer grid", grid.name, "", content)


def summary(grid: Grid, result: GridResult, figures: dict[str, bytes]) -> list[Child]:
    """Section: one sentence per comparison, the figure, the table of settings, and notes."""
    if not result.outcomes:
        return [missing_note("No run of the grid is finished yet.")]
    images, seeds = result.outcomes[0].correct.shape[1], sorted({len(outcome.seeds) for outcome in result.outcomes})
    rows: list[list[Child]] = []
    for outcome in result.outcomes:
        low, high = (percent(edge) for edge in outcome.interval)
        each = ", ".join(percent(value) for value in outcome.accuracies)
        reported = grid.reported.get(outcome.setting)
        setting = [outcome.setting, *SETTINGS[outcome.setting].description]
        row = [*setting, percent(outcome.accuracy), f"{low} to {high}", each]
        rows.append([*row, duration(outcome.seconds), *([percent(reported)] if reported is not None else [""])])
    header = ["", "Pre-training", "Trained", "Accuracy, %", "95% interval", "Each seed, %", "Time per run"]
    header.append("Reported elsewhere, %")
    columns = len(header) if grid.reported else len(header) - 1
    counts = " to ".join(str(edge) for edge in dict.fromkeys((seeds[0], seeds[-1])))
    over = "over images and seeds" if seeds[-1] > 1 else "over images only, because there is one seed"
    note = (
        f"Mean over {counts} seed{'s' * (seeds[-1] > 1)}, on the same {images:,} validation images. Intervals are 95% "
        f"bootstrap intervals {over}; comparisons are paired by image. Each pre-training was run once: the intervals "
        "do not include its variation. The best epoch of each run was selected on these images."
    )
    if grid.reported:
        note += " The values reported elsewhere were measured on other images."
    sentences = [typeset(f"{sentence[0].upper()}{sentence[1:]}.") for *_, sentence in result.comparisons]
    return [
        element("ul", [element("li", sentence) for sentence in sentences], class_="lead"),
        figure(figures, "grid", "Accuracy of each setting with its 95% interval"),
        table(header[:columns], [row[:columns] for row in rows], "Accuracy by setting", numeric=3),
        element("p", note, class_="small"),
        *[missing_note(note) for note in result.notes],
    ]


def run_links(folder: Path, grid: Grid, result: GridResult) -> list[Child]:
    """Section: links to the reports of the runs, one line per setting, and the names of unfinished runs."""

    def link(name: str, text: str) -> Child:
        there = (folder / name / "report.html").is_file()
        return element("a", text, href=f"{name}/report.html") if there else f"{text} (not finished)"

    lines: list[Child] = [
        element("li", link(f"pretrain-{stage}", f"pre-training {words} labels"))
        for stage, words in (("labeled", "with"), ("unlabeled", "without"))
        if (folder / f"pretrain-{stage}").is_dir()
    ]
    for setting in grid.settings:
        links = [[" ", link(f"{setting}-{seed}", f"seed {seed}")] for seed in grid.seeds]
        lines.append(element("li", f"{setting}:", links))
    unfinished = f"Not finished: {', '.join(result.missing)}. Run the same command again to train them."
    return [element("ul", lines), missing_note(unfinished) if result.missing else None]


def pretraining(figures: dict[str, bytes]) -> list[Child]:
    """Section: figure of the k-NN accuracy over the epochs of the pre-training without labels."""
    if "curve-knn-accuracy" not in figures:
        why = "the pre-training without labels has not been evaluated, or has no probe data (pretrain.probe)"
        return [missing_note(f"There is no k-NN accuracy: {why}.")]
    text = "k-NN accuracy of the features on the validation images of the probe data (by default, the target)."
    return [figure(figures, "curve-knn-accuracy", text, text)]


def recipes(grid: Grid) -> list[Child]:
    """Section: table of the settings in which a stage differs from the defaults, and the complete grid.yaml."""
    defaults: dict[str, Any] = {}
    for stage in STAGE_TITLES:
        defaults |= flat(type(getattr(grid, stage))().model_dump(mode="json"))
    stages = {stage: flat(getattr(grid, stage).model_dump(mode="json")) for stage in STAGE_TITLES}
    keys = [
        key for key in defaults if any(values.get(key, defaults[key]) != defaults[key] for values in stages.values())
    ]
    head = ["Setting", *STAGE_TITLES.values(), "Default"]
    rows: list[list[Child]] = [
        [key, *(shown(values[key]) if key in values else "" for values in stages.values()), shown(defaults[key])]
        for key in keys
        if key != "name"
    ]
    return [
        element("p", f"Seeds {shown(list(grid.seeds))}; a {grid.classifier} head in every setting."),
        table(head, rows, "Settings that differ from the defaults", kind="facts"),
        element("details", element("summary", "All settings"), element("pre", element("code", grid_yaml(grid)))),
    ]
