"""Semantic segmentation: one class a pixel."""

from typing import TYPE_CHECKING

from ..contract import Metric, ReportFunctions, Task, UseFunctions
from .config import SegmentConfig

if TYPE_CHECKING:
    from ...engine.state import TrainingFunctions


def load_training() -> "TrainingFunctions":
    """The functions of training; loads torch."""
    from ...engine.state import TrainingFunctions
    from . import build, conclude

    return TrainingFunctions(build.open_source, build.build, build.check, conclude.results, conclude.preview)


def load_use() -> UseFunctions:
    """The functions that use a run's weights; loads torch."""
    from . import evaluate, export, predict, serve

    return UseFunctions(
        evaluate=evaluate.evaluate,
        graph=export.SegmenterExport,
        predict=predict.predict,
        serve=serve.served,
        load_masks=evaluate.load_segmenter,
    )


def load_report() -> ReportFunctions:
    """The functions of the pages; loads matplotlib."""
    from . import compare, report

    return ReportFunctions(content=report.content, comparison=compare.COMPARISON)


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
)
