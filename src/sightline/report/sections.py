"""Parts of a run's page that several tasks share: figures, facts, curves, hints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..config.checks import FITTED
from ..insight.curves import History, MetricCurve, number
from ..insight.style import si_number
from ..stats.baselines import TITLES, baselines_of
from ..stats.groups import Groups
from ..stats.units import FEWEST
from .drawing import TRAINING_CURVES, loss_text, metric_text, training_curve_text
from .findings import Findings
from .formatting import count, device, duration, epochs_text, known, percent, section, status, times
from .html import Child, Html, element, missing_note, png_size, png_uri
from .live import curves_block, live, with_live_views
from .run import RunFiles

Figures = Mapping[str, bytes]
Hint = tuple[str, str]
"""(sentence on a possible problem, the identifier of the section with its details)."""

CURVES = (
    "Training loss is measured on augmented images while the weights change, with all terms of the recipe, such as "
    "label smoothing and class weights; validation loss is without them: compare their shapes, not their heights."
)
SCROLL = "Scroll horizontally to see the whole figure. "
NARROW = 330  # CSS pixels; wider figures scroll on a phone
MOST_HINTS = 4
RISEN = 1.1  # least ratio of the last to the lowest validation loss, for a hint
WAITING = 0.1  # least share of the time spent waiting for data, for a hint


@dataclass(frozen=True)
class Content:
    """The part of a run's page that its task creates.

    sections: (title, HTML elements). figures: PNG bytes by file name without extension. past: the training history from
    metrics.jsonl. shown: a sentence on the number of images on the page.
    """

    files: RunFiles
    sections: list[tuple[str, list[Child]]]
    figures: dict[str, bytes]
    past: History
    shown: str


def figure(figures: Figures, name: str, text: str, caption: Child = None, wide: bool = False) -> Html | None:
    """A figure of the report with a caption; None if the figure was not drawn.

    figures: PNG bytes by name. text: the alternative text. wide: whether the figure scrolls horizontally in a narrow
    window.
    """
    if name not in figures:
        return None
    width, height = (side // 2 for side in png_size(figures[name]))
    image = element("img", src=png_uri(figures[name]), alt=text, width=width, height=height, loading="lazy")
    scrolls = {"class_": "paper scroll wide", "tabindex": "0", "role": "region", "aria_label": name} if wide else {}
    paper = element("div", image, **(scrolls or {"class_": "paper"}))
    hint = element("span", SCROLL, class_="hint") if wide and width > NARROW else None
    return element("figure", paper, element("figcaption", hint, caption) if caption else None, id=f"figure-{name}")


def fact_cards(files: RunFiles, past: History, facts: Sequence[tuple[str, str, str]]) -> Html:
    """Cards with the main facts of a run: those of the task, then best epoch, time, speed, device and parameters.

    facts: (name, value, note) of the task's cards.
    """
    facts = list(facts)
    if past.ensemble:
        facts.append(("Epochs averaged", ", ".join(map(str, past.ensemble)), "mean of their probabilities"))
    elif past.best_epoch:
        planned = section(files.recipe, "train").get("epochs")
        facts.append(("Best epoch", str(past.best_epoch), f"of {planned} planned" if planned else ""))
    if past.seconds:
        facts.append(("Time", duration(past.seconds), status(past)))
    speed = past.train["images_per_second"]
    if np.isfinite(speed).any():
        facts.append(("Images per second", count(float(np.nanmedian(speed))), "median while training"))
    if files.provenance.get("device"):
        facts.append(("Device", device(files.provenance), f"precision {known(files.provenance.get('precision'))}"))
    if number(files.provenance.get("parameters")) > 0:
        name = str(section(files.recipe, "model").get("name", ""))
        facts.append(("Parameters", si_number(number(files.provenance["parameters"])), name))
    cards = [
        element("div", element("dt", name), element("dd", value, class_="long" if len(value) > 18 else None),
                element("dd", note, class_="note") if note else None)
        for name, value, note in facts
    ]  # fmt: skip
    columns = len(cards) if len(cards) < 5 else 3 if len(cards) in (5, 6, 9) else 4
    return element("dl", cards, class_=f"cards cards-{columns}")


def baselines_line(files: RunFiles, of: str = "") -> Html | None:
    """A paragraph with the scores that need no training; None if the run has none. of: what the score belongs to."""
    found = baselines_of(files.records)
    if not found:
        return None
    parts: list[Child] = [f"The same score{of} without training: "]
    for name, value in found.items():
        parts += [", " if len(parts) > 1 else None, f"{TITLES[name]} ", element("b", f"{percent(value)}%")]
    notes = "; ".join(map(str, files.end.get("baseline_notes") or []))
    return element("p", parts, f" ({notes})" if notes else None, ".", class_="small")


def curves(figures: Figures, past: History, metrics: Sequence[MetricCurve], text: str = CURVES) -> list[Child]:
    """The curves of the loss and of the task's metrics, with small curves of training records below.

    text: sentences on how to read the curves.
    """
    drawn = [(one.small, figure(figures, f"curve-{one.name}", metric_text(past, one))) for one in metrics]
    large = [figure(figures, "curve-loss", loss_text(past)), *(one for small, one in drawn if not small)]
    small = [figure(figures, f"curve-{one.name}", training_curve_text(past, one)) for one in TRAINING_CURVES]
    if not any(large):
        return [missing_note("No epoch has been logged yet: there is nothing to draw.")]
    notes = [text]
    if past.ensemble:
        notes.insert(0, f"The result is the mean of the probabilities after {epochs_text(past.ensemble)}.")
    elif past.best_epoch:
        notes.insert(0, "The best epoch, whose weights are in checkpoints/best, is marked.")
    if past.resumes:
        again = times(len(past.resumes))
        notes.append(f"The run was resumed {again} (dashed lines); for repeated steps, the latest values are shown.")
    if past.stopped_early:
        notes.append(f"Training stopped at epoch {past.last_epoch:g}: {past.stop}.")
    small += [one for is_small, one in drawn if is_small]
    still = [element("div", large, class_="pair"), element("div", small, class_="triple")]
    return [
        element("p", " ".join(notes), class_="small"),
        with_live_views(still, curves_block("curves-data", past, metrics), live("curves", "curves-data")),
    ]


def training_curves(
    files: RunFiles, figures: Figures, past: History, metrics: Sequence[MetricCurve]
) -> list[tuple[str, list[Child]]]:
    """The section of the curves of a classifier, in a list; an empty list if its head was fitted to frozen features,
    because nothing was then trained in steps."""
    return [] if is_fitted(files) else [("Curves", curves(figures, past, metrics))]


def is_fitted(files: RunFiles) -> bool:
    """Whether the head of a classifier was fitted to frozen features, so that nothing changed over the epochs."""
    return section(files.recipe, "optim").get("name") in FITTED


def maps_title(files: RunFiles) -> str:
    """The title of the section of the maps of a classifier."""
    return "Features" if is_fitted(files) else "Features over the epochs"


def bar(share: float) -> Html:
    """A horizontal bar whose length shows a share; hidden from screen readers, because the number is beside it."""
    back = element("rect", width=60, height=6, rx=3, class_="track")
    front = element("rect", width=round(60 * share, 1), height=6, rx=3, class_="fill")
    return element("svg", back, front, width=60, height=6, viewBox="0 0 60 6", aria_hidden="true")


def preview(figures: Figures) -> list[Child]:
    """The figure of augmented training images."""
    text = "Training images of the first batch after augmentation and resizing, without the normalization."
    return [figure(figures, "preview", "Training images after augmentation", text, wide=True)]


def hints_list(hints: Sequence[Hint]) -> Html | None:
    """The first MOST_HINTS hints as links to their sections; None without hints."""
    if not hints:
        return None
    entries = [element("li", element("a", text, href=f"#{target}")) for text, target in hints[:MOST_HINTS]]
    return element("div", element("h3", "What to check next"), element("ul", entries, class_="notes"))


def curve_hints(past: History) -> list[Hint]:
    """Hints on a rising validation loss, too few epochs and slow data loading, from the curves of a run."""
    hints: list[Hint] = []
    loss = past.evaluation["loss"]
    known = np.flatnonzero(np.isfinite(loss))
    if len(known) > 2:
        lowest = known[loss[known].argmin()]
        if loss[known[-1]] > RISEN * loss[lowest]:
            epoch, above = past.evaluation["epoch"][lowest], percent(float(loss[known[-1]] / loss[lowest] - 1), 0)
            hints.append((f"The validation loss ends {above}% above its minimum, at epoch {epoch:g}", "curves"))
    complete = past.finished and not past.stopped_early
    if complete and past.best_epoch and past.best_epoch >= past.last_epoch and len(known) > 2:
        text = "The last epoch is the best; more may be better: sightline resume RUN --train.epochs N"
        hints.append((text, "curves"))
    wait = past.train["data_wait"][np.isfinite(past.train["data_wait"])]
    if len(wait) and np.median(wait) > WAITING and past.last_epoch > 1:  # a single epoch may be that of the features
        hints.append((f"{percent(float(np.median(wait)))}% of the time was spent waiting for data", "curves"))
    return hints


def displayed_images(files: RunFiles, findings: Findings, kind: str = "validation") -> str:
    """A sentence on the number of images on the page; "" if there are none. kind: "validation" or "evaluated"."""
    parts, summary = [], findings.summary
    if files.samples is not None:
        total = len(files.predictions.names) if files.predictions else split_size(files, "val")
        parts.append(f"{part_of(len(files.samples.rows), total)} {kind} images")
    if files.mistakes is not None and summary is not None and not summary.correct.all():
        kept, wrong = len(files.mistakes.rows), int((~summary.correct).sum())
        surest = ", those with the highest confidence" if kept < wrong else ""
        parts.append(f"{part_of(kept, wrong)} misclassified images{surest}")
    if files.train_samples is not None:
        parts.append(f"{part_of(len(files.train_samples.rows), split_size(files, 'train'))} training images")
    return displayed_sentence(parts)


def channels_note(files: RunFiles) -> str:
    """Sentences on the channels of the images and on those that figures show; "" for 8-bit RGB."""
    facts = section(section(files.provenance, "data"), "channels")
    names, shown = facts.get("names"), facts.get("shown")
    if (
        not isinstance(names, list)
        or not isinstance(shown, list)
        or not all(index in range(len(names)) for index in shown)
    ):
        return ""
    red, green, blue = (str(names[index]) for index in shown)
    colors = f"{red} in gray" if red == blue else f"{red}, {green} and {blue} as red, green and blue"
    stretched = "" if facts.get("dtype") == "uint8" else ", each image stretched to its own range of values"
    many = f"{len(names)} channels" if len(names) > 1 else "one channel"
    return f"The images have {many}: {', '.join(map(str, names))}. Figures show {colors}{stretched}."


def displayed_sentence(parts: Sequence[str]) -> str:
    """Join parts of a sentence on what the page shows; "" without parts."""
    return f"It shows {'; '.join(parts)}." if parts else ""


def split_size(files: RunFiles, split: str) -> int:
    """The number of images in a split; 0 where unknown."""
    return int(number(section(section(files.provenance, "data"), "counts").get(split), 0))


def part_of(shown: int, total: int) -> str:
    """How many of `total` are shown: `24 of 500`, or `all 24`; `24` if the total is unknown (0) or smaller."""
    return f"all {shown:,}" if shown == total else f"{shown:,} of {total:,}" if total > shown else f"{shown:,}"


def interval_text(interval: Sequence[float], digits: int = 1) -> str:
    """The 95 % interval of a share in percent, such as "95% interval 81.2 to 90.4%"."""
    if not np.isfinite(interval).all():
        return "no interval can be given"
    low, high = (percent(edge, digits) for edge in interval)
    return f"95% interval {low} to {high}%"


def interval_note(count: int, groups: Groups | None, effective: float, chosen: bool = True) -> str:
    """Sentences on what the interval of a run's score is over, and what it covers. effective: the number of independent
    images that would be as informative. chosen: whether the epoch was chosen on these images."""
    if groups is not None and groups.count < FEWEST:
        return f"{groups.sentence(effective)}."
    units = f"the {count:,} validation images" if groups is None else groups.sentence(effective)
    missing = (
        "the choice of the best epoch, which was made on these images, nor other seeds" if chosen else "other seeds"
    )
    return f"The interval is over {units}. It covers new images of the same distribution, not {missing}."
