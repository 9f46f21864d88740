"""The configuration of a classifier."""

from typing import ClassVar, Literal

from ...config.checks import Rules, class_rules, head_rules, metric_rules, whole_image_rules
from ...config.schema import Config
from ..contract import Metric

METRICS = {
    "accuracy": Metric("Accuracy", meaning="Share of the images whose most probable class is the true one."),
    "accuracy_top5": Metric(
        "Top-5 accuracy", meaning="Share of the images whose true class is among the five most probable ones."
    ),
    "loss": Metric(
        "Validation loss",
        lower_is_better=True,
        percent=False,
        meaning="Mean over the images of the negative logarithm of the probability of the true class.",
    ),
}


class ClassifyConfig(Config):
    """The configuration of a classifier: the sections that all tasks have, and none of its own."""

    fits_heads: ClassVar[bool] = True

    task: Literal["classify"] = "classify"

    def rules(self) -> Rules:
        """Rules for settings that are invalid for a classifier: error message -> whether the configuration violates
        the rule."""
        metrics = metric_rules(self, *METRICS, "epoch")
        return metrics | whole_image_rules(self) | class_rules(self) | head_rules(self)
