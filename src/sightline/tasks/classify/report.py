"""The report of a classifier: summary, feature maps, curves, class table, confusion matrix, misclassified images."""

from collections.abc import Mapping, Sequence

import numpy as np

from ...errors import counted
from ...insight.curves import MetricCurve, number
from ...insight.style import png_rgb
from ...report import sections
from ...report.drawing import calibration_text, confusion_text, draw_all, plan
from ...report.findings import FEW, Findings, GalleryImage, PredictionSummary, compute_findings
from ...report.formatting import epochs_text, percent, section, status, times
from ...report.html import Child, Html, element, missing_note, png_uri, table
from ...report.live import confusion_block, live, with_live_views
from ...report.maps import maps, thumbnails
from ...report.run import RunFiles, with_predictions, with_samples
from ...stats.calibration import SignedError, chance_error
from ...stats.groups import ids_in
from ...stats.intervals import effective_images, mean_interval
from ..contract import Metric
from ..whole_image.class_maps import class_map_section
from .two_classes import plan_roc, two_classes

CLASS_TABLE = (
    "Sorted by F1, lowest first; click a heading to sort. Recall: share of the class's images predicted as it. "
    "Precision: the share of the images predicted as the class that belong to it. F1: their harmonic mean. "
    "Intervals are over images, or over groups of them; there is none for fewer than 10 groups. "
    "Overconfidence: mean confidence of these predictions minus their precision, with its 95% interval; bold if it "
    "differs from zero after Holm's correction for all classes."
)
FITTED_HEADS = {"lbfgs": "logistic regression", "knn": "k-NN"}
"""What `optim.name` fits to frozen features, in words."""
MATRIX = (
    "Rows are the truth, columns the prediction. Classes are ordered so that confused ones are adjacent. Errors have "
    "their own color scale, so that rare ones are visible."
)
CALIBRATION = (
    "Dots on the dashed line mean perfect calibration: of the predictions with 80% confidence, 80% are correct. Dots "
    "below the line: overconfident, above: underconfident. Dots of few predictions are off the line by chance: a "
    "perfectly calibrated model with these confidences has an expected calibration error of {chance}% on average."
)
LEAST_CONFIDENCE = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
ABSTAINING = (
    "If people look at the images with a lower confidence, the model answers the rest. Images of none of these classes "
    "can have a high confidence too."
)
FIRST_CHECK = "Check these first for wrong labels, and for images that show several classes or none."


def content(files: RunFiles, metrics: Mapping[str, Metric], watched: bool) -> sections.Content:
    """Sections and figures of a run's page.

    metrics: the task's metrics by key. watched: whether the run is still training; t-SNE is then left out, because it
    is slow.
    """
    files = with_samples(with_predictions(files))
    findings = compute_findings(files, neighbors=not watched)
    drawn = [MetricCurve("accuracy", metrics["accuracy"].title, second=("accuracy_top5", "top 5"))]
    figures = draw_all(plan(findings, files.classes, drawn) | plan_roc(files.predictions))
    hints = sections.hints_list(classifier_hints(findings, files.classes, lowering(files)))
    titled: list[tuple[str, list[Child]]] = [
        ("Summary", [*summary(files, findings), hints, thumbnails(files)]),
        (sections.maps_title(files), maps(files, figures, findings)),
        *sections.training_curves(files, figures, findings.past, drawn),
        ("Errors by class", class_errors(files, figures, findings)),
        ("Misclassified images", galleries(findings)),
        *class_map_section(files, files.classes, captions(files), "those of the highest confidence"),
    ]
    return sections.Content(files, titled, figures, findings.past, sections.displayed_images(files, findings))


def summary(files: RunFiles, findings: Findings) -> list[Child]:
    """Section: the lead sentence, the accuracy with its interval, and the facts of the run."""
    scores, past = findings.summary, findings.past
    parts: list[Child] = [element("p", lead(files, findings), class_="lead")]
    facts: list[tuple[str, str, str]] = []
    if scores:
        edges = sections.interval_text(scores.interval, 2)
        facts.append(("Accuracy", f"{percent(scores.accuracy, 2)}%", edges))
    parts += [sections.fact_cards(files, past, facts), sections.baselines_line(files)]
    if scores:
        effective = effective_images(scores.correct, ids_in(scores.groups))
        note = sections.interval_note(len(scores.correct), scores.groups, effective, bool(past.best_epoch))
        parts.append(element("p", note, class_="small"))
    return parts


def lead(files: RunFiles, findings: Findings) -> str:
    """A sentence on the model, its data and its result, and one on the most frequent confusion."""
    model = str(section(files.recipe, "model").get("name") or "a model")
    weights = str(section(files.recipe, "model").get("weights") or "none")
    data = section(files.provenance, "data")
    counts = section(data, "counts")
    where = str(data.get("path") or section(files.recipe, "data").get("path") or "")
    start = "trained from scratch" if weights == "none" else f"trained from the weights {weights}"
    fitted = FITTED_HEADS.get(str(section(files.recipe, "optim").get("name")))
    if fitted and weights != "none":
        start = f"with the weights {weights}, frozen, and {fitted} on its features"
    many = f" on {int(counts['train']):,} images" if number(counts.get("train")) > 0 else ""
    source = f" of {where}" if where else ""
    classes = f" in {len(files.classes)} classes" if files.classes else ""
    begin = f"{model}, {start}{many}{source}{classes},"
    if findings.summary is None:
        accuracy = findings.past.evaluation["accuracy"]
        known = np.isfinite(accuracy).any()
        reached = f"; best validation accuracy so far {percent(float(np.nanmax(accuracy)))}%" if known else ""
        return f"{begin} is {status(findings.past)} at {epochs_text([findings.past.last_epoch])}{reached}."
    scores = findings.summary
    images = counted(len(scores.correct), "validation image")
    interval = sections.interval_text(scores.interval)
    sentence = f"{begin} classifies {percent(scores.accuracy)}% of {images} correctly ({interval})."
    if not findings.confused:
        return sentence
    truth, predicted, often, _ = findings.confused[0]
    if often == 1:
        wrong = int((~scores.correct).sum())
        what = f"{wrong} images, each a different confusion" if wrong > 1 else "one image"
        return f"{sentence} It misclassifies {what}."
    return f"{sentence} The most frequent confusion is {truth} predicted as {predicted} ({times(often)})."


def classifier_hints(findings: Findings, classes: Sequence[str], lowered: Sequence[str] = ()) -> list[sections.Hint]:
    """Hints on the class with the lowest recall, the most frequent confusion, calibration, and the training curves."""
    scores = findings.summary
    hints: list[sections.Hint] = []
    if scores is None:
        return sections.curve_hints(findings.past)
    predicted = np.flatnonzero(scores.confusion.sum(0))
    if len(predicted) == 1 and np.count_nonzero(scores.classes.support) > 1:
        text = f"Every image is predicted as {classes[predicted[0]]}: the model does not distinguish the classes"
        return [(text, "errors-by-class"), *sections.curve_hints(findings.past)]
    recall = np.where(scores.classes.support >= FEW, scores.classes.recall, np.inf)
    weakest = int(recall.argmin()) if len(recall) else 0
    if np.isfinite(recall[weakest]) and recall[weakest] < scores.accuracy - 0.05:
        of = f"{scores.classes.support[weakest]:,} images"
        text = f"{classes[weakest]} has the lowest recall, {percent(float(recall[weakest]))}% of {of}"
        hints.append((text, "errors-by-class"))
    if findings.confused and findings.confused[0][2] > 1:
        truth, predicted, often, _ = findings.confused[0]
        hints.append(
            (
                f"{truth} predicted as {predicted}, {times(often)}, is the most frequent confusion",
                "misclassified-images",
            )
        )
    if scores.overconfidence.p < 0.05:
        side = "overconfident" if scores.overconfidence.error > 0 else "underconfident"
        text = f"The model is {side}: mean confidence minus accuracy is {signed_text(scores.overconfidence)} points"
        if scores.overconfidence.error < 0 and lowered:
            verb = "lowers" if len(lowered) == 1 else "lower"
            text += f". It was trained with {' and '.join(lowered)}, which {verb} confidences"
        hints.append((text, "errors-by-class"))
    return hints + sections.curve_hints(findings.past)


def lowering(files: RunFiles) -> list[str]:
    """The settings of the recipe, as text, whose targets are less than certain."""
    kinds = (("loss", "smoothing"), ("augment", "mixup"), ("augment", "cutmix"))
    values = [(f"{group}.{name}", number(section(files.recipe, group).get(name), 0.0)) for group, name in kinds]
    return [f"{key} {value:g}" for key, value in values if value > 0]


def class_errors(files: RunFiles, figures: sections.Figures, findings: Findings) -> list[Child]:
    """Section: table of classes, confusion matrix, most confused pairs, calibration."""
    scores = findings.summary
    if scores is None:
        return [missing_note("predictions/val.csv is missing or cannot be read; it is written when training ends.")]
    keys = (np.arange(len(files.classes)), scores.classes.recall, scores.classes.f1, scores.classes.support == 0)
    rows: list[list[Child]] = []
    for index in np.lexsort(keys):  # classes without an image are last
        of_truth, of_prediction = int(scores.classes.support[index]), int(scores.confusion[:, index].sum())
        recall, share = interval_text(scores.recall_intervals[index]), interval_text(scores.precision_intervals[index])
        found = [percent(float(values[index])) for values in (scores.classes.f1, scores.classes.recall)]
        precision = percent(float(scores.classes.precision[index])) if of_prediction else ""
        row: list[Child] = [files.classes[index], sections.bar(float(scores.classes.f1[index]))]
        row += [*found, recall] if of_truth else ["", "", "no images"]
        rows.append([*row, precision, share if of_prediction else "never predicted"])
        rows[-1] += [class_calibration(scores.by_class[index]), f"{of_truth:,}"]
    head = ["Class", "", "F1, %", "Recall, %", "95% interval", "Precision, %", "95% interval", "Overconfidence, points"]
    head.append("Images")
    pairs: list[list[Child]] = [
        [
            files.classes[truth],
            files.classes[predicted],
            f"{often:,}",
            percent(often / scores.classes.support[truth]),
        ]
        for truth, predicted, often in scores.pairs
    ]
    mean, chance = percent(float(scores.confidence.mean())), percent(chance_error(scores.confidence))
    caption = (
        f"Mean confidence is {mean}%, accuracy {percent(scores.accuracy)}%: a difference of "
        f"{signed_text(scores.overconfidence)} points. {CALIBRATION.format(chance=chance)}"
    )
    return [
        element("h3", "Class by class"),
        element("p", CLASS_TABLE, class_="small"),
        table(head, rows, "Class by class", numeric=2, sortable=True),
        element("h3", "Confusion matrix"),
        matrix(files, figures, findings),
        element("h3", "Most confused pairs"),
        table(["Truth", "Prediction", "Count", "Of its images, %"], pairs, "Most confused pairs", numeric=2)
        if pairs
        else element("p", "No image was misclassified."),
        *two_classes(files.predictions, figures, scores.groups),
        element("h3", "Calibration"),
        sections.figure(figures, "calibration", calibration_text(scores), caption),
        element("h3", "Answering only with enough confidence"),
        element("p", ABSTAINING, class_="small"),
        abstaining(scores),
    ]  # fmt: skip


def abstaining(scores: PredictionSummary) -> Html:
    """A table: the share of the images that are answered, and the accuracy of the answers, by the least confidence."""
    rows: list[list[Child]] = []
    ids = ids_in(scores.groups)
    for least in LEAST_CONFIDENCE:
        kept = scores.confidence >= least
        if not kept.any():
            continue
        groups = None if ids is None else np.unique(ids[kept], return_inverse=True)[1]
        accuracy = percent(float(scores.correct[kept].mean()))
        low, high = mean_interval(scores.correct[kept], groups)
        edges = f"{percent(low)} to {percent(high)}" if np.isfinite(low) else "too few groups"
        rows.append([f"{least:.0%}", percent(float(kept.mean())), accuracy, edges, f"{kept.sum():,}"])
    head = ["Confidence at least", "Answered, %", "Accuracy, %", "95% interval", "Images"]
    return table(head, rows, "Answering only with enough confidence", numeric=1)


def signed_text(error: SignedError) -> str:
    """A signed calibration error in percentage points with its interval, such as "+9.1 [+3.2, +15.0]"."""
    value, low, high = (f"{100 * share:+.1f}" for share in error[:3])
    return f"{value} [{low}, {high}]"


def class_calibration(error: SignedError) -> Child:
    """A table cell: the signed calibration error of a class, bold if it differs from 0; "" for too few predictions."""
    if error.p != error.p:
        return ""
    return element("b", signed_text(error)) if error.p < 0.05 else signed_text(error)


def interval_text(interval: np.ndarray) -> str:
    """An interval in percent, such as "81.2 to 90.4"; "" without one."""
    low, high = interval.tolist()
    return f"{percent(low)} to {percent(high)}" if np.isfinite(low) else ""


def matrix(files: RunFiles, figures: sections.Figures, findings: Findings) -> Html:
    """The confusion matrix as a figure, and as data with which the page's script lists the images of a cell."""
    scores, still = findings.summary, MATRIX
    assert scores is not None
    if len(files.classes) > 100:
        still += " The figure has the 100 classes with the most errors."
    drawn = sections.figure(figures, "confusion", confusion_text(scores, files.classes), still, wide=True)
    data = confusion_block("confusion-data", findings, files.classes) if files.samples else None
    return with_live_views([drawn], data, live("confusion", "confusion-data", "items-data") if data else None)


def galleries(findings: Findings) -> list[Child]:
    """The misclassified images with the highest confidence, and images of the most confused pairs of classes."""
    if findings.summary is None:
        return [missing_note("There are no predictions yet.")]
    if findings.summary.correct.all():
        return [element("p", "No validation image was misclassified.")]
    if not findings.wrong:
        return [
            missing_note(
                "No thumbnails of misclassified images are stored in snapshots/mistakes.npz and snapshots/samples.npz."
            )
        ]
    parts: list[Child] = [
        element("h3", "Misclassified with the highest confidence"),
        element("p", FIRST_CHECK, class_="small"),
        gallery(findings.wrong),
    ]  # fmt: skip
    # The image of a pair that occurs once is already in the gallery above.
    repeated = [pair for pair in findings.confused if pair[2] > 1 and pair[3]]
    if repeated:
        parts.append(element("h3", "The most confused pairs"))
    for truth, predicted, often, images in repeated:
        name = [element("b", truth), " predicted as ", element("b", predicted), f", {times(often)}"]
        parts += [element("p", name, class_="row"), gallery(images)]
    return parts


def captions(files: RunFiles) -> dict[int, tuple[tuple[int, ...], bool]]:
    """{row of predictions/val.csv: ((the true class,), whether it is predicted)}."""
    if (found := files.predictions) is None:
        return {}
    pairs = zip(found.truth.tolist(), found.predicted.tolist(), strict=True)
    return {row: ((truth,), truth == predicted) for row, (truth, predicted) in enumerate(pairs)}


def gallery(images: Sequence[GalleryImage]) -> Html:
    """Images in a responsive grid."""
    return element("ul", [element("li", gallery_figure(one)) for one in images], class_="gallery")


def gallery_figure(one: GalleryImage) -> Html:
    """One image with truth, prediction and confidence; the file name as title and alternative text."""
    small = max(one.image.shape[1:]) <= 40
    source = png_uri(png_rgb(one.image.transpose(1, 2, 0)))
    text = f"{one.name}: {one.truth}, predicted as {one.predicted}"
    return element(
        "figure",
        element("img", src=source, alt=text, title=one.name, loading="lazy", class_="pixels" if small else None),
        element("figcaption", element("span", one.truth), element("span", f"as {one.predicted}", class_="wrong"),
                element("span", f"{percent(one.confidence)}% confidence", class_="sure")),
    )  # fmt: skip
