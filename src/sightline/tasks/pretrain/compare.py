"""How pre-training runs are compared: by k-NN accuracy and spread, without a winner."""

from collections.abc import Sequence

from ...report.compare.kinds import ComparedRun, Curve, ItemResults, TaskComparison
from ...report.run import RunFiles
from ...report.words import section

NO_ITEMS = (
    "A pre-training leaves features and no answer for each image, so there is no paired interval, and no run is called "
    "better. What the features are worth shows when all are trained further on the same labels: --model.weights RUN, "
    "or sightline transfer."
)


def items(files: RunFiles) -> tuple[ItemResults | None, str, str]:
    """A pre-training run has no result for each image."""
    return None, "leaves features, and no answer for each image", ""


def other_images(entries: Sequence[ComparedRun]) -> list[str]:
    """Sentences on runs whose k-NN accuracies were measured on other images than the first one's."""
    first = entries[0]
    others = [one for one in entries[1:] if evaluated(first) != evaluated(one)]
    return [
        f"The k-NN accuracies of {first.name} and {one.name} are of different images or image sizes." for one in others
    ]


def evaluated(entry: ComparedRun) -> object:
    """The digest of the images by which a pre-training was measured."""
    return section(entry.files.provenance, "data").get("evaluated")


COMPARISON = TaskComparison(
    field="knn_accuracy",
    name="k-NN accuracy",
    title="k-NN accuracy",
    does="pre-trains without labels",
    items=items,
    no_pairs=NO_ITEMS,
    columns=(("feature_std", "Spread"), ("effective_rank", "Effective rank")),
    curves=(
        Curve("curve-feature-std", "evaluation", "feature_std", "Spread of the projections, 0 to 1", 1.0),
        Curve("curve-effective-rank", "evaluation", "effective_rank", "Effective rank of the features", 1.0),
    ),
    notes=other_images,
)
