"""The configuration of a segmenter."""

from typing import Literal

from ...config.checks import Rules, metric_rules, no_head_rules
from ...config.schema import Config, Train
from ..contract import Metric

METRICS = {
    "mean_iou": Metric(
        "Mean IoU",
        meaning="Mean over the classes of TP / (TP + FP + FN), pixels counted over all images; classes that occur "
        "neither in the true nor in the predicted masks, and ignored pixels, are left out.",
    ),
    "pixel_accuracy": Metric(
        "Pixel accuracy", meaning="Share of the pixels, without ignored ones, whose class is the true one."
    ),
    "loss": Metric(
        "Validation loss",
        lower_is_better=True,
        percent=False,
        meaning="Mean over the pixels of the negative logarithm of the probability of the true class.",
    ),
}


class SegmentConfig(Config):
    """The configuration of a segmenter: the sections that all tasks have, and none of its own."""

    task: Literal["segment"] = "segment"
    train: Train = Train(best_metric="mean_iou")

    def rules(self) -> Rules:
        """Rules for settings that are invalid for a segmenter or have no effect on it: error message -> whether the
        configuration violates the rule."""
        data = self.data
        return {
            **metric_rules(self, *METRICS, "epoch"),
            **no_head_rules(self),
            "data.fit, data.filter and data.eval_crop have no effect on segmentation, which does not resize images": (
                (data.fit, data.filter, data.eval_crop) != ("squash", "bilinear", 1.0)
            ),
            "data.on_bad_image skip is not available for segmentation; repair invalid pairs": data.on_bad_image
            == "skip",
        }
