"""The configuration of a classifier of label sets."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat

from ...config.checks import Rules, class_rules, head_rules, metric_rules, whole_image_rules
from ...config.fields import Section
from ...config.schema import Config, Data, Loss, Train
from ..contract import Metric

METRICS = {
    "mean_average_precision": Metric(
        "Mean average precision",
        meaning="Mean over the classes of the area under the precision-recall curve of the images, ranked by their "
        "probability of the class.",
    ),
    "macro_f1": Metric(
        "Macro F1 at threshold 0.5",
        meaning="Mean over the classes with a positive image of F1, the harmonic mean of precision and recall, of the "
        "labels with a probability of 0.5 or more.",
    ),
    "loss": Metric(
        "Validation loss",
        lower_is_better=True,
        percent=False,
        meaning="Mean over images and classes of the binary cross-entropy.",
    ),
}


class Multilabel(Section):
    """Settings of classifiers of label sets."""

    threshold_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Fraction of the training images held out from training to choose the thresholds of the classes. 0: no image is
    held out, and every threshold is 0.5."""
    positive_gamma: NonNegativeFloat = 0.0
    """Exponent of the asymmetric loss for positive labels."""
    negative_gamma: NonNegativeFloat = 4.0
    """Exponent of the asymmetric loss for negative labels."""
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Probability below which a negative label has no asymmetric loss."""


class MultilabelConfig(Config):
    """The common sections and `multilabel`."""

    fits_heads: ClassVar[bool] = True

    task: Literal["multilabel"] = "multilabel"
    data: Data = Data(labels="several")
    loss: Loss = Loss(name="binary_cross_entropy")
    train: Train = Train(best_metric="mean_average_precision")
    multilabel: Multilabel = Multilabel()

    def rules(self) -> Rules:
        """Settings that are invalid for a classifier of label sets, or have no effect on it."""
        return {
            **metric_rules(self, *METRICS, "epoch"),
            **whole_image_rules(self),
            **class_rules(self),
            **head_rules(self),
            "train.ensemble is for classification": self.train.ensemble,
            "data.labels one is for classification": self.data.labels == "one",
        }
