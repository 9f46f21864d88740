"""Image classification: one label an image."""

from typing import TYPE_CHECKING

from ..contract import Metric, ReportFunctions, Task, UseFunctions
from .config import ClassifyConfig

if TYPE_CHECKING:
    from ...engine.state import TrainingFunctions


def training() -> "TrainingFunctions":
    """The functions of training; loads torch."""
    from ...engine.state import TrainingFunctions
    from . import build, results

    return TrainingFunctions(build.open_labeled, build.build, build.check, results.results, results.preview)


def use() -> UseFunctions:
    """The functions that use a run's weights; loads torch."""
    from . import evaluate

    return UseFunctions(evaluate=evaluate.evaluate)


def report() -> ReportFunctions:
    """The functions of the pages; loads matplotlib."""
    from .report import content

    return ReportFunctions(content=content)


TASK = Task(
    name="classify",
    does="classifies images",
    config=ClassifyConfig,
    metrics={
        "accuracy": Metric("Accuracy"),
        "accuracy_top5": Metric("Top-5 accuracy"),
        "loss": Metric("Validation loss", lower_is_better=True),
    },
    learns_from="labels",
    training=training,
    use=use,
    report=report,
)
