"""Comparison of classifiers: accuracy on the same images, F1 and recall of each class."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...report.compare.kinds import ComparedRun, ImageResults, PairedNumbers, TaskComparison
from ...report.compare.paired_sections import galleries
from ...report.run import RunFiles, read_predictions, with_predictions, with_samples
from ...stats.intervals import Interval, mean_interval
from ...stats.nested import paired_difference
from ...stats.paired import paired_classes


def read(files: RunFiles) -> RunFiles:
    """Return the files of a run together with its validation predictions and thumbnails."""
    return with_samples(with_predictions(files))


def image_results(files: RunFiles) -> tuple[ImageResults | None, str, str]:
    """(the predictions for each validation image or None, why they are missing, what to do)."""
    found = files.predictions
    if found is None:
        name = f"predictions/{files.split}.csv"
        why = next((line for line in files.missing if line.startswith(name)), name)
        cure = f"`sightline evaluate {shlex.quote(str(files.path))} --split {files.split}` writes its predictions again"
        return None, f"has no predictions to compare ({why})", cure
    rows = np.arange(len(found.names))
    sets = (found.truth, found.predicted, found.confidence, rows)
    return ImageResults(found.names, found.classes, *sets, groups=files.group_ids(found.names)), "", ""


def image_scores(run: Path, split: str) -> tuple[tuple[str, ...], np.ndarray, str]:
    """(names of the images of a split; float64 [N], 1 for a correct prediction, else 0; "")."""
    found = read_predictions(run / "predictions" / f"{split}.csv")
    return found.names, (found.predicted == found.truth).astype(np.float64), ""


def result(results: ImageResults, files: RunFiles) -> tuple[float, Interval | None]:
    """Validation accuracy and its 95 % interval."""
    interval = mean_interval(results.correct, results.groups)
    return float(results.correct.mean()), interval if np.isfinite(interval).all() else None


def paired(a: ImageResults, b: ImageResults) -> PairedNumbers:
    """Compare two classifiers on the same images: accuracy, agreement, F1 and recall by class."""
    difference = paired_difference(a.correct, b.correct, a.groups)
    recall, f1 = paired_classes(a.truth, a.predicted, b.predicted, len(a.classes), a.groups)
    agreement = {
        "both right": int((a.correct & b.correct).sum()),
        "only first right": int((a.correct & ~b.correct).sum()),
        "only second right": int((b.correct & ~a.correct).sum()),
        "both wrong": int((~a.correct & ~b.correct).sum()),
        "same answer": int((a.predicted == b.predicted).sum()),
    }
    return PairedNumbers(difference, agreement, {"F1": f1, "recall": recall})


def ensembles(entries: Sequence[ComparedRun]) -> list[str]:
    """A note that lists the runs that are ensembles of several epochs; empty if there are none."""
    members = [f"{one.name} is the mean of {len(one.past.ensemble)} epochs" for one in entries if one.past.ensemble]
    return [f"{'; '.join(members)}: each prediction costs that many forward passes."] if members else []


def comparison() -> TaskComparison:
    """Return the `TaskComparison` of classifiers: how several runs are compared."""
    return TaskComparison(
        field="accuracy",
        title="Accuracy",
        image_results=image_results,
        read=read,
        result=result,
        paired=paired,
        test="p: paired t test over images or their groups.",
        class_note="Sorted by the difference in F1; the recall is on the same images. ",
        agreement={
            "both right": "Both correct",
            "only first right": "Only {first} correct",
            "only second right": "Only this run correct",
            "both wrong": "Both wrong",
            "same answer": "Same prediction",
        },
        images=galleries,
        notes=ensembles,
    )
