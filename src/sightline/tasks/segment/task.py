"""Semantic segmentation: windows of images and masks, one forward pass, a loss over the pixels that count."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from ...config.schema import Config, Loss
from ...data.augment.windows import Anchors
from ...data.decode.masks import padded
from ...data.decode.palettes import IGNORE
from ...data.types import Batch
from ...engine.distributed import gather_to_rank0, gathered
from ...engine.parts import Arrays
from ...inference.tiles import dihedral, likeliest, mirror
from ...stats.segmentation import confusion_per_image, segment_numbers
from .losses import POOLED, compound, mean_over, negative_log_likelihood


class SegmentLearner:
    """The segmentation task.

    classes: how many there are. augment: images uint8 [N, 3, H, W], masks uint8 [N, H, W], sizes int64 [N, 2],
    anchors, samples, seed, epoch -> (float [N, 3, h, w], uint8 [N, h, w]); None: built for evaluation. normalize:
    evaluation images uint8 [N, 3, H, W] -> float, same size. sizes: int64 [split, 2], height and width of each
    training image. class_weights: float [K] or None. forward: what gives the outputs in training; the model's own, or
    compiled. kept: bool [split], the evaluated images whose predicted masks `metrics` returns, in arrays of `room`, the
    height and width of the split's largest.
    """

    def __init__(
        self,
        config: Config,
        *,
        model: Any,
        classes: int,
        normalize: Callable[[torch.Tensor], torch.Tensor],
        augment: Callable[..., tuple[torch.Tensor, torch.Tensor]] | None = None,
        sizes: torch.Tensor | None = None,
        anchors: Anchors | None = None,
        class_weights: torch.Tensor | None = None,
        forward: Callable[[torch.Tensor], dict[str, torch.Tensor]] | None = None,
        kept: np.ndarray | None = None,
        room: tuple[int, int] = (0, 0),
    ):
        self.config, self.model, self.classes, self.normalize = config, model, classes, normalize
        self.augment, self.sizes, self.anchors, self.kept = augment, sizes, anchors, kept
        self.class_weights, self.room = class_weights, room
        self.forward = forward or model.outputs
        self.loss = loss_of(config.loss)
        self.pooled = any(name in POOLED for name in config.loss.terms or [config.loss.name])

    def step(self, batch: Batch) -> dict[str, torch.Tensor]:
        """{"loss": scalar, "logits": [N, K, h, w]} of a training batch; an auxiliary output adds its share.

        Of a part of a batch also "weight", what the loss is a mean over; one that is no mean over pixels takes the
        pixels of all parts.
        """
        images, masks = self.prepare(batch)
        outputs = self.forward(images)
        if self.pooled and batch.global_samples is not None:
            outputs, masks = {name: gathered(output) for name, output in outputs.items()}, gathered(masks)
        loss = self.loss(outputs["logits"], masks, weights=self.class_weights)
        if "auxiliary" in outputs and self.config.loss.auxiliary:
            extra = self.loss(outputs["auxiliary"], masks, weights=self.class_weights)
            loss = loss + self.config.loss.auxiliary * extra
        found = {"loss": loss, "logits": outputs["logits"]}
        return found if batch.global_samples is None else found | {"weight": mean_over(masks, self.class_weights)}

    @torch.no_grad()
    def prepare(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """What the model trains on: images float [N, 3, h, w] and masks uint8 [N, h, w]."""
        assert batch.labels is not None and self.augment is not None, "this task was built for evaluation"
        assert self.sizes is not None
        with torch.autocast(batch.images.device.type, enabled=False):
            sizes, seed = self.sizes[batch.samples], self.config.train.seed
            return self.augment(batch.images, batch.labels, sizes, self.anchors, batch.samples, seed, batch.epoch)

    def after_step(self, step: int, total_steps: int) -> None:
        """Nothing: a segmenter has no moving target."""

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [N, K, H, W] of images uint8 [N, 3, H, W]; averaged over mirror images or turns where asked."""
        forward, train = self.model, self.config.train
        if train.turn_test:  # which mirrors too
            forward = dihedral(forward)
        elif train.flip_test:
            forward = mirror(forward)
        return forward(self.normalize(images))

    def metrics(
        self, batches: Iterable[Batch], each: Callable[[Batch, np.ndarray], None] | None = None
    ) -> tuple[dict[str, float], Arrays]:
        """Loss (plain cross-entropy over all counted pixels), mean IoU and its relatives of a split.

        each: called with every batch and its predicted masks uint8 [N, H, W], to keep what would not fit in memory.

        Arrays: confusion int64 [N, K, K] per image, rows the truth; with_ignored int64 [K + 1, K + 1] of the split, the
        ignored pixels as one more class; masks uint8 [M, *room] predicted for `kept`.
        """
        found = gather_to_rank0([self.evaluate_batch(batch, each) for batch in batches])
        if not found:
            return {}, {}
        loss, pixels = torch.zeros((), dtype=torch.float64), 0
        for part in found:
            loss, pixels = loss + part["loss"], pixels + int(part["pixels"])
        whole = np.concatenate([part["confusion"].numpy() for part in found])
        kept = [mask for part in found if "kept" in part for mask in part["kept"].numpy()]
        per_image = np.ascontiguousarray(whole[:, :-1, :-1])
        numbers = {"loss": float(loss / max(pixels, 1)), **segment_numbers(per_image.sum(0))}
        arrays: Arrays = {"confusion": per_image, "with_ignored": whole.sum(0)}
        if kept:
            arrays["masks"] = padded(kept, self.room)
        return numbers, arrays

    def evaluate_batch(self, batch: Batch, each: Callable[[Batch, np.ndarray], None] | None) -> dict[str, torch.Tensor]:
        """{"loss": the sum over "pixels", "confusion": int64 [N, K + 1, K + 1]} of an evaluation batch, and the "kept"
        masks [M, H, W] if there are some."""
        assert batch.labels is not None, "segmentation needs masks"
        logits = self.logits(batch.images).float()
        summed, counted = plain_cross_entropy(logits, batch.labels)
        predicted = torch.stack([likeliest(scores) for scores in logits]).cpu().numpy()
        confusion = confusion_per_image(predicted, batch.labels.cpu().numpy(), self.classes, ignored=True)
        if each is not None:
            each(batch, predicted)
        part = {"loss": summed, "pixels": torch.tensor(counted), "confusion": torch.from_numpy(confusion)}
        if self.kept is not None:
            part["kept"] = torch.from_numpy(predicted[self.kept[batch.samples.cpu().numpy()]])
        return part

    def parameters(self) -> nn.Module:
        """The module that is trained."""
        return self.model


def loss_of(settings: Loss) -> Callable[..., torch.Tensor]:
    """The loss that the settings name, or their weighted sum of several: (logits, masks, weights) -> scalar."""
    own = {
        "cross_entropy": {"smoothing": settings.smoothing},
        "focal": {"alpha": settings.alpha, "gamma": settings.gamma, "smoothing": settings.smoothing},
        "ohem": {"share": settings.hard_share},
    }
    return compound(settings.terms or {settings.name: 1.0}, own)


def plain_cross_entropy(logits: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, int]:
    """(sum over the counted pixels in double precision, how many they are); logits [N, K, H, W], masks uint8."""
    return negative_log_likelihood(logits, masks).double().sum().cpu(), int((masks != IGNORE).sum())
