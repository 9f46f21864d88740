"""The page of a comparison: results in sentences, a table of the runs, figures, images on which the runs differ."""

from collections.abc import Sequence

import numpy as np

from ...insight.curves import MetricCurve, number
from ...insight.style import class_colors, si_number
from ..drawing import value_range
from ..formatting import duration
from ..html import Child, Html, element, missing_note, table
from ..page import layout
from ..sections import Figures, baselines_line, figure
from .figures import LOSSES
from .kinds import ComparedRun, Comparison
from .numbers import quality_text
from .paired_sections import NO_PAIRS, agreement, by_class

CAREFUL = (
    "Differences are computed on the same images. Their intervals are over images, or over groups of images that "
    "belong together, and are widened for the number of comparisons (Bonferroni), so that all sentences of a page "
    "are right in 95% of the pages. A sentence says “beats” only if the interval excludes zero. The intervals do not "
    "include the variation between seeds: two runs that differ only in the seed may differ by as much."
)
CHOSEN = "The runs' best epochs were chosen on these same images."
LOSS_SETTINGS = ("loss.", "pretrain.method", "pretrain.contrast")
LOSS_NOTE = "The runs differ in their loss: compare the shapes of these curves, not their heights."
FLOPS_NOTE = "FLOPs are spread evenly over the epochs."


def comparison_page(
    comparison: Comparison,
    drawn: Figures,
    links: Sequence[str],
    lead: Sequence[tuple[str, list[Child]]] = (),
    kicker: str = "Sightline comparison",
    name: str = "",
) -> str:
    """The complete HTML page of a comparison. drawn: PNG bytes by figure name. links: the URL of each run's own
    report, or "" without one. lead: sections before those of the comparison. kicker, name: the lines of the header."""
    content: list[tuple[str, list[Child]]] = [
        *lead,
        ("Comparison" if lead else "Result", summary(comparison, drawn, links)),
        ("Cost and quality", cost(comparison, drawn)),
        ("Recipe differences", recipes(comparison)),
        ("Curves", curves(comparison, drawn)),
    ]
    if comparison.kind.paired:
        content += [
            ("Class by class", by_class(comparison, drawn)),
            (
                "Images on which the runs differ",
                comparison.kind.images(comparison, drawn) if comparison.pairs else [missing_note(NO_PAIRS)],
            ),
            ("Agreement", agreement(comparison)),
        ]
    names = [entry.name for entry in comparison.entries]
    reference = f"The reference is {names[0]}, the first run of the command." if not lead else ""
    return layout(kicker, name or joined_names(names), reference, content, notice(comparison))


def joined_names(names: Sequence[str]) -> str:
    """The names of the runs as a heading: "a, b and c".

    Of five or more runs, the first three names and the number of the rest: "a, b, c and 2 more".
    """
    if len(names) > 4:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def notice(comparison: Comparison) -> Html | None:
    """Box with the runs that cannot be compared, and with notes on other differences; None if there are none."""
    parts: list[Child] = []
    for one in comparison.unpaired:
        text = f"{one.name} is not compared image by image with {comparison.reference.name}: {one.why}."
        parts.append(element("p", text, f" To compare it: {one.cure}." if one.cure else ""))
    if comparison.unpaired:
        parts.append(element("p", "Recipes, curves and costs are shown for all runs."))
    parts += [element("p", note) for note in comparison.notes]
    parts += [element("p", note) for pair in comparison.pairs for note in pair.notes]
    return element("aside", parts, class_="notice") if parts else None


def summary(comparison: Comparison, drawn: Figures, links: Sequence[str]) -> list[Child]:
    """Section: one sentence per pair of runs, the table of the runs, and how to read it."""
    lines = sentences(comparison, reasons=False)
    lead: Child = element("p", lines[0], class_="lead") if len(lines) == 1 else None
    if len(lines) > 1:
        lead = element("ul", [element("li", line) for line in lines], class_="lead")
    head, rows = runs_table(comparison, links)
    notes = ["FLOPs are of the training."] if any(entry.flops > 0 for entry in comparison.entries) else []
    if comparison.pairs:
        best = all(entry.chosen for entry in comparison.entries)
        chosen = [CHOSEN] if best and comparison.reference.files.split == "val" else []
        notes = [CAREFUL, *chosen, comparison.kind.test, *notes]
    if len(comparison.pairs) > 1:
        notes.append(
            f"With {len(comparison.pairs)} comparisons, the chance that some p value is below 0.05 is larger than 5%. "
            "Bonferroni's p is corrected for that, and the sentences use it; the .csv file beside this page also has "
            "the uncorrected p."
        )
    text = "Difference between each run and the reference, with its interval"
    return [
        lead,
        table(head, rows, "The runs", numeric=1),
        figure(drawn, "differences", text),
        baselines_line(comparison.reference.files, f" of {comparison.reference.name}"),
        element("p", " ".join(notes), class_="small") if notes else None,
    ]


def sentences(comparison: Comparison, reasons: bool = True) -> list[str]:
    """The result as one sentence per run other than the reference; for tasks without results per image, one sentence
    with the metric of every run.

    reasons: whether to add why a run cannot be compared.
    """
    lines = [capitalized(f"{pair.sentence}.") for pair in comparison.pairs]
    for one in comparison.unpaired:
        why = f": {one.why}" if reasons else ""
        lines.append(f"{one.name} and {comparison.reference.name} cannot be compared image by image{why}.")
    if not comparison.kind.paired:
        scored = scores(comparison)
        lines.append(f"{comparison.kind.title} with its 95% interval: {', '.join(scored) or 'not measured'}.")
    return lines


def scores(comparison: Comparison) -> list[str]:
    """The name and the metric of each run that has one, as text."""
    kind = comparison.kind
    texts = {one.name: quality_text(one, kind) for one in comparison.entries}
    return [f"{name} {text}{kind.unit}" for name, text in texts.items() if text]


def capitalized(text: str) -> str:
    """Capitalize a sentence that begins with "no difference"; others begin with the name of a run."""
    return text[0].upper() + text[1:] if text.startswith("no difference") else text


def runs_table(comparison: Comparison, links: Sequence[str]) -> tuple[list[str], list[list[Child]]]:
    """(headings, rows) of the table of runs: metric, difference to the reference, cost."""
    paired, several = bool(comparison.pairs), len(comparison.pairs) > 1
    head = ["Run", f"{comparison.kind.heading} [95% interval]"]
    head += [
        f"Difference to {comparison.reference.name}, points",
        "Bonferroni's p" if several else "p",
    ] * paired
    head += [title for _, title in comparison.kind.columns]
    head += ["Training time", "FLOPs", "Parameters", "Epochs"]
    rows: list[list[Child]] = []
    colors = class_colors(len(comparison.entries))
    for entry, color, link in zip(comparison.entries, colors, links, strict=True):
        name = element("a", entry.name, href=link) if link else entry.name
        row: list[Child] = [[swatch(color), name], quality_text(entry, comparison.kind) or "none"]
        if paired:
            row += differences(comparison, entry)
        row += [latest(entry, field) for field, _ in comparison.kind.columns]
        row += [duration(entry.seconds) if entry.seconds > 0 else "unknown"]
        row += [si_number(value) if value > 0 else "unknown" for value in (entry.flops, entry.parameters)]
        rows.append([*row, epochs(entry)])
    return head, rows


def differences(comparison: Comparison, entry: ComparedRun) -> list[Child]:
    """Table cells: a run's difference to the reference with its interval, and its p value.

    The p value is corrected if there are several pairs.
    """
    pair = comparison.pair_of(entry.name)
    if pair is None:
        return ["reference" if entry is comparison.reference else "not comparable", ""]
    value, low, high = (f"{100 * edge:+.2f}" for edge in (pair.difference, *pair.interval))
    edges = f"{value} [{low}, {high}]" if np.isfinite(pair.interval).all() else f"{value}, no interval"
    tested = not np.isnan(pair.interval[0])  # else no interval can be given, and the p value says nothing
    return [element("b", edges) if pair.significant else edges, p_text(pair.corrected if tested else float("nan"))]


def p_text(p: float) -> str:
    """A p value as text, rounded: "<0.001", "0.042", "0.37"; "none" if it cannot be given."""
    if p != p:
        return "none"
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def latest(entry: ComparedRun, field: str) -> str:
    """The last finite value of a field of a run's evaluation records, as text; of a finished run, that of its weights
    as they are stored, as on its own page: the last epoch may have been evaluated in bfloat16."""
    if entry.past.finished and np.isfinite(final := number(entry.files.end.get(field))):
        return f"{final:.3g}"
    values = entry.past.evaluation[field][np.isfinite(entry.past.evaluation[field])]
    return f"{values[-1]:.3g}" if len(values) else "none"


def epochs(entry: ComparedRun) -> str:
    """The completed epochs of a run as text, `12`; for an unfinished run with the planned number, `12 of 50 so far`."""
    done = f"{entry.epochs:g}" if entry.epochs == entry.epochs else "0"
    done = f"{entry.epochs:.1f}" if "." in done else done
    rest = f" of {entry.planned:g}" if entry.planned == entry.planned and entry.planned != entry.epochs else ""
    return f"{done}{rest}{'' if entry.past.finished else ' so far'}"


def swatch(color: str) -> Html:
    """SVG of a dot in the color that a run has in the figures."""
    dot = element("circle", cx=5, cy=5, r=5, fill=color)
    return element("svg", dot, width=16, height=10, viewBox="0 0 16 10", aria_hidden="true")


def cost(comparison: Comparison, drawn: Figures) -> list[Child]:
    """Section: figures of the metric against time, FLOPs and parameters."""
    values = "; ".join(scores(comparison))
    figures = [
        figure(drawn, f"cost-{name}", f"{comparison.kind.title} against {words}: {values}")
        for name, words in (("time", "time"), ("flops", "training FLOPs"), ("parameters", "parameters"))
    ]
    if not any(figures):
        return [missing_note("Fewer than two runs have a result and a known cost.")]
    better = "lower" if comparison.kind.lower_is_better else "higher"
    note = f"Further left is cheaper, {better} is better; the vertical lines are 95% intervals of each run."
    return [element("p", note, class_="small"), element("div", figures, class_="triple")]


def recipes(comparison: Comparison) -> list[Child]:
    """Section: table of the settings that differ between the runs."""
    unknown = [entry.name for entry in comparison.entries if not entry.files.recipe]
    parts: list[Child] = [missing_note(f"The recipe of {name} cannot be read.") for name in unknown]
    if not comparison.recipes:
        return [*parts, element("p", "None: all settings are the same.")]
    rows: list[list[Child]] = [[key, *values] for key, values in comparison.recipes]
    heading = "Settings that differ"
    return [*parts, table(["Setting", *(entry.name for entry in comparison.entries)], rows, heading, kind="facts")]


def curves(comparison: Comparison, drawn: Figures) -> list[Child]:
    """Section: the curves of all runs, one plot per quantity."""
    title = comparison.kind.title
    metric = first_and_last(
        comparison, MetricCurve(comparison.kind.field, title, comparison.kind.percent), comparison.kind.unit
    )
    training, validation = (first_and_last(comparison, loss) for loss in LOSSES)
    large = [
        figure(drawn, "curve-metric", f"{title} of each run over the epochs: {metric}"),
        figure(drawn, "curve-validation-loss", f"Validation loss of each run: {validation}"),
        figure(drawn, "curve-training-loss", f"Training loss of each run: {training}"),
        figure(drawn, "curve-metric-time", f"{title} of each run over time: {metric}"),
        figure(drawn, "curve-metric-flops", f"{title} of each run over training FLOPs: {metric}"),
        *(
            figure(drawn, f"curve-{one.name}", f"{one.title}: {first_and_last(comparison, one)}")
            for one in comparison.kind.curves
        ),
    ]
    if not any(large):
        return [missing_note("No epoch has been logged yet: there is nothing to draw.")]
    rings = any(one.past.best_epoch for one in comparison.entries)
    notes = ["Rings mark the best epochs; ensembles average several."] if rings else []
    notes += [FLOPS_NOTE] if "curve-metric-flops" in drawn else []
    notes += [LOSS_NOTE] if any(key.startswith(LOSS_SETTINGS) for key, _ in comparison.recipes) else []
    return [element("div", large, class_="pair"), element("p", " ".join(notes), class_="small") if notes else None]


def first_and_last(comparison: Comparison, curve: MetricCurve, unit: str = "") -> str:
    """The first and last value of each run's curve, as text."""
    ranges = [value_range(one.name, curve.points(one.past)[1], unit, 3 - len(unit)) for one in comparison.entries]
    return ", ".join(filter(None, ranges))
