"""Semantic segmentation: one class a pixel."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..contract import Metric, ReportFunctions, Task, UseFunctions
from .config import SegmentConfig

if TYPE_CHECKING:
    from ...engine.state import TrainingFunctions


def load_training() -> "TrainingFunctions":
    """The functions of training; loads torch."""
    from ...engine.state import TrainingFunctions
    from . import build, results

    return TrainingFunctions(build.open_source, build.build, build.check, results.results, results.preview)


def load_use() -> UseFunctions:
    """The functions that use a run's weights; loads torch."""
    from . import evaluate, predict

    return UseFunctions(
        evaluate=evaluate.evaluate,
        predict=predict.predict,
        load_masks=evaluate.load_segmenter,
    )


def load_report() -> ReportFunctions:
    """The functions of the pages; loads matplotlib."""
    from . import compare, report

    return ReportFunctions(content=report.content, comparison=compare.COMPARISON)


def load_export() -> Callable[..., Any]:
    """What an exported graph is made of; loads torch."""
    from .export import SegmenterExport

    return SegmenterExport


def load_serve() -> Callable[..., Any]:
    """What turns a run into a served model; loads torch."""
    from .serve import served

    return served


TASK = Task(
    name="segment",
    does="segments images",
    config=SegmentConfig,
    metrics={
        "mean_iou": Metric("Mean IoU"),
        "pixel_accuracy": Metric("Pixel accuracy"),
        "loss": Metric("Validation loss", lower_is_better=True),
    },
    learns_from="masks",
    predicts="mask",
    training=load_training,
    use=load_use,
    report=load_report,
    export=load_export,
    serve=load_serve,
)
