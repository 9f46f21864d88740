"""Self-supervised pre-training: a backbone without labels."""

from typing import TYPE_CHECKING

from ..contract import Metric, ReportFunctions, Task, UseFunctions
from .config import PretrainConfig

if TYPE_CHECKING:
    from ...engine.state import TrainingFunctions


def training() -> "TrainingFunctions":
    """The functions of training; loads torch."""
    from ...engine.state import TrainingFunctions
    from . import build, results

    return TrainingFunctions(build.open_without_leaks, build.build, build.check, results.results, results.preview)


def use() -> UseFunctions:
    """The functions that use a run's weights; loads torch."""
    from . import evaluate

    return UseFunctions(evaluate=evaluate.evaluate_run)


def report() -> ReportFunctions:
    """The functions of the pages; loads matplotlib."""
    from .report import content

    return ReportFunctions(content=content)


TASK = Task(
    name="pretrain",
    does="pre-trains without labels",
    config=PretrainConfig,
    metrics={"knn_accuracy": Metric("k-NN accuracy")},
    learns_from="nothing",
    training=training,
    use=use,
    report=report,
    former_names=("byol",),
    selects_epochs=False,
    probe_setting="pretrain.probe",
)
