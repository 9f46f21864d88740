"""Learner of semantic segmentation: windows of images and masks, a forward pass, a loss over the pixels."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ...config.checks import check_scalar, loss_arguments
from ...config.schema import Config, Loss
from ...data.augment.geometry import precise
from ...data.augment.windows import Anchors
from ...data.decode.masks import padded
from ...data.decode.palettes import IGNORE
from ...data.types import Batch
from ...engine.distributed import gather_to_rank0, gathered
from ...engine.parts import Arrays
from ...inference.tiles import argmax_classes, dihedral, mirror
from ...stats.segmentation import confusion_per_image, segment_numbers
from .losses import LOSSES, POOLED, compound, mean_over, negative_log_likelihood


@dataclass(eq=False, kw_only=True)
class SegmentLearner:
    """The learner of a segmenter; see `engine.parts.Learner`.

    classes: number of classes K.

    augment: (images uint8 [N, 3, H, W], masks uint8 [N, H, W], sizes int64 [N, 2], anchors, sample indices [N], seed,
    epoch) -> (windows of images float [N, 3, h, w], of masks uint8 [N, h, w]); None if only evaluated.

    normalize: evaluation images uint8 [N, 3, H, W] -> float of the same shape.

    sizes: (height, width) of each training image without padding, int64 [images, 2]. anchors: positions of pixels of
    each class, for windows around rare classes, or None.

    class_weights: the weight of each class in the loss, float [K], or None.

    forward: the function that computes the training outputs, such as a compiled one; by default `model.outputs`.

    kept: bool, one value per image of the split: whether `metrics` returns its predicted mask. padded_size: (height,
    width) of these masks.
    """

    config: Config
    model: Any
    classes: int
    normalize: Callable[[torch.Tensor], torch.Tensor]
    augment: Callable[..., tuple[torch.Tensor, torch.Tensor]] | None = None
    sizes: torch.Tensor | None = None
    anchors: Anchors | None = None
    class_weights: torch.Tensor | None = None
    forward: Callable[[torch.Tensor], dict[str, torch.Tensor]] | None = None
    kept: np.ndarray | None = None
    padded_size: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self.loss = loss_of(self.config.loss)
        self.pooled = any(name in POOLED for name in self.config.loss.terms or [self.config.loss.name])

    def step(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Loss and logits of a training batch, {"loss": scalar, "logits": [N, K, h, w]}. The loss includes that of an
        auxiliary output.

        If several processes share the batch, also "weight", the denominator of the loss of this process's part. Losses
        that are not means over pixels are then computed over the pixels of all processes.
        """
        images, masks = self.prepare(batch)
        outputs = (self.model.outputs if self.forward is None else self.forward)(images)
        if self.pooled and batch.global_samples is not None:
            outputs, masks = {name: gathered(output) for name, output in outputs.items()}, gathered(masks)
        loss = self.loss(outputs["logits"], masks, weights=self.class_weights)
        if "auxiliary" in outputs and self.config.loss.auxiliary:
            extra = self.loss(outputs["auxiliary"], masks, weights=self.class_weights)
            loss = loss + self.config.loss.auxiliary * extra
        found = {"loss": check_scalar(loss, self.config), "logits": outputs["logits"]}
        return found if batch.global_samples is None else found | {"weight": mean_over(masks, self.class_weights)}

    @torch.no_grad()
    def prepare(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Augment a batch: windows of images float [N, 3, h, w] and of masks uint8 [N, h, w]."""
        assert batch.labels is not None and self.augment is not None, "this learner was built for evaluation"
        assert self.sizes is not None
        with torch.autocast(batch.images.device.type, enabled=False):
            sizes, seed = self.sizes[batch.samples], self.config.train.seed
            return self.augment(batch.images, batch.labels, sizes, self.anchors, batch.samples, seed, batch.epoch)

    def after_step(self, step: int, total_steps: int) -> None:
        """Do nothing; a segmenter has no target network to update."""

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [N, K, H, W] of images uint8 [N, 3, H, W], with the test-time augmentation that the recipe sets."""
        forward, train = self.model, self.config.train
        if train.turn_test:  # includes mirroring
            forward = dihedral(forward)
        elif train.flip_test:
            forward = mirror(forward)
        return forward(self.normalize(images))

    def metrics(
        self, batches: Iterable[Batch], each: Callable[[Batch, np.ndarray], None] | None = None
    ) -> tuple[dict[str, float], Arrays]:
        """(metrics, arrays) of a split. Metrics: cross-entropy per pixel that is not ignored, and those of
        `segment_numbers`.

        each: called with every batch and its predicted masks uint8 [N, H, W], for example to write them to files. The
        arrays are: confusion int64 [N, K, K] of each image, rows: true class, columns: predicted class; with_ignored
        int64 [K + 1, K + 1], summed over the split, with ignored pixels as one more class; masks uint8 [M,
        *padded_size], predicted for the M images that `kept` selects.
        """
        found = gather_to_rank0([self.evaluate_batch(batch, each) for batch in batches])
        if not found:
            return {}, {}
        loss, pixels = (sum(float(part[name]) for part in found) for name in ("loss", "pixels"))
        whole = np.concatenate([part["confusion"].numpy() for part in found])
        kept = [mask for part in found if "kept" in part for mask in part["kept"].numpy()]
        per_image = np.ascontiguousarray(whole[:, :-1, :-1])
        numbers = {"loss": loss / max(pixels, 1), **segment_numbers(per_image.sum(0))}
        arrays: Arrays = {"confusion": per_image, "with_ignored": whole.sum(0)}
        if kept:
            arrays["masks"] = padded(kept, self.padded_size)
        return numbers, arrays

    def evaluate_batch(self, batch: Batch, each: Callable[[Batch, np.ndarray], None] | None) -> dict[str, torch.Tensor]:
        """Results of an evaluation batch.

        "loss": sum over the pixels that are not ignored; "pixels": their number; "confusion": int64 [N, K + 1, K + 1],
        ignored pixels last; with `kept` also "kept": predicted masks uint8 [M, H, W] of the selected images.
        """
        assert batch.labels is not None, "segmentation needs masks"
        logits = self.logits(batch.images).float()
        loss = negative_log_likelihood(logits, batch.labels).to(precise(batch.images.device)).sum().cpu().double()
        predicted = torch.stack([argmax_classes(scores) for scores in logits]).cpu().numpy()
        confusion = confusion_per_image(predicted, batch.labels.cpu().numpy(), self.classes, ignored=True)
        if each is not None:
            each(batch, predicted)
        pixels = (batch.labels != IGNORE).sum().cpu()
        part = {"loss": loss, "pixels": pixels, "confusion": torch.from_numpy(confusion)}
        if self.kept is not None:
            part["kept"] = torch.from_numpy(predicted[self.kept[batch.samples.cpu().numpy()]])
        return part

    def parameters(self) -> nn.Module:
        """The module that is trained."""
        return self.model


def loss_of(settings: Loss) -> Callable[..., torch.Tensor]:
    """The loss function of a recipe, or the weighted sum in `loss.terms`: (logits, masks, class weights) -> scalar."""
    terms = settings.terms or {settings.name: 1.0}
    return compound(terms, {name: loss_arguments(LOSSES[name], settings) for name in terms})
