"""Comparison of pre-training runs: k-NN accuracy and spread, without paired intervals."""

from collections.abc import Sequence

from ...insight.curves import MetricCurve
from ...report.compare.kinds import ComparedRun, ItemResults, TaskComparison
from ...report.run import RunFiles
from ...report.words import section

NO_ITEMS = (
    "A pre-training has features and no prediction for single images, so there is no paired interval, and no run is "
    "called better. To compare the features, train all runs further on the same labels: --model.weights RUN, or "
    "sightline transfer."
)
COLLAPSE = (
    MetricCurve("feature_std", "Spread of the projections, 0 to 1", False, True, 3, "evaluated images"),
    MetricCurve("effective_rank", "Effective rank of the features", False, True, 1, "evaluated images"),
)
"""Curves that show a collapse of the features."""


def items(files: RunFiles) -> tuple[ItemResults | None, str, str]:
    """A pre-training run has no results for single images."""
    return None, "has features and no prediction for single images", ""


def other_images(entries: Sequence[ComparedRun]) -> list[str]:
    """Sentences on runs whose k-NN accuracy was measured on other images than that of the first."""
    first = entries[0]
    others = [one for one in entries[1:] if evaluated(first) != evaluated(one)]
    return [
        f"The k-NN accuracies of {first.name} and {one.name} are of different images or image sizes." for one in others
    ]


def evaluated(entry: ComparedRun) -> object:
    """The digest of the images on which a pre-training was evaluated."""
    return section(entry.files.provenance, "data").get("evaluated")


def comparison() -> TaskComparison:
    """Return how pre-training runs are compared."""
    return TaskComparison(
        field="knn_accuracy",
        title="k-NN accuracy",
        items=items,
        no_pairs=NO_ITEMS,
        columns=(("feature_std", "Spread"), ("effective_rank", "Effective rank")),
        curves=COLLAPSE,
        notes=other_images,
    )
