"""The configuration of a classifier."""

from typing import Literal

from ...config.checks import Rules, metric_rules, whole_image_rules
from ...config.schema import Config

METRICS = ("accuracy", "accuracy_top5", "loss")


class ClassifyConfig(Config):
    """The common sections; classification adds none."""

    task: Literal["classify"] = "classify"

    def rules(self) -> Rules:
        """Settings that a classifier cannot have."""
        return metric_rules(self, *METRICS) | whole_image_rules(self)
