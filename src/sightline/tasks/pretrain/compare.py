"""Comparison of pre-training runs: k-NN accuracy, spread and effective rank, without paired intervals."""

from collections.abc import Sequence

from ...insight.curves import MetricCurve
from ...report.compare.kinds import ComparedRun, ImageResults, TaskComparison
from ...report.formatting import section
from ...report.run import RunFiles

NO_ITEMS = (
    "Pre-training runs have no per-image predictions, so there are no paired intervals, and no run is called better. "
    "To compare the features, fine-tune all runs on the same labels: --model.weights RUN, or sightline transfer."
)
COLLAPSE = (
    MetricCurve("feature_std", "Spread of the projections, 0 to 1", False, True, 3, "evaluated images"),
    MetricCurve("effective_rank", "Effective rank of the features", False, True, 1, "evaluated images"),
)
"""Curves of the measures that show whether the features have collapsed."""


def image_results(files: RunFiles) -> tuple[ImageResults | None, str, str]:
    """(None, why there are no results per image, "" for the remedy): pre-training runs predict no classes."""
    return None, "has no per-image predictions", ""


def other_images(entries: Sequence[ComparedRun]) -> list[str]:
    """Notes on runs whose k-NN accuracy was measured on different images than that of the first run, and cannot be
    compared with it."""
    digests = [section(one.files.provenance, "data").get("evaluated") for one in entries]
    return [
        f"The k-NN accuracies of {entries[0].name} and {one.name} are of different images or image sizes."
        for one, digest in zip(entries, digests, strict=True)
        if digest != digests[0]
    ]


def comparison() -> TaskComparison:
    """Return the `TaskComparison` of pre-training runs: how several runs are compared."""
    return TaskComparison(
        field="knn_accuracy",
        title="k-NN accuracy",
        image_results=image_results,
        no_pairs=NO_ITEMS,
        columns=(("feature_std", "Spread"), ("effective_rank", "Effective rank")),
        curves=COLLAPSE,
        notes=other_images,
    )
