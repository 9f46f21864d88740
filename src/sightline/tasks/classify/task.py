"""The learner of image classification: a loss on the logits, and metrics of one label per image."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ...config.checks import loss_arguments
from ...engine.parts import Arrays
from ...inference.predictor import mirror_mean
from ...stats.groups import Groups, ids_in
from ...stats.intervals import effective_images, mean_interval
from ...stats.metrics import accuracy, calibration_error, top_k
from ...stats.ranking import area_under_curve
from ..whole_image.learner import ImageLearner
from . import losses


@dataclass(eq=False, kw_only=True)
class ClassifyLearner(ImageLearner):
    """The learner of a classifier of K classes. Targets: class indices int64 [N], or float [N, K] after mixing."""

    def __post_init__(self) -> None:
        loss = losses.LOSSES[self.config.loss.name]
        self.loss = partial(loss, **loss_arguments(loss, self.config.loss))

    def loss_of(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of `loss.name`, a scalar. outputs: logits [N, K]."""
        return self.loss(outputs, targets, weights=self.class_weights)

    def loss_weight(self, targets: Tensor) -> Tensor:
        """The denominator of the loss: the number of targets, or with class weights the sum of theirs."""
        return losses.mean_over(targets, self.class_weights)

    def soft_targets(self, labels: Tensor) -> Tensor:
        """One-hot labels float [N, K]."""
        return functional.one_hot(labels, self.outputs).float()

    def mean_output(self, outputs: Tensor, mirrored: Tensor) -> Tensor:
        """Logits [N, K] of the mean of the probabilities."""
        return mirror_mean(outputs, mirrored)

    def numbers(self, outputs: Tensor, labels: Tensor) -> tuple[dict[str, float], Arrays]:
        """Cross-entropy loss, accuracy, top-5 accuracy and calibration error.

        Arrays: probabilities float32 [N, K]; labels int64 [N]; losses float64 [N].
        """
        terms = functional.cross_entropy(outputs, labels, reduction="none").double()  # of logits: has no limit
        probabilities = outputs.softmax(1)
        numbers = classification_numbers(probabilities, labels, terms)
        return numbers, {"probabilities": probabilities.numpy(), "labels": labels.numpy(), "losses": terms.numpy()}


def classification_numbers(probabilities: torch.Tensor, truth: torch.Tensor, losses: torch.Tensor) -> dict[str, float]:
    """Mean loss, accuracy, top-5 accuracy and calibration error.

    probabilities: [N, K]. truth: int64 [N]. losses: [N].
    """
    confidence, predicted = probabilities.max(1)
    return {
        "loss": float(losses.mean()),
        "accuracy": accuracy(probabilities, truth),
        "accuracy_top5": top_k(probabilities, truth, min(5, probabilities.shape[1])),
        "calibration_error": calibration_error(confidence.numpy(), (predicted == truth).numpy()),
    }


def classification_intervals(arrays: Arrays, groups: Groups | None) -> dict[str, Any]:
    """95 % intervals [low, high] of accuracy, top-5 accuracy and loss, by name, and the facts of the groups; `auc` with
    its interval for two classes. The top-5 accuracy of at most five classes, which is always 1, has no interval.

    arrays: as returned by `ClassifyLearner.metrics`. groups: of the images, or None.
    """
    probabilities, labels = torch.from_numpy(arrays["probabilities"]), torch.from_numpy(arrays["labels"])
    items = {"accuracy": (probabilities.argmax(1) == labels).numpy(), "loss": arrays["losses"]}
    if probabilities.shape[1] > 5:
        items["accuracy_top5"] = (probabilities.topk(5, 1).indices == labels[:, None]).any(1).numpy()
    ids = ids_in(groups)
    found: dict[str, Any] = {f"{name}_interval": list(mean_interval(values, ids)) for name, values in items.items()}
    found |= auc_numbers(arrays["probabilities"], arrays["labels"], groups)
    return found | (groups.facts(effective_images(items["accuracy"], ids)) if groups else {})


def auc_numbers(probabilities: np.ndarray, truth: np.ndarray, groups: Groups | None) -> dict[str, Any]:
    """`auc`, the area under the ROC curve, and `auc_interval`, if there are two classes and both have images.

    probabilities: float [N, K]. truth: int64 [N].
    """
    if probabilities.shape[1] != 2 or not 0 < int(truth.sum()) < len(truth):
        return {}
    area, interval = area_under_curve(probabilities[:, 1], truth == 1, ids_in(groups))
    return {"auc": area, "auc_interval": list(interval)}


def negative_log_likelihood(probabilities: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Negative logarithm of the probability of each true class, float64 [N], at most 87.5 (the limit of float32).

    probabilities: float32 [N, K]. truth: int64 [N]. Used for ensembles, which average probabilities and have no logits.
    """
    return -probabilities.gather(1, truth[:, None]).squeeze(1).double().clamp_min(1e-38).log()
