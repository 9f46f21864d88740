"""Comparison of classifiers: accuracy on the same images, McNemar's exact test, F1 and recall of each class."""

import shlex
from collections.abc import Sequence

import numpy as np

from ...report.compare.items_page import galleries
from ...report.compare.kinds import ComparedRun, ItemResults, PairedNumbers, TaskComparison
from ...report.findings import seed_of
from ...report.run import RunFiles, with_predictions, with_samples
from ...stats.intervals import Interval, bootstrap_interval, mcnemar, paired_bootstrap
from ...stats.paired import paired_classes


def read(files: RunFiles) -> RunFiles:
    """Add predictions and thumbnails."""
    return with_samples(with_predictions(files))


def items(files: RunFiles) -> tuple[ItemResults | None, str, str]:
    """(the prediction for each validation image, why there are none, the remedy)."""
    found = files.predictions
    if found is None:
        why = next((line for line in files.missing if line.startswith("predictions/val.csv")), "predictions/val.csv")
        cure = f"`sightline evaluate {shlex.quote(str(files.path))}` writes its predictions again"
        return None, f"has no predictions to compare ({why})", cure
    rows = np.arange(len(found.names))
    return ItemResults(found.names, found.classes, found.truth, found.predicted, found.confidence, rows), "", ""


def result(results: ItemResults, files: RunFiles) -> tuple[float, Interval | None]:
    """Accuracy and its interval, as on the run's own page."""
    return float(results.correct.mean()), bootstrap_interval(results.correct, seed=seed_of(files))


def paired(a: ItemResults, b: ItemResults) -> PairedNumbers:
    """Difference in accuracy, McNemar's p, agreement, differences of each class."""
    difference, interval = paired_bootstrap(a.correct, b.correct)
    recall, f1 = paired_classes(a.truth, a.predicted, b.predicted, len(a.classes))
    p = mcnemar(a.correct, b.correct)
    return PairedNumbers(difference, interval, p, agreement_counts(a, b), {"F1": f1, "recall": recall})


def agreement_counts(a: ItemResults, b: ItemResults) -> dict[str, int]:
    """Counts of images by which classifier is correct, and of equal predictions."""
    return {
        "both right": int((a.correct & b.correct).sum()),
        "only first right": int((a.correct & ~b.correct).sum()),
        "only second right": int((b.correct & ~a.correct).sum()),
        "both wrong": int((~a.correct & ~b.correct).sum()),
        "same answer": int((a.predicted == b.predicted).sum()),
    }


def ensembles(entries: Sequence[ComparedRun]) -> list[str]:
    """A sentence on runs whose predictions are averaged over epochs."""
    members = [f"{one.name} is the mean of {len(one.past.ensemble)} epochs" for one in entries if one.past.ensemble]
    return [f"{'; '.join(members)}: each prediction costs that many forward passes."] if members else []


COMPARISON = TaskComparison(
    field="accuracy",
    title="Accuracy",
    items=items,
    read=read,
    result=result,
    paired=paired,
    test="p: McNemar's exact test on the images that only one of the two classifies correctly.",
    class_note="Sorted by the difference in F1; the recall is on the same images. ",
    agreement={
        "both right": "Both right",
        "only first right": "Only {first}",
        "only second right": "Only this run",
        "both wrong": "Both wrong",
        "same answer": "Same answer",
    },
    images=galleries,
    notes=ensembles,
)
