"""Image classification: one label an image."""

from typing import TYPE_CHECKING

from ..contract import Metric, ReportFunctions, Task, UseFunctions
from .config import ClassifyConfig

if TYPE_CHECKING:
    from ...engine.state import TrainingFunctions


def load_training() -> "TrainingFunctions":
    """The functions of training; loads torch."""
    from ...engine.state import TrainingFunctions
    from . import build, results

    return TrainingFunctions(build.open_labeled, build.build, build.check, results.results, results.preview)


def load_use() -> UseFunctions:
    """The functions that use a run's weights; loads torch."""
    from . import evaluate, export, predict, serve

    return UseFunctions(
        evaluate=evaluate.evaluate, graph=export.ClassifierExport, predict=predict.predict, serve=serve.served
    )


def load_report() -> ReportFunctions:
    """The functions of the pages; loads matplotlib."""
    from . import compare, report

    return ReportFunctions(content=report.content, comparison=compare.COMPARISON)


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
    predicts="label",
    training=load_training,
    use=load_use,
    report=load_report,
)
