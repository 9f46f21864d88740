"""The report of a classifier's run: summary, maps, curves, class table, confusion matrix, wrong images."""

from collections.abc import Sequence

import numpy as np

from ...insight.curves import number
from ...insight.style import png_rgb
from ...report import alt
from ...report.drawing import draw_all, plan
from ...report.extent import pictured
from ...report.findings import Findings, Tile, find
from ...report.html import Child, Html, element, missing_note, png_uri, table
from ...report.live import confusion_block, live, with_lives
from ...report.maps import maps, pictures
from ...report.next_looks import Look, next_looks, of_curves
from ...report.run import RunFiles, with_predictions, with_samples
from ...report.sections import Content, Figures, bar, curves, facts_of_the_run, figure
from ...report.words import finite, in_words, percent, section, status, times
from ...stats.intervals import wilson_interval

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
FEW = 5  # images of a class below which its recall says little
MISCALIBRATED = 0.05


def content(files: RunFiles, watched: bool) -> Content:
    """The page of a run. watched: the run is still training, and its page leaves out t-SNE, which takes seconds."""
    files = with_samples(with_predictions(files))
    found = find(files, neighbors=not watched)
    figures = draw_all(plan(found, files.classes))
    looks = next_looks(of_classifier(found, files.classes))
    sections: list[tuple[str, list[Child]]] = [
        ("Summary", [*summary(files, found), looks, pictures(files)]),
        ("What it has learned", maps(files, figures, found)),
        ("Curves", curves(figures, found.past)),
        ("Where it goes wrong", mistakes_in_numbers(files, figures, found)),
        ("Wrong images", galleries(found)),
    ]
    return Content(files, sections, figures, found.past, pictured(files, found))


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


def supervisor_sentence(files: RunFiles, found: Findings) -> str:
    """One sentence for somebody who reads only one, and a second with the most frequent mistake."""
    model = str(section(files.recipe, "model").get("name") or "a model")
    weights = str(section(files.recipe, "model").get("weights") or "none")
    data = section(files.provenance, "data")
    counts = section(data, "counts")
    where = str(data.get("path") or section(files.recipe, "data").get("path") or "")
    start = "trained from scratch" if weights == "none" else f"trained from the weights {weights}"
    many = f" on {int(counts['train']):,} images" if number(counts.get("train")) > 0 else ""
    source = f" of {where}" if where else ""
    classes = f" in {len(files.classes)} classes" if files.classes else ""
    begin = f"{model}, {start}{many}{source}{classes},"
    if found.verdict is None:
        accuracy = found.past.evaluation["accuracy"]
        reached = (
            f"; best validation accuracy so far {percent(float(np.nanmax(accuracy)))}%" if finite(accuracy) else ""
        )
        return f"{begin} is {status(found.past)} at {in_words([found.past.last_epoch])}{reached}."
    verdict = found.verdict
    low, high = (percent(edge) for edge in verdict.interval)
    sentence = (
        f"{begin} puts {percent(verdict.accuracy)}% of {len(verdict.correct):,} validation images in the right class "
        f"(95% interval {low} to {high}%; always guessing the most frequent class would give "
        f"{percent(verdict.baseline)}%)."
    )
    if not found.confused:
        return sentence
    truth, predicted, often, _ = found.confused[0]
    if often == 1:
        wrong = int((~verdict.correct).sum())
        return f"{sentence} It is wrong on {f'{wrong} images, never twice in the same way' if wrong > 1 else 'one'}."
    return f"{sentence} Its most frequent mistake is to take {truth} for {predicted} ({times(often)})."


def of_classifier(found: Findings, classes: Sequence[str]) -> list[Look]:
    """The weakest class, the most frequent mistake, confidence that cannot be trusted, and what the curves say."""
    verdict = found.verdict
    looks: list[Look] = []
    if verdict is None:
        return of_curves(found.past)
    recall = np.where(verdict.classes.support >= FEW, verdict.classes.recall, np.inf)
    weakest = int(recall.argmin()) if len(recall) else 0
    if np.isfinite(recall[weakest]) and recall[weakest] < verdict.accuracy - 0.05:
        looks.append((f"{classes[weakest]}: only {percent(float(recall[weakest]))}% of its images are found",
                      "where-it-goes-wrong"))  # fmt: skip
    if found.confused and found.confused[0][2] > 1:
        truth, predicted, often, _ = found.confused[0]
        looks.append((f"{truth} taken for {predicted}, {times(often)}: are the labels right?", "wrong-images"))
    if verdict.calibration > MISCALIBRATED:
        sure = "too sure of itself" if verdict.confidence.mean() > verdict.accuracy else "less sure than it could be"
        looks.append((f"Confidence: the model is {sure}, by {100 * verdict.calibration:.1f} points on the average",
                      "where-it-goes-wrong"))  # fmt: skip
    return looks + of_curves(found.past)


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
