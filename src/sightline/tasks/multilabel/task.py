"""The learner of label sets: each class is a separate yes-or-no question."""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from ...config.checks import loss_arguments
from ...engine.parts import Arrays
from ..whole_image.learner import ImageLearner
from .losses import LOSSES, asymmetric
from .metrics import average_precision, decisions


@dataclass(eq=False, kw_only=True)
class MultilabelLearner(ImageLearner):
    """The learner of a classifier of label sets of K classes. Targets: bool [N, K], or float [N, K] after mixing."""

    def __post_init__(self) -> None:
        loss, own = LOSSES[self.config.loss.name], self.config.multilabel
        asymmetry = {name: getattr(own, name) for name in ("positive_gamma", "negative_gamma", "margin")}
        settings = loss_arguments(loss, self.config.loss)
        self.loss = partial(loss, **settings, **asymmetry if loss is asymmetric else {})

    def loss_of(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of `loss.name`, a scalar. outputs: logits [N, K]."""
        return self.loss(outputs, targets.float(), weights=self.class_weights)

    def mean_output(self, outputs: Tensor, mirrored: Tensor) -> Tensor:
        """Logits [N, K] of the mean of the probabilities."""
        return logit_mean(torch.stack([outputs, mirrored]).float())

    def numbers(self, outputs: Tensor, labels: Tensor) -> tuple[dict[str, float], Arrays]:
        """Binary cross-entropy, mean average precision, and macro F1 at probability 0.5.

        Both means are over the classes with a positive image.

        Arrays: label_probabilities float32 [N, K]; labels bool [N, K]; losses float64 [N].
        """
        terms = functional.binary_cross_entropy_with_logits(outputs, labels.float(), reduction="none")
        truth, losses = labels.numpy(), terms.double().mean(1).numpy()
        by_class = average_precision(outputs.numpy(), truth)  # of logits: probabilities of 1 would be equal
        mean = float(by_class[truth.any(0)].mean()) if truth.any() else 0.0
        macro_f1 = float(decisions((outputs > 0).numpy(), truth).macro_f1[0])
        arrays = {"label_probabilities": outputs.sigmoid().numpy(), "labels": truth, "losses": losses}
        return {"loss": float(losses.mean()), "mean_average_precision": mean, "macro_f1": macro_f1}, arrays


def logit_mean(logits: Tensor) -> Tensor:
    """The logits of the mean of probabilities over the first dimension, without rounding near 0 and 1.

    logits: float32 [M, N, K]. Returns [N, K].
    """
    count = math.log(len(logits))
    positive = functional.logsigmoid(logits).logsumexp(0) - count
    negative = functional.logsigmoid(-logits).logsumexp(0) - count
    return positive - negative
