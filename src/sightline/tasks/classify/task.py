"""Image classification: augment on the device, one forward pass, a loss on the logits."""

from collections.abc import Callable, Iterable
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


class ClassifyLearner:
    """The classification task.

    classes: how many there are.
    augment: training images uint8 [N, 3, H, W], samples [N], seed, epoch -> float [N, 3, size, size].
    transform: evaluation images uint8 [N, 3, H, W] -> float [N, 3, size, size].
    class_weights: float [K] or None, the weight of each class in the loss.
    forward: what runs the model; `model` itself, or its compiled form.
    feature_mask: bool [split], the evaluated images whose penultimate features `metrics` returns; None: of none.
    fixed: of a frozen backbone, (the features [N, D] of the training images, of the evaluated ones), computed at the
    first call; None: they are computed for each batch.
    """

    def __init__(
        self,
        config: Config,
        *,
        model: Classifier,
        classes: int,
        augment: Callable[[torch.Tensor, torch.Tensor, int, int], torch.Tensor] | None,
        transform: Callable[[torch.Tensor], torch.Tensor],
        class_weights: torch.Tensor | None = None,
        forward: Callable[[torch.Tensor], torch.Tensor] | None = None,
        feature_mask: torch.Tensor | None = None,
        fixed: tuple[Callable[[], torch.Tensor], Callable[[], torch.Tensor]] | None = None,
    ):
        self.config, self.model, self.augment, self.transform = config, model, augment, transform
        self.class_weights, self.feature_mask, self.fixed = class_weights, feature_mask, fixed
        self.forward, self.classes = model if forward is None else forward, classes
        loss = config.loss
        focal = {"alpha": loss.alpha, "gamma": loss.gamma} if loss.name == "focal" else {}
        self.loss = partial(losses.LOSSES[loss.name], smoothing=loss.smoothing, **focal)

    def step(self, batch: Batch) -> dict[str, torch.Tensor]:
        """{"loss": scalar, "logits": [N, K]} of a training batch; of a part of one also "weight", what the loss is a
        mean over."""
        if self.fixed is not None and batch.labels is not None:
            targets = batch.labels
            logits = self.model.head(self.fixed[0]()[batch.samples])
        else:
            images, targets = self.prepare(batch)
            logits = self.forward(images)
        found = {"loss": self.loss(logits, targets, weights=self.class_weights), "logits": logits}
        return (
            found if batch.global_samples is None else found | {"weight": losses.mean_over(targets, self.class_weights)}
        )

    @torch.no_grad()
    def prepare(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """What the model trains on: images float [N, 3, side, side], labels int64 [N] or, mixed, float [N, K]."""
        assert batch.labels is not None and self.augment is not None, "this task was built for evaluation"
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
        """Nothing: a classifier has no moving target."""

    def metrics(self, batches: Iterable[Batch]) -> tuple[dict[str, float], Arrays]:
        """Loss (plain cross-entropy), accuracy, top-5 accuracy and calibration error of a split.

        Arrays: probabilities float32 [N, K]; labels int64 [N]; losses float64 [N]; features float16 [M, D] of
        `feature_mask`.
        """
        found = gather_to_rank0([self.evaluate_batch(batch) for batch in batches])
        if not found:
            return {}, {}
        truth = torch.cat([part["labels"] for part in found])
        logits = torch.cat([part["logits"] for part in found])
        losses = functional.cross_entropy(logits, truth, reduction="none").double()  # of probabilities: ends at 87
        probabilities = logits.softmax(1)
        numbers = classification_numbers(probabilities, truth, losses)
        arrays = {"probabilities": probabilities.numpy(), "labels": truth.numpy(), "losses": losses.numpy()}
        if self.feature_mask is not None:
            arrays["features"] = np.concatenate([part["features"].numpy() for part in found])
        return numbers, arrays

    def evaluate_batch(self, batch: Batch) -> dict[str, torch.Tensor]:
        """{"logits": float32 [N, K], "labels": [N]} of an evaluation batch, and the "features" float16 of those that
        `feature_mask` names; on the processor."""
        assert batch.labels is not None, "classification needs labels"
        penultimate = self.evaluation_features(batch)
        outputs = self.model.head(penultimate)
        kept = {}
        if self.feature_mask is not None:
            kept = {"features": penultimate[self.feature_mask[batch.samples]].to("cpu", torch.float16)}
        if self.config.train.flip_test:
            outputs = mirror_mean(outputs, self.model(self.transform(batch.images).flip(3)))
        return {"logits": outputs.float().cpu(), "labels": batch.labels.cpu(), **kept}

    def plain_features(self, batches: Iterable[Batch]) -> tuple[dict[str, float], Arrays]:
        """{"features": features float16 [N, D]} of images as they are, in place of the numbers of `metrics`."""
        parts = [{"features": self.model.features(self.transform(b.images)).to("cpu", torch.float16)} for b in batches]
        found = [part["features"].numpy() for part in gather_to_rank0(parts)]
        return {}, {"features": np.concatenate(found)} if found else {}  # torch.cat refuses float16 under autocast

    def evaluation_features(self, batch: Batch) -> torch.Tensor:
        """What the head sees of a batch of the evaluated split, [N, D]."""
        if self.fixed is not None:
            return self.fixed[1]()[batch.samples]
        return self.model.features(self.transform(batch.images))

    def parameters(self) -> nn.Module:
        """The module that is trained."""
        return self.model


def classification_numbers(probabilities: torch.Tensor, truth: torch.Tensor, losses: torch.Tensor) -> dict[str, float]:
    """Loss, accuracy, top-5 accuracy and calibration error of probabilities [N, K] and losses [N] against truth int64
    [N]."""
    confidence, predicted = probabilities.max(1)
    return {
        "loss": float(losses.mean()),
        "accuracy": accuracy(probabilities, truth),
        "accuracy_top5": top_k(probabilities, truth, min(5, probabilities.shape[1])),
        "calibration_error": calibration_error(confidence.numpy(), (predicted == truth).numpy()),
    }


def classification_intervals(arrays: Arrays, seed: int) -> dict[str, list[float]]:
    """95 % bootstrap intervals [low, high] of accuracy, top-5 accuracy and loss, of what `metrics` returns."""
    probabilities, labels = torch.from_numpy(arrays["probabilities"]), torch.from_numpy(arrays["labels"])
    truth = labels[:, None]
    top = probabilities.topk(min(5, probabilities.shape[1]), 1).indices
    right, among = probabilities.argmax(1) == labels, (top == truth).any(1)
    items = {"accuracy": right.numpy(), "accuracy_top5": among.numpy(), "loss": arrays["losses"]}
    return {f"{name}_interval": list(bootstrap_interval(values, seed=seed)) for name, values in items.items()}


def negative_log_likelihood(probabilities: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """-log of the probability float32 [N, K] of each truth int64 [N], float64 [N]; at most 87.5. For an ensemble, whose
    mean of probabilities has no logits."""
    return -probabilities.gather(1, truth[:, None]).squeeze(1).double().clamp_min(1e-38).log()
