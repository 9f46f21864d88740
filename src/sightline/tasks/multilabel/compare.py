"""Comparison of multi-label runs: mean average precision and exact matches on the same images."""

import shlex

import numpy as np

from ...report.compare.kinds import ImageResults, PairedNumbers, TaskComparison
from ...report.compare.paired_sections import galleries
from ...report.run import RunFiles
from ...stats.intervals import Interval
from .metrics import paired_precision, precision_intervals
from .predictions import read_label_sets


def image_results(files: RunFiles) -> tuple[ImageResults | None, str, str]:
    """(the predictions for each validation image or None, why they are missing, what to do)."""
    files, found = read_label_sets(files)
    if found is None:
        name = f"predictions/{files.split}.csv"
        why = next((line for line in files.missing if line.startswith(name)), name)
        cure = f"`sightline evaluate {shlex.quote(str(files.path))} --split {files.split}` writes its predictions again"
        return None, f"has no predictions to compare ({why})", cure
    highest, rows = found.probabilities.max(1), np.arange(len(found.names))
    sets = (found.truth, found.predicted, highest, rows, found.probabilities)
    return ImageResults(found.names, found.classes, *sets, files.group_ids(found.names)), "", ""


def result(results: ImageResults, files: RunFiles) -> tuple[float, Interval | None]:
    """Mean average precision and its 95 % interval, equal to those in the run's own report."""
    assert results.scores is not None
    found = precision_intervals(results.scores, results.truth, results.groups)
    return found.mean, found.interval if np.isfinite(found.interval).all() else None


def paired(a: ImageResults, b: ImageResults) -> PairedNumbers:
    """Compare two runs on the same images: mean average precision, exact matches, average precision by class."""
    assert a.scores is not None and b.scores is not None
    difference, classes = paired_precision(a.scores, b.scores, a.truth, a.groups)
    agreement = {
        "both right": int((a.correct & b.correct).sum()),
        "only first right": int((a.correct & ~b.correct).sum()),
        "only second right": int((~a.correct & b.correct).sum()),
        "both wrong": int((~a.correct & ~b.correct).sum()),
        "same labels": int((a.predicted == b.predicted).all(1).sum()),
    }
    return PairedNumbers(difference, agreement, {"average precision": classes})


def comparison() -> TaskComparison:
    """Return the `TaskComparison` of multi-label runs."""
    return TaskComparison(
        field="mean_average_precision",
        title="Mean average precision",
        image_results=image_results,
        read=lambda files: read_label_sets(files)[0],
        result=result,
        paired=paired,
        test="p: t test with the standard error of a paired jackknife over images or their groups.",
        class_note="Sorted by the difference in average precision. ",
        agreement={
            "both right": "Both exactly right",
            "only first right": "Only {first} exactly right",
            "only second right": "Only this run exactly right",
            "both wrong": "Both wrong",
            "same labels": "Same labels predicted",
        },
        images=galleries,
    )
