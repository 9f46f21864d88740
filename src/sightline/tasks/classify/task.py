"""Learner of image classification: augmentation on the device, a forward pass, a loss on the logits."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ...config.schema import Config
from ...data.augment.batch import mix
from ...data.types import Batch
from ...engine.distributed import gather_to_rank0
from ...engine.parts import Arrays
from ...engine.schedules import mixes, training_side
from ...inference.predictor import mirror_mean
from ...models import Classifier
from ...stats.intervals import bootstrap_interval
from ...stats.metrics import accuracy, calibration_error, top_k
from . import losses


@dataclass(eq=False, kw_only=True)
class ClassifyLearner:
    """The learner of a classifier; see `engine.parts.Learner`.

    classes: number of classes K.

    augment: (training images uint8 [N, 3, H, W], sample indices [N], seed, epoch) -> float [N, 3, size, size]; None if
    only evaluated.

    transform: evaluation images uint8 [N, 3, H, W] -> float [N, 3, size, size].

    class_weights: the weight of each class in the loss, float [K], or None.

    forward: the function that computes logits, such as the compiled model; by default `model`.

    feature_mask: bool, one value per image of the split: whether `metrics` returns its penultimate features. None: for
    no image.

    fixed: for a frozen backbone, two functions that return the features [N, D] of all training and of all evaluated
    images; None if features are computed batch by batch.
    """

    config: Config
    model: Classifier
    classes: int
    augment: Callable[[torch.Tensor, torch.Tensor, int, int], torch.Tensor] | None
    transform: Callable[[torch.Tensor], torch.Tensor]
    class_weights: torch.Tensor | None = None
    forward: Callable[[torch.Tensor], torch.Tensor] | None = None
    feature_mask: torch.Tensor | None = None
    fixed: tuple[Callable[[], torch.Tensor], Callable[[], torch.Tensor]] | None = None

    def __post_init__(self) -> None:
        loss = self.config.loss
        focal = {"alpha": loss.alpha, "gamma": loss.gamma} if loss.name == "focal" else {}
        self.loss = partial(losses.LOSSES[loss.name], smoothing=loss.smoothing, **focal)

    def step(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Loss and logits of a training batch: {"loss": scalar, "logits": [N, K]}.

        If several processes share the batch, also "weight", the denominator of the loss of this process's part.
        """
        if self.fixed is not None and batch.labels is not None:
            targets = batch.labels
            logits = self.model.head(self.fixed[0]()[batch.samples])
        else:
            images, targets = self.prepare(batch)
            logits = (self.model if self.forward is None else self.forward)(images)
        found = {"loss": self.loss(logits, targets, weights=self.class_weights), "logits": logits}
        return (
            found if batch.global_samples is None else found | {"weight": losses.mean_over(targets, self.class_weights)}
        )

    @torch.no_grad()
    def prepare(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Augment a batch: images float [N, 3, side, side], labels int64 [N], or float [N, K] after mixup or cutmix."""
        assert batch.labels is not None and self.augment is not None, "this learner was built for evaluation"
        seed, targets = self.config.train.seed, batch.labels
        with torch.autocast(batch.images.device.type, enabled=False):
            images = self.augment(batch.images, batch.samples, seed, batch.epoch)
            side = training_side(self.config, batch.epoch)
            if side != self.config.data.size:
                images = functional.interpolate(images, (side, side), mode="bilinear", antialias=True)
            if mixes(self.config, batch.epoch):
                soft = functional.one_hot(targets, self.classes).float()
                images, targets = mix(images, soft, batch.samples, seed, batch.epoch, self.config.augment)
        return images[batch.overlap :], targets[batch.overlap :]

    def after_step(self, step: int, total_steps: int) -> None:
        """Do nothing; a classifier has no target network to update."""

    def metrics(self, batches: Iterable[Batch]) -> tuple[dict[str, float], Arrays]:
        """(metrics, arrays) of a split: cross-entropy loss, accuracy, top-5 accuracy and calibration error.

        The arrays are: probabilities float32 [N, K]; labels int64 [N]; losses float64 [N]; features float16 [M, D] of
        the M images that `feature_mask` selects.
        """
        found = gather_to_rank0([self.evaluate_batch(batch) for batch in batches])
        if not found:
            return {}, {}
        truth = torch.cat([part["labels"] for part in found])
        logits = torch.cat([part["logits"] for part in found])
        losses = functional.cross_entropy(logits, truth, reduction="none").double()  # of logits: has no limit
        probabilities = logits.softmax(1)
        numbers = classification_numbers(probabilities, truth, losses)
        arrays = {"probabilities": probabilities.numpy(), "labels": truth.numpy(), "losses": losses.numpy()}
        if self.feature_mask is not None:
            arrays["features"] = np.concatenate([part["features"].numpy() for part in found])
        return numbers, arrays

    def evaluate_batch(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Logits and labels of an evaluation batch on the CPU: {"logits": float32 [N, K], "labels": [N]}.

        With `feature_mask` also "features", float16 [M, D], of the M selected images.
        """
        assert batch.labels is not None, "classification needs labels"
        samples = batch.samples
        penultimate = self.fixed[1]()[samples] if self.fixed else self.model.features(self.transform(batch.images))
        outputs = self.model.head(penultimate)
        kept = {}
        if self.feature_mask is not None:
            kept = {"features": penultimate[self.feature_mask[samples]].to("cpu", torch.float16)}
        if self.config.train.flip_test:
            outputs = mirror_mean(outputs, self.model(self.transform(batch.images).flip(3)))
        return {"logits": outputs.float().cpu(), "labels": batch.labels.cpu(), **kept}

    def plain_features(self, batches: Iterable[Batch]) -> tuple[dict[str, float], Arrays]:
        """Penultimate features of images without augmentation: ({}, {"features": float16 [N, D]})."""
        parts = [{"features": self.model.features(self.transform(b.images)).to("cpu", torch.float16)} for b in batches]
        found = [part["features"].numpy() for part in gather_to_rank0(parts)]
        return {}, {"features": np.concatenate(found)} if found else {}  # torch.cat raises for float16 under autocast

    def parameters(self) -> nn.Module:
        """The module that is trained."""
        return self.model


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


def classification_intervals(arrays: Arrays, seed: int) -> dict[str, list[float]]:
    """95 % bootstrap intervals [low, high] of accuracy, top-5 accuracy and loss, by name.

    arrays: as returned by `ClassifyLearner.metrics`.
    """
    probabilities, labels = torch.from_numpy(arrays["probabilities"]), torch.from_numpy(arrays["labels"])
    truth = labels[:, None]
    top = probabilities.topk(min(5, probabilities.shape[1]), 1).indices
    right, among = probabilities.argmax(1) == labels, (top == truth).any(1)
    items = {"accuracy": right.numpy(), "accuracy_top5": among.numpy(), "loss": arrays["losses"]}
    return {f"{name}_interval": list(bootstrap_interval(values, seed=seed)) for name, values in items.items()}


def negative_log_likelihood(probabilities: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Negative logarithm of the probability of each true class, float64 [N], at most 87.5 (the limit of float32).

    probabilities: float32 [N, K]. truth: int64 [N]. Used for ensembles, which average probabilities and have no logits.
    """
    return -probabilities.gather(1, truth[:, None]).squeeze(1).double().clamp_min(1e-38).log()
