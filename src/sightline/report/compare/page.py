"""The page of a comparison: results in sentences, a table of the runs, figures, images on which the runs differ."""

from collections.abc import Sequence

import numpy as np

from ...insight.curves import MetricCurve
from ...insight.style import class_colors, si_number
from ..drawing import value_range
from ..html import Child, Html, element, missing_note, table
from ..page import layout
from ..sections import Figures, figure
from ..words import duration
from .figures import LOSSES
from .items_page import NO_PAIRS, agreement, by_class
from .kinds import ComparedRun, Comparison
from .numbers import in_percent

CAREFUL = (
    "Differences are computed on the same images, with 95% intervals of a paired bootstrap over images. A sentence "
    "says “beats” only if the interval excludes zero and p is below 0.05. The intervals do not include the variation "
    "between seeds: two runs that differ only in the seed may differ by as much. Each run's best epoch was chosen on "
    "these same images."
)
LOSS_SETTINGS = ("loss.", "pretrain.method", "pretrain.contrast")
LOSS_NOTE = "The runs differ in their loss: compare the shapes of these curves, not their heights."
FLOPS_NOTE = "FLOPs are spread evenly over the epochs."


def comparison_page(found: Comparison, drawn: Figures, links: Sequence[str]) -> str:
    """The complete page. links: for each run the URL of its own report, or ""."""
    content: list[tuple[str, list[Child]]] = [
        ("Result", summary(found, drawn, links)),
        ("Cost and quality", cost(found, drawn)),
        ("Recipe differences", recipes(found)),
        ("Curves", curves(found, drawn)),
    ]
    if found.kind.paired:
        content += [
            ("Class by class", by_class(found, drawn)),
            (
                "Images on which the runs differ",
                found.kind.images(found, drawn) if found.pairs else [missing_note(NO_PAIRS)],
            ),
            ("Agreement", agreement(found)),
        ]
    names = [entry.name for entry in found.entries]
    reference = f"The reference is {names[0]}, the first run of the command."
    return layout("Sightline comparison", joined_names(names), reference, content, notice(found))


def joined_names(names: Sequence[str]) -> str:
    """The names of the runs as a heading; of more than four, the first three and a count."""
    if len(names) > 4:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def notice(found: Comparison) -> Html | None:
    """Box with the runs that cannot be compared, and with notes on other differences; None if there are none."""
    parts: list[Child] = []
    for one in found.unpaired:
        text = f"{one.name} is not compared image by image with {found.reference.name}: {one.why}."
        parts.append(element("p", text, f" To compare it: {one.cure}." if one.cure else ""))
    if found.unpaired:
        parts.append(element("p", "Recipes, curves and costs are shown for all runs."))
    parts += [element("p", note) for note in found.notes]
    parts += [element("p", note) for pair in found.pairs for note in pair.notes]
    return element("aside", parts, class_="notice") if parts else None


def summary(found: Comparison, drawn: Figures, links: Sequence[str]) -> list[Child]:
    """Section: one sentence per pair of runs, the table of the runs, and how to read it."""
    lines = sentences(found, reasons=False)
    lead: Child = element("p", lines[0], class_="lead") if len(lines) == 1 else None
    if len(lines) > 1:
        lead = element("ul", [element("li", line) for line in lines], class_="lead")
    head, rows = runs_table(found, links)
    notes = ["FLOPs are of the training."] if any(entry.flops > 0 for entry in found.entries) else []
    if found.pairs:
        notes = [CAREFUL, found.kind.test, *notes]
    if len(found.pairs) > 1:
        notes.append(
            f"With {len(found.pairs)} comparisons, some p value falls below 0.05 by chance more often than in 5% of "
            "cases. Holm's p is corrected for that, and the sentences use it; compare.csv also has the uncorrected p. "
            "Each interval is for one comparison."
        )
    text = "Difference between each run and the reference, with its interval"
    return [
        lead,
        table(head, rows, "The runs", numeric=1),
        figure(drawn, "differences", text),
        element("p", " ".join(notes), class_="small") if notes else None,
    ]


def sentences(found: Comparison, reasons: bool = True) -> list[str]:
    """The result, one sentence per run besides the reference. reasons: add why a run cannot be compared."""
    lines = [capitalized(f"{pair.sentence}.") for pair in found.pairs]
    for one in found.unpaired:
        why = f": {one.why}" if reasons else ""
        lines.append(f"{one.name} and {found.reference.name} cannot be compared image by image{why}.")
    if not found.kind.paired:
        scored = [f"{one.name} {in_percent(one)}%" for one in found.entries if in_percent(one)]
        lines.append(f"{found.kind.title} with its 95% interval: {', '.join(scored) or 'not measured'}.")
    return lines


def capitalized(text: str) -> str:
    """Capitalize a sentence that begins with "no difference"; others begin with the name of a run."""
    return text[0].upper() + text[1:] if text.startswith("no difference") else text


def runs_table(found: Comparison, links: Sequence[str]) -> tuple[list[str], list[list[Child]]]:
    """(headings, rows) of the table of runs: metric, difference to the reference, cost."""
    paired, several = bool(found.pairs), len(found.pairs) > 1
    head = ["Run", f"{found.kind.title}, % [95% interval]"]
    head += [f"Difference to {found.reference.name}, points", "Holm's p" if several else "p"] * paired
    head += [title for _, title in found.kind.columns]
    head += ["Time", "FLOPs", "Parameters", "Epochs"]
    rows: list[list[Child]] = []
    colors = class_colors(len(found.entries))
    for entry, color, link in zip(found.entries, colors, links, strict=True):
        name = element("a", entry.name, href=link) if link else entry.name
        row: list[Child] = [[swatch(color), name], in_percent(entry) or "none"]
        if paired:
            row += differences(found, entry)
        row += [latest(entry, field) for field, _ in found.kind.columns]
        row += [duration(entry.seconds) if entry.seconds > 0 else "unknown"]
        row += [si_number(value) if value > 0 else "unknown" for value in (entry.flops, entry.parameters)]
        rows.append([*row, epochs(entry)])
    return head, rows


def differences(found: Comparison, entry: ComparedRun) -> list[Child]:
    """Table cells: difference to the reference with its interval, and p, corrected if there are several pairs."""
    pair = found.pair_of(entry.name)
    if pair is None:
        return ["reference" if entry is found.reference else "not comparable", ""]
    value, low, high = (f"{100 * edge:+.2f}" for edge in (pair.numbers.difference, *pair.numbers.interval))
    edges = f"{value} [{low}, {high}]" if np.isfinite(pair.numbers.interval).all() else value
    return [element("b", edges) if pair.significant else edges, p_text(pair.holm)]


def p_text(p: float) -> str:
    """A p value as text, rounded."""
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def latest(entry: ComparedRun, field: str) -> str:
    """The last finite value of a field of the evaluation records, as text."""
    values = entry.past.evaluation[field][np.isfinite(entry.past.evaluation[field])]
    return f"{values[-1]:.3g}" if len(values) else "none"


def epochs(entry: ComparedRun) -> str:
    """The completed epochs as text, `12`; with the planned number if it differs, `12 of 50 so far`."""
    done = f"{entry.epochs:g}" if entry.epochs == entry.epochs else "0"
    done = f"{entry.epochs:.1f}" if "." in done else done
    rest = f" of {entry.planned:g}" if entry.planned == entry.planned and entry.planned != entry.epochs else ""
    return f"{done}{rest}{'' if entry.past.finished else ' so far'}"


def swatch(color: str) -> Html:
    """SVG of a dot in the color that a run has in the figures."""
    dot = element("circle", cx=5, cy=5, r=5, fill=color)
    return element("svg", dot, width=16, height=10, viewBox="0 0 16 10", aria_hidden="true")


def cost(found: Comparison, drawn: Figures) -> list[Child]:
    """Section: figures of the metric against time, FLOPs and parameters."""
    values = "; ".join(f"{one.name} {in_percent(one)}%" for one in found.entries if in_percent(one))
    figures = [
        figure(drawn, f"cost-{name}", f"{found.kind.title} against {words}: {values}")
        for name, words in (("time", "time"), ("flops", "training FLOPs"), ("parameters", "parameters"))
    ]
    if not any(figures):
        return [missing_note("Fewer than two runs have a result and a known cost.")]
    note = "Further left is cheaper, higher is better; the vertical lines are 95% intervals of each run."
    return [element("p", note, class_="small"), element("div", figures, class_="triple")]


def recipes(found: Comparison) -> list[Child]:
    """Section: table of the settings that differ between the runs."""
    unknown = [entry.name for entry in found.entries if not entry.files.recipe]
    parts: list[Child] = [missing_note(f"The recipe of {name} cannot be read.") for name in unknown]
    if not found.recipes:
        return [*parts, element("p", "None: all settings are the same.")]
    rows: list[list[Child]] = [[key, *values] for key, values in found.recipes]
    heading = "Settings that differ"
    return [*parts, table(["Setting", *(entry.name for entry in found.entries)], rows, heading, kind="facts")]


def curves(found: Comparison, drawn: Figures) -> list[Child]:
    """Section: the curves of all runs, in common plots."""
    title = found.kind.title
    metric = first_and_last(found, MetricCurve(found.kind.field, title), "%")
    training, validation = (first_and_last(found, loss) for loss in LOSSES)
    large = [
        figure(drawn, "curve-metric", f"{title} of each run over the epochs: {metric}"),
        figure(drawn, "curve-validation-loss", f"Validation loss of each run: {validation}"),
        figure(drawn, "curve-training-loss", f"Training loss of each run: {training}"),
        figure(drawn, "curve-metric-time", f"{title} of each run over time: {metric}"),
        figure(drawn, "curve-metric-flops", f"{title} of each run over training FLOPs: {metric}"),
        *(
            figure(drawn, f"curve-{one.name}", f"{one.title}: {first_and_last(found, one)}")
            for one in found.kind.curves
        ),
    ]
    if not any(large):
        return [missing_note("No epoch has been logged yet: there is nothing to draw.")]
    rings = any(one.past.best_epoch for one in found.entries)
    notes = ["Rings mark the best epochs, whose weights were evaluated."] if rings else []
    notes += [FLOPS_NOTE] if "curve-metric-flops" in drawn else []
    notes += [LOSS_NOTE] if any(key.startswith(LOSS_SETTINGS) for key, _ in found.recipes) else []
    return [element("div", large, class_="pair"), element("p", " ".join(notes), class_="small") if notes else None]


def first_and_last(found: Comparison, curve: MetricCurve, unit: str = "") -> str:
    """The first and last value of each run's curve, as text."""
    ranges = [value_range(one.name, curve.points(one.past)[1], unit, 3 - len(unit)) for one in found.entries]
    return ", ".join(filter(None, ranges))
