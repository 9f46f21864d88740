"""The learner that tasks share which predict one vector for a whole image; a task adds targets, loss and metrics."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...config.checks import check_scalar
from ...data.augment.batch import mix
from ...data.types import Batch
from ...engine.distributed import gather_to_rank0
from ...engine.parts import Arrays
from ...engine.schedules import mixes, training_side
from ...models import Classifier


@dataclass(eq=False, kw_only=True)
class ImageLearner:
    """Base of learners; see `engine.parts.Learner`. A task defines `loss_of` and `numbers`.

    outputs: number of outputs K of the network for an image.
    augment: (training images uint8 [N, 3, H, W], sample indices [N], seed, epoch) -> float [N, 3, size, size]; None for
    evaluation only.
    transform: evaluation images uint8 [N, 3, H, W] -> float [N, 3, size, size].
    class_weights: the weight of each class in the loss, float [K], or None.
    forward: the function that computes the outputs, such as the compiled model; by default `model`.
    feature_mask: bool [images of the split], true where `metrics` returns the penultimate features; None for no image.
    fixed: for a frozen backbone, functions that return the features [N, D] of all training and all evaluated images;
    None if features are computed batch by batch.
    fit: fits the head to the features of the training images, for optimizers that do not train it; else None.
    """

    config: Any
    model: Classifier
    outputs: int
    augment: Callable[[Tensor, Tensor, int, int], Tensor] | None
    transform: Callable[[Tensor], Tensor]
    class_weights: Tensor | None = None
    forward: Callable[[Tensor], Tensor] | None = None
    feature_mask: Tensor | None = None
    fixed: tuple[Callable[[], Tensor], Callable[[], Tensor]] | None = None
    fit: Callable[[], None] | None = None

    def loss_of(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch, a scalar. outputs: [N, K]. targets: as returned by `prepare`."""
        raise NotImplementedError

    def numbers(self, outputs: Tensor, labels: Tensor) -> tuple[dict[str, float], Arrays]:
        """(metrics, arrays) of a split. outputs: float32 [N, K]. labels: as of `data.types.Decoded`."""
        raise NotImplementedError

    def soft_targets(self, labels: Tensor) -> Tensor:
        """Labels as float [N, K], which mixup and cutmix average; numbers as [N, 1]."""
        return labels.float().reshape(len(labels), -1)

    def mean_output(self, outputs: Tensor, mirrored: Tensor) -> Tensor:
        """The outputs of test-time augmentation from those of images and of their mirror images, [N, K] each."""
        return (outputs + mirrored) / 2

    def predicted(self, outputs: Tensor) -> Tensor:
        """The numbers that a network which predicts numbers means by its outputs, both float [N, K]."""
        return outputs

    def loss_weight(self, targets: Tensor) -> Tensor:
        """The denominator of the mean in `loss_of`, by which the losses of several processes are combined; a scalar."""
        return torch.tensor(float(len(targets)), device=targets.device)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """{"loss": scalar, "logits": [N, K]} of a training batch.

        If the batch is one process's part of a larger one, also "weight", the denominator of the loss.
        """
        if self.fixed is not None and batch.labels is not None:
            targets = batch.labels
            outputs = self.model.head(self.fixed[0]()[batch.samples])
        else:
            images, targets = self.prepare(batch)
            outputs = (self.model if self.forward is None else self.forward)(images)
        found = {"loss": check_scalar(self.loss_of(outputs, targets), self.config), "logits": outputs}
        return found if batch.global_samples is None else found | {"weight": self.loss_weight(targets)}

    @torch.no_grad()
    def prepare(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Augment a batch: images float [N, 3, side, side], and its labels, float [N, K] after mixup or cutmix."""
        assert batch.labels is not None and self.augment is not None, "this learner was built for evaluation"
        seed, targets = self.config.train.seed, batch.labels
        with torch.autocast(batch.images.device.type, enabled=False):
            images = self.augment(batch.images, batch.keys, seed, batch.epoch)
            side = training_side(self.config, batch.epoch)
            if side != self.config.data.size:
                images = functional.interpolate(images, (side, side), mode="bilinear", antialias=True)
            if mixes(self.config, batch.epoch):
                soft = self.soft_targets(targets)
                images, targets = mix(images, soft, batch.keys, seed, batch.epoch, self.config.augment)
        return images[batch.overlap :], targets[batch.overlap :]

    def after_step(self, step: int, total_steps: int) -> None:
        """After the last step, fit the head if it is not trained."""
        if self.fit is not None and step == total_steps:
            self.fit()

    def metrics(self, batches: Iterable[Batch]) -> tuple[dict[str, float], Arrays]:
        """The metrics and arrays of `numbers` for a split; ({}, {}) on all ranks but 0.

        With `feature_mask` the arrays include features, float16 [M, D].
        """
        found = gather_to_rank0([self.evaluate_batch(batch) for batch in batches])
        if not found:
            return {}, {}
        numbers, arrays = self.numbers(*(torch.cat([part[name] for part in found]) for name in ("outputs", "labels")))
        if self.feature_mask is not None:
            arrays["features"] = np.concatenate([part["features"].numpy() for part in found])
        return numbers, arrays

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        """{"outputs": float32 [N, K], "labels": as in the batch} of an evaluation batch, on the CPU.

        With `feature_mask` also "features", float16 [M, D].
        """
        assert batch.labels is not None, f"{self.config.task} needs labels"
        samples = batch.samples
        penultimate = self.fixed[1]()[samples] if self.fixed else self.model.features(self.transform(batch.images))
        outputs = self.model.head(penultimate)
        kept = {}
        if self.feature_mask is not None:
            kept = {"features": penultimate[self.feature_mask[samples]].to("cpu", torch.float16)}
        if self.config.train.flip_test:
            outputs = self.mean_output(outputs, self.model(self.transform(batch.images).flip(3)))
        return {"outputs": outputs.float().cpu(), "labels": batch.labels.cpu(), **kept}

    def plain_features(self, batches: Iterable[Batch]) -> tuple[dict[str, float], Arrays]:
        """({}, {"features": float16 [N, D]}): the penultimate features of images without augmentation."""
        parts = [{"features": self.model.features(self.transform(b.images)).to("cpu", torch.float16)} for b in batches]
        found = [part["features"].numpy() for part in gather_to_rank0(parts)]
        return {}, {"features": np.concatenate(found)} if found else {}  # torch.cat raises for float16 under autocast

    def parameters(self) -> nn.Module:
        """The module that is trained."""
        return self.model
