"""The configuration of a classifier."""

from typing import Literal

from ...config.checks import Rules, metric_rules, whole_image_rules
from ...config.schema import Config
from ..contract import Metric

METRICS = {
    "accuracy": Metric("Accuracy"),
    "accuracy_top5": Metric("Top-5 accuracy"),
    "loss": Metric("Validation loss", lower_is_better=True),
}


class ClassifyConfig(Config):
    """The common sections; classification adds none."""

    task: Literal["classify"] = "classify"

    def rules(self) -> Rules:
        """Settings that are invalid for a classifier."""
        return metric_rules(self, *METRICS) | whole_image_rules(self)
