"""Self-supervised pre-training: a backbone without labels."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..contract import Metric, ReportFunctions, Task, UseFunctions
from .config import PretrainConfig

if TYPE_CHECKING:
    from ...engine.state import TrainingFunctions


def load_training() -> "TrainingFunctions":
    """The functions of training; loads torch."""
    from ...engine.state import TrainingFunctions
    from . import build, results

    return TrainingFunctions(build.open_without_leaks, build.build, build.check, results.results, results.preview)


def load_use() -> UseFunctions:
    """The functions that use a run's weights; loads torch."""
    from . import evaluate, predict

    return UseFunctions(evaluate=evaluate.evaluate_run, predict=predict.predict)


def load_report() -> ReportFunctions:
    """The functions of the pages; loads matplotlib."""
    from . import compare, report

    return ReportFunctions(content=report.content, comparison=compare.COMPARISON)


def load_serve() -> Callable[..., Any]:
    """What turns a run into a served model; loads torch."""
    from .serve import served

    return served


TASK = Task(
    name="pretrain",
    does="pre-trains without labels",
    config=PretrainConfig,
    metrics={"knn_accuracy": Metric("k-NN accuracy")},
    learns_from="nothing",
    predicts="features",
    training=load_training,
    use=load_use,
    report=load_report,
    serve=load_serve,
    former_names=("byol",),
    selects_epochs=False,
    probe_setting="pretrain.probe",
    unsupported={
        "export": (
            "a pre-training without labels has no classes",
            "train a classifier on it first: sightline train ... --model.weights RUN",
        )
    },
)
