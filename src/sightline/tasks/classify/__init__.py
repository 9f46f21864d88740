"""Image classification: one label an image."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

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
    from . import evaluate, predict

    return UseFunctions(evaluate=evaluate.evaluate, predict=predict.predict)


def load_report() -> ReportFunctions:
    """The functions of the pages; loads matplotlib."""
    from . import compare, report

    return ReportFunctions(content=report.content, comparison=compare.COMPARISON)


def load_export() -> Callable[..., Any]:
    """What an exported graph is made of; loads torch."""
    from .export import ClassifierExport

    return ClassifierExport


def load_serve() -> Callable[..., Any]:
    """What turns a run into a served model; loads torch."""
    from .serve import served

    return served


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
    export=load_export,
    serve=load_serve,
)
