"""The result of `sightline start`: which step was worth it, in sentences, tables and a page."""

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import SightlineError, some_of
from ..insight.style import png
from ..report.compare.figures import plan_comparison
from ..report.compare.files import as_csv, as_values, report_link
from ..report.compare.kinds import Comparison, RunPair
from ..report.compare.numbers import compare, quality_text, with_verdict
from ..report.compare.page import comparison_page
from ..report.formatting import duration
from ..report.html import Child, element, table, typeset
from ..runs import run_folder
from ..runs.atomic import atomic_write, finite, read_json, write_json
from ..stats.units import FEWEST
from ..tasks import TASKS
from ..tasks.files import load_recipe_file
from .outcomes import MARK, MORE, Outcome, more_time, with_later_steps

ALPHA = 0.05
NOTHING_CHOSEN = (
    "No epoch and no setting was chosen on these validation images. The steps are compared in the order of the table; "
    "the intervals of the differences are widened for the number of comparisons. The time of a step is that of its "
    "whole run. The first step on frozen features includes the time in which they are computed; the next one reads "
    "them from the cache."
)


VARIES = {"frozen", "finetune", "scratch"}
"""The runs whose result depends on the seed. With standard deviations of 1 and 2 points between seeds, one of four
equally good steps "was worth it" on 6 to 22 and 14 to 46 % of simulated pages (300 to 2,500 images)."""
ONE_RUN = "Each step was run once: the intervals do not include the variation between seeds, often a point or more."


@dataclass(frozen=True)
class StartResult:
    """The result of a start. best: the name of the run that was worth it. sentences: the result in words. next:
    commands to type next. used: the run in these commands, in words."""

    path: Path
    best: str
    sentences: tuple[str, ...]
    next: tuple[str, ...]
    used: str = ""

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def run(self) -> run_folder.Run:
        """The run that was worth it."""
        return run_folder.Run(self.path / self.best)


def write_again(folder: Path) -> Path:
    """Write the report of an earlier start again, from the files of its runs; returns its path."""
    known = read_json(folder / MARK)
    if not isinstance(known, dict):
        cure = "repeat the command `sightline start`; steps that are finished are not trained again"
        raise SightlineError("this file cannot be read", where=str(folder / MARK), cure=cure)
    return write_result(folder, known["settings"], [Outcome(**one) for one in known["steps"]]).report


def write_result(
    folder: Path, settings: Mapping[str, Any], outcomes: Sequence[Outcome], coming: Sequence[str] = ()
) -> StartResult:
    """Compare the finished runs and write report.html, start.csv and figures; returns the result. coming: titles of the
    steps that follow."""
    trained = [one for one in outcomes if one.trained]
    if not trained:
        left = "; ".join(f"{one.title}: {one.why}" for one in outcomes)
        raise SightlineError("no step fits into the time", where=str(folder), why=left, cure=more_time(outcomes))
    if len(trained) == 1:
        cure = more_time(outcomes)
        raise SightlineError("only one step fits into the time", where=str(folder), why=outcomes[-1].why, cure=cure)
    best, pairs = climbed(folder, trained)
    order = [best, *(one for one in trained if one is not best)]
    comparison = corrected(compare([folder / one.name for one in order]))
    lines, used = sentences(comparison, best, trained, pairs), highest(comparison, best, trained)
    if late := [one.title for one in outcomes if one.cure.startswith(MORE)]:
        lines[0] += f" {capitalized(' and '.join(late))} did not fit into the time."
    commands = next_commands(folder, settings, used, outcomes)
    figures = {name: png(draw()) for name, draw in plan_comparison(comparison).items()}
    for name, image in figures.items():
        atomic_write(folder / "figures" / f"{name}.png", image)
    atomic_write(folder / "start.csv", as_csv(comparison))
    write_json(folder / "compare.json", finite(as_values(comparison, folder)))
    links = [report_link(entry.files.path, folder) for entry in comparison.entries]
    compared = any(not math.isnan(pair.interval[0]) for pair in pairs)
    cheapest = f"; no later step is shown to beat {best.title}" * compared
    use = f"with {used.title}" + ("" if used is best else f", which has the highest value{cheapest}")
    told = page_lead([*lines, *unfinished(coming)], comparison, outcomes, commands, links, use)
    lead = [("What was worth it", told)]
    page = comparison_page(comparison, figures, links, lead, "Sightline start", Path(settings["data.path"]).name)
    atomic_write(folder / "report.html", page)
    return StartResult(folder, best.name, tuple(lines), tuple(commands), use)


def climbed(folder: Path, trained: Sequence[Outcome]) -> tuple[Outcome, list[RunPair]]:
    """The step that was worth it, and the comparisons that were made, see `climb`."""

    def pair_of(first: int, second: int) -> RunPair | None:
        found = compare([folder / trained[row].name for row in (first, second)]).pairs
        return replace(found[0], level=1 - ALPHA / (len(trained) - 1)) if found else None

    row, pairs = climb(len(trained), pair_of)
    return trained[row], pairs


def corrected(found: Comparison) -> Comparison:
    """A comparison with the corrections of `climb`, which also count steps that cannot be compared, so that a page has
    one interval for each difference. Its notes are left out: image sides and precisions differ by design, and all runs
    read the same files on one machine."""
    several = len(found.entries) - 1
    pairs = []
    for pair in found.pairs:
        p = pair.p if math.isnan(pair.p) else min(1.0, pair.p * several)
        pairs.append(with_verdict(replace(pair, notes=()), p, 1 - ALPHA / several, found.kind, several))
    return replace(found, pairs=tuple(pairs), notes=())


def climb(steps: int, pair_of: Callable[[int, int], RunPair | None]) -> tuple[int, list[RunPair]]:
    """The index of the step that was worth it, and the comparisons.

    The cheapest step is replaced by the next one that is better, and so on. "Better" is said if the p value of the
    paired difference, times the number of comparisons (steps - 1), is below ALPHA. So if no step differs from the
    first, one is called better with a probability of at most ALPHA. pair_of: (index, index of a later step) -> their
    comparison; None if they cannot be compared.
    """
    best, pairs = 0, []
    for other in range(1, steps):
        if (pair := pair_of(best, other)) is None:
            continue
        pairs.append(pair)
        if pair.difference > 0 and differs(pair, steps - 1):
            best = other
    return best, pairs


def differs(pair: RunPair, comparisons: int) -> bool:
    """Whether a difference is shown, with Bonferroni's correction for the number of comparisons."""
    return pair.p * comparisons < ALPHA


def sentences(comparison: Comparison, best: Outcome, trained: Sequence[Outcome], pairs: Sequence[RunPair]) -> list[str]:
    """The result in words: what was worth it and by how much, then the more expensive steps."""
    unit = comparison.kind.unit
    texts = {entry.name: f"{quality_text(entry, comparison.kind)}{unit}" for entry in comparison.entries}
    titles = {one.name: one.title for one in trained}
    reached = f"{comparison.kind.name} {texts[best.name]} in {duration(best.seconds)}"
    won = [pair for pair in pairs if pair.second == best.name]
    if won:
        lines = [f"{capitalized(best.title)} was worth it: {reached}, {points(won[0])} over {titles[won[0].first]}."]
    else:
        lines = [f"No step is shown to be better than {best.title}: {reached}."]
    top = highest(comparison, best, trained)
    if not won and top is not best and any(math.isnan(pair.interval[0]) for pair in pairs):
        value = f"{comparison.kind.name} {texts[top.name]}"
        lines = [
            f"{capitalized(top.title)} has the highest value: {value}. Whether it is better than {best.title}, "
            f"{texts[best.name]}, cannot be shown: this needs at least {FEWEST} validation images, or groups of images "
            "that belong together, with each class. Unless they are of few films, all images can be validated in turn "
            "by `sightline repeat --folds 5`."
        ]
    elif top is not best:
        lines[0] += (
            f" The highest value is that of {top.title}: {texts[top.name]}. As the highest of {len(trained)} on these "
            "images it is optimistic, which its interval does not cover."
        )
    for pair in (pair for pair in pairs if pair.first == best.name):
        worse = pair.difference < 0 and differs(pair, len(trained) - 1)
        word = "is worse" if worse else "is not shown to be better"
        lines.append(f"{capitalized(titles[pair.second])} {word}: {texts[pair.second]}, {points(pair)}.")
    shown = any(not math.isnan(pair.interval[0]) for pair in pairs)
    return [*lines, ONE_RUN] if shown and {one.name for one in trained} & VARIES else lines


def highest(comparison: Comparison, best: Outcome, trained: Sequence[Outcome]) -> Outcome:
    """The step to predict with, that with the highest value, whether or not it is shown to be better than `best`."""
    gains = {pair.second: pair.difference for pair in comparison.pairs if pair.difference > 0}
    name = max(gains, key=lambda each: gains[each], default=best.name)
    return next(one for one in trained if one.name == name)


def points(pair: RunPair) -> str:
    """The difference of a pair in points, with its interval, which is widened for the number of comparisons."""
    low, high = pair.interval
    if math.isnan(low):
        why = "there are too few images, or groups of images that belong together, with each class"
        return f"{100 * pair.difference:+.1f} points, without an interval, because {why}"
    return f"{100 * pair.difference:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"


def capitalized(text: str) -> str:
    """The text with its first letter in upper case, except for "k-NN"."""
    return text if text.startswith("k-NN") else text[:1].upper() + text[1:]


def next_commands(folder: Path, settings: Mapping[str, Any], best: Outcome, outcomes: Sequence[Outcome]) -> list[str]:
    """Commands to type next: how to use the best run, and how to go on."""
    run = shlex.quote(str(folder / best.name))
    recipe = folder / best.name / "recipe.yaml"
    masks = recipe.is_file() and TASKS[load_recipe_file(recipe).task].learns_from == "masks"
    out = "predicted/" if masks else "predictions.csv"
    lines = [f"sightline predict {run} IMAGES --out {out}", f"sightline export {run} --format onnx"]
    more = more_time(with_later_steps(outcomes))
    if "data.val_fraction" in settings and not begins_with_run(recipe):
        limited = recipe.is_file() and load_recipe_file(recipe).train.max_minutes > 0  # by the time of this command
        limit = " --train.max_minutes 0" * limited
        lines.append(f"sightline repeat {shlex.quote(str(recipe))} --folds 5{limit}")  # few images: all are validated
    if more:
        words = ["sightline", "start", settings["data.path"]]
        words += [word for key, value in settings.items() if key != "data.path" for word in (f"--{key}", str(value))]
        words += ["--out", str(folder)] if folder != run_folder.default_folder("start") else []
        lines.append(f"{shlex.join(words)} --minutes {more.removeprefix(MORE)}")
    return lines


def begins_with_run(recipe: Path) -> bool:
    """Whether a run began with the weights of another one, which has seen images that folds would validate on."""
    return recipe.is_file() and Path(load_recipe_file(recipe).model.weights).is_dir()


def page_lead(
    lines: Sequence[str],
    comparison: Comparison,
    outcomes: Sequence[Outcome],
    commands: Sequence[str],
    links: Sequence[str],
    use: str,
) -> list[Child]:
    """The first section of the page: the result, the steps with their cost, what was left out, and commands. links:
    the URL of each run's report, in the order of the comparison. use: which step the commands use, and why."""
    texts = {entry.name: quality_text(entry, comparison.kind) for entry in comparison.entries}
    reports = {entry.name: link for entry, link in zip(comparison.entries, links, strict=True)}
    rows: list[list[Child]] = [
        [element("a", one.title, href=reports[one.name]), texts[one.name], duration(one.seconds)]
        for one in outcomes
        if one.name in texts
    ]
    first, *others = [*lines, *left_out(with_later_steps(outcomes))]
    head = ["Step", f"{comparison.kind.heading} [95% interval]", "Time of the step"]
    return [
        element("p", typeset(first), class_="lead"),
        element("ul", [element("li", typeset(line)) for line in others]) if others else None,
        table(head, rows, "The steps, cheapest first", numeric=1),
        element("p", NOTHING_CHOSEN, class_="small"),
        element("p", f"Next, {use}:"),
        element("ul", [element("li", element("code", line)) for line in commands]),
    ]


def unfinished(coming: Sequence[str]) -> list[str]:
    """The sentence of a page that is written before the last step."""
    if not coming:
        return []
    verb = "follow" if len(coming) > 1 else "follows"
    return [f"This start is not finished: {some_of(list(coming))} {verb}. Open the page again after each step."]


def left_out(outcomes: Sequence[Outcome]) -> list[str]:
    """A sentence for each reason for which steps were left out."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for one in outcomes:
        if one.why:
            reasons.setdefault((one.why, one.cure), []).append(one.title)
    return [
        f"{capitalized(', '.join(titles))} {'were' if len(titles) > 1 else 'was'} left out: {why}; {cure}."
        for (why, cure), titles in reasons.items()
    ]
