"""The sections of the page: findings and figures in, HTML out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..insight.curves import History, number
from . import alt
from .drawing import QUANTITIES
from .html import Child, Html, element, missing_note, png_size, png_uri
from .live import curves_block, live, with_lives
from .run import RunFiles
from .words import bits, count, device, duration, in_words, known, section, status, times

Figures = Mapping[str, bytes]

CURVES = (
    "Training loss is measured on augmented "
    "images while the weights change, and includes label smoothing and class weights if the recipe has them; "
    "validation loss is plain cross-entropy: compare their shapes, not their heights."
)
HINT = "Scroll the picture sideways to see all of it. "
NARROW = 330  # pixels that a phone shows of a picture


@dataclass(frozen=True)
class Content:
    """What a task puts on the page of a run: the run's files, titled sections, figures by file name without ending, the
    history of its records, and a sentence on how many images the page shows."""

    files: RunFiles
    sections: list[tuple[str, list[Child]]]
    figures: dict[str, bytes]
    past: History
    shown: str


def figure(figures: Figures, name: str, says: str, caption: Child = None, wide: bool = False) -> Html | None:
    """A picture of the report at its natural size with a caption; None where it was not drawn.

    says: what it shows, for who does not see it. wide: it scrolls where the window is narrower.
    """
    if name not in figures:
        return None
    width, height = (side // 2 for side in png_size(figures[name]))
    image = element("img", src=png_uri(figures[name]), alt=says, width=width, height=height, loading="lazy")
    scrolls = {"class_": "paper scroll wide", "tabindex": "0", "role": "region", "aria_label": name} if wide else {}
    paper = element("div", image, **(scrolls or {"class_": "paper"}))
    hint = element("span", HINT, class_="hint") if wide and width > NARROW else None
    return element("figure", paper, element("figcaption", hint, caption) if caption else None, id=f"figure-{name}")


def facts_of_the_run(files: RunFiles, past: History, tiles: list[tuple[str, str, str]]) -> Html:
    """Cards (name, value, note): the task's own, then best epoch, time, speed, device, size."""
    tiles = list(tiles)
    if past.ensemble:
        chosen = ", ".join(map(str, past.ensemble))
        tiles.append(("Epochs averaged", chosen, "mean of their probabilities"))
    elif past.best_epoch:
        planned = section(files.recipe, "train").get("epochs")
        tiles.append(("Best epoch", str(past.best_epoch), f"of {planned} planned" if planned else ""))
    if past.seconds:
        tiles.append(("Time", duration(past.seconds), status(past)))
    speed = past.train["images_per_second"]
    if np.isfinite(speed).any():
        tiles.append(("Images per second", count(float(np.nanmedian(speed))), "median while training"))
    if files.provenance.get("device"):
        tiles.append(("Device", device(files.provenance), f"precision {known(files.provenance.get('precision'))}"))
    if number(files.provenance.get("parameters")) > 0:
        name = str(section(files.recipe, "model").get("name", ""))
        tiles.append(("Parameters", bits(number(files.provenance["parameters"])), name))
    cards = [
        element("div", element("dt", name), element("dd", value, class_="long" if len(value) > 18 else None),
                element("dd", note, class_="note") if note else None)
        for name, value, note in tiles
    ]  # fmt: skip
    columns = len(cards) if len(cards) < 5 else 3 if len(cards) in (5, 6, 9) else 4
    return element("dl", cards, class_=f"cards cards-{columns}")


def curves(figures: Figures, past: History, says: str = CURVES, more: Sequence[Child] = ()) -> list[Child]:
    """Loss and the task's metric side by side, the three small curves below; says: how the curves are to be read.

    more: further small curves of the task.
    """
    large = [
        figure(figures, "curve-loss", alt.loss(past)),
        figure(figures, "curve-accuracy", alt.metric(past, "accuracy", "Accuracy")),
        figure(figures, "curve-mean-iou", alt.metric(past, "mean_iou", "Mean IoU")),
        figure(figures, "curve-knn-accuracy", alt.metric(past, "knn_accuracy", "k-NN accuracy")),
    ]
    small = [figure(figures, name, alt.quantity(past, field, title, k)) for name, field, title, k in QUANTITIES]
    if not any(large):
        return [missing_note("No epoch has been logged yet: there is nothing to draw.")]
    notes = [says]
    if past.ensemble:
        notes.insert(0, f"The result is the mean of the probabilities after {in_words(past.ensemble)}.")
    elif past.best_epoch:
        notes.insert(0, "The best epoch, whose weights are in checkpoints/best, is marked.")
    if past.resumes:
        notes.append(
            f"The run was resumed {times(len(past.resumes))} (dashed line): steps that were done twice "
            "are drawn once, as they were done last."
        )
    if past.stop and past.stop != "all epochs done":
        notes.append(f"Training stopped at epoch {past.last_epoch:g}: {past.stop}.")
    still = [element("div", large, class_="pair"), element("div", [*small, *more], class_="triple")]
    return [
        element("p", " ".join(notes), class_="small"),
        with_lives(still, curves_block("curves-data", past), live("curves", "curves-data")),
    ]


def bar(share: float) -> Html:
    """A small bar for a share, of no meaning to a screen reader that has the number beside it."""
    width = round(60 * share, 1)
    back = element("rect", width=60, height=6, rx=3, class_="track")
    front = element("rect", width=width, height=6, rx=3, class_="fill")
    return element("svg", back, front, width=60, height=6, viewBox="0 0 60 6", aria_hidden="true")


def preview(figures: Figures) -> list[Child]:
    """The sheet of training images, where the run has one."""
    return [
        figure(figures, "preview", "A sheet of training images as the model sees them",
               "Training images of the first batch, as the model sees them: augmented, resized, normalization undone.",
               wide=True)
    ]  # fmt: skip
