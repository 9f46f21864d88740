"""The sections of the page: findings and figures in, HTML out."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..insight.curves import History, number
from ..insight.style import png_rgb
from ..stats.intervals import wilson_interval
from . import alt
from .drawing import QUANTITIES
from .findings import Findings, Tile
from .html import Child, Html, element, missing_note, png_size, png_uri, table
from .live import confusion_block, curves_block, live, with_lives
from .run import RunFiles
from .words import bits, count, device, duration, in_words, known, percent, section, status, supervisor_sentence, times

Figures = Mapping[str, bytes]

CURVES = (
    "Training loss is measured on augmented "
    "images while the weights change, and includes label smoothing and class weights if the recipe has them; "
    "validation loss is plain cross-entropy: compare their shapes, not their heights."
)
CLASS_TABLE = (
    "Worst first; a heading sorts. Recall: of the images of this class, how many were found. Precision: of the images "
    "given to this class, how many belong there. F1 is the harmonic mean of both. A class of few images has numbers of "
    "little weight."
)
MATRIX = (
    "Rows are the truth, columns the prediction. Classes that are taken for each other stand together. Mistakes have a "
    "color scale of their own, so that rare ones show."
)
CALIBRATION = (
    "Dots on the dashed line would be perfect: of the images of which the model is 80% sure, 80% are right. Below the "
    "line it is too sure of itself, above it not sure enough."
)
HINT = "Scroll the picture sideways to see all of it. "
NARROW = 330  # pixels that a phone shows of a picture


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


def summary(files: RunFiles, found: Findings) -> list[Child]:
    """The sentence for the supervisor, the headline number, the facts."""
    verdict, past = found.verdict, found.past
    parts: list[Child] = [element("p", supervisor_sentence(files, found), class_="lead")]
    tiles: list[tuple[str, str, str]] = []
    if verdict:
        low, high = (percent(edge, 2) for edge in verdict.interval)
        tiles.append(("Accuracy", f"{percent(verdict.accuracy, 2)}%", f"95% interval {low} to {high}%"))
    parts.append(facts_of_the_run(files, past, tiles))
    if verdict:
        parts.append(
            element(
                "p",
                f"The interval is a bootstrap over the {len(verdict.correct):,} validation images. It holds for new "
                "images of the same kind; it does not cover the choice of the best epoch, which was made on these "
                "same images, nor what another random seed would give.",
                class_="small",
            )
        )
    return parts


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


def mistakes_in_numbers(files: RunFiles, figures: Figures, found: Findings) -> list[Child]:
    """Per-class table, confusion matrix, most-confused pairs, calibration."""
    verdict = found.verdict
    if verdict is None:
        return [missing_note("There is no predictions/val.csv that can be read; it is written when training ends.")]
    order = np.lexsort((np.arange(len(files.classes)), verdict.classes.recall, verdict.classes.f1))
    rows: list[list[Child]] = []
    for index in order:
        numbers = (verdict.classes.f1, verdict.classes.recall, verdict.classes.precision)
        f1, recall, precision = (percent(float(values[index])) for values in numbers)
        right, of_truth = int(verdict.confusion[index, index]), int(verdict.classes.support[index])
        rows.append(
            [
                files.classes[index],
                bar(float(verdict.classes.f1[index])),
                f1,
                recall,
                edges(right, of_truth),
                precision,
                edges(right, int(verdict.confusion[:, index].sum())),
                f"{of_truth:,}",
            ]
        )
    head = ["Class", "", "F1, %", "Recall, %", "95% interval", "Precision, %", "95% interval", "Images"]
    pairs: list[list[Child]] = [
        [files.classes[truth], files.classes[predicted], f"{often:,}", percent(often / verdict.classes.support[truth])]
        for truth, predicted, often in verdict.pairs
    ]
    mean = float(verdict.confidence.mean())
    return [
        element("h3", "Class by class"),
        element("p", CLASS_TABLE, class_="small"),
        table(head, rows, "Class by class", numeric=2, sortable=True),
        element("h3", "Confusion matrix"),
        matrix(files, figures, found),
        element("h3", "Most confused pairs"),
        table(["Truth", "Taken for", "Times", "Of its images, %"], pairs, "Most confused pairs", numeric=2)
        if pairs
        else element("p", "No image was misclassified."),
        element("h3", "Calibration"),
        figure(
            figures,
            "calibration",
            alt.calibration(verdict),
            f"Mean confidence is {percent(mean)}%, accuracy {percent(verdict.accuracy)}%. {CALIBRATION}",
        ),
    ]  # fmt: skip


def edges(right: int, count: int) -> str:
    """The 95 % interval (Wilson) of a share in percent; "" of none."""
    low, high = wilson_interval(right, count)
    return f"{percent(low)} to {percent(high)}" if count else ""


def matrix(files: RunFiles, figures: Figures, found: Findings) -> Html:
    """The confusion matrix, whose cells open their pictures where scripts run."""
    verdict, still = found.verdict, MATRIX
    assert verdict is not None
    if len(files.classes) > 100:
        still += " The 100 classes with the most mistakes."
    picture = figure(figures, "confusion", alt.confusion(verdict, files.classes), still, wide=True)
    data = confusion_block("confusion-data", found, files.classes) if files.samples else None
    place = live("confusion", "confusion-data", "items-data") if data else None
    return with_lives([picture], data, place)


def bar(share: float) -> Html:
    """A small bar for a share, of no meaning to a screen reader that has the number beside it."""
    width = round(60 * share, 1)
    back = element("rect", width=60, height=6, rx=3, class_="track")
    front = element("rect", width=width, height=6, rx=3, class_="fill")
    return element("svg", back, front, width=60, height=6, viewBox="0 0 60 6", aria_hidden="true")


def galleries(found: Findings) -> list[Child]:
    """The most wrong images, and those of the most confused pairs."""
    if found.verdict is None:
        return [missing_note("There are no predictions yet.")]
    if found.verdict.correct.all():
        return [element("p", "No validation image was misclassified.")]
    if not found.wrong:
        return [missing_note("snapshots/mistakes.npz and samples.npz hold no picture of a misclassified image.")]
    parts: list[Child] = [
        element("h3", "Most sure of, and wrong"),
        element("p", "Look here first for wrong labels, two classes in one picture, and pictures that do not belong.",
                class_="small"),
        gallery(found.wrong),
    ]  # fmt: skip
    # A mistake that was made once only would be the same picture again.
    repeated = [pair for pair in found.confused if pair[2] > 1 and pair[3]]
    if repeated:
        parts.append(element("h3", "The most confused pairs"))
    for truth, predicted, often, tiles in repeated:
        name = [element("b", truth), " taken for ", element("b", predicted), f", {times(often)}"]
        parts += [element("p", name, class_="row"), gallery(tiles)]
    return parts


def gallery(tiles: Sequence[Tile]) -> Html:
    """Pictures in a grid that fits the window."""
    return element("ul", [element("li", gallery_tile(one)) for one in tiles], class_="gallery")


def gallery_tile(one: Tile) -> Html:
    """One picture with truth, prediction and confidence; the file's name on hover and for screen readers."""
    small = max(one.image.shape[1:]) <= 40
    source = png_uri(png_rgb(one.image.transpose(1, 2, 0)))
    says = f"{one.name}: {one.truth}, taken for {one.predicted}"
    return element(
        "figure",
        element("img", src=source, alt=says, title=one.name, loading="lazy", class_="pixels" if small else None),
        element("figcaption", element("span", one.truth), element("span", f"as {one.predicted}", class_="wrong"),
                element("span", f"{percent(one.confidence)}% sure", class_="sure")),
    )  # fmt: skip


def preview(figures: Figures) -> list[Child]:
    """The sheet of training images, where the run has one."""
    return [
        figure(figures, "preview", "A sheet of training images as the model sees them",
               "Training images of the first batch, as the model sees them: augmented, resized, normalization undone.",
               wide=True)
    ]  # fmt: skip
