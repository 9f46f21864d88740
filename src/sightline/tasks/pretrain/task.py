"""Self-supervised pre-training: two views of an image, and a network that predicts of one what the other looks like.

BYOL (arXiv 2006.07733) and SimSiam (arXiv 2011.10566), which is the same without a second network. No label is ever
part of a loss. Nothing in the loss says that images must differ: that they do is watched by `metrics`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...data.types import Batch
from ...engine.distributed import gather_to_rank0, gathered
from ...engine.parts import Arrays
from ...engine.schedules import training_side
from ...stats.intervals import bootstrap_interval
from ...stats.metrics import effective_rank, feature_std, knn_votes
from .config import Pretrain, PretrainConfig
from .objectives import OBJECTIVES
from .objectives.moco import contrastive_loss
from .siamese import Siamese

ENOUGH_FOR_LOSS = 500
"""Evaluated images of which the loss is computed, at least: it takes five times the work of the features."""


def target_momentum(step: int, total_steps: int, pretrain: Pretrain, batch_size: int) -> float:
    """What the target keeps of itself after step number `step`, from 1: 1 - (1 - m) (cos(pi step / total) + 1) / 2.

    That is the paper's climb from m to 1, here to `momentum_end`; m: `momentum`, for this batch size.
    """
    scale = batch_size / pretrain.momentum_batch if pretrain.momentum_batch else 1.0
    first, last = pretrain.momentum**scale, pretrain.momentum_end**scale
    return last - (last - first) * (math.cos(math.pi * min(step, total_steps) / total_steps) + 1) / 2


@dataclass(frozen=True)
class Bank:
    """Labeled images among which neighbors are looked for: batches of them, and how many classes there are."""

    batches: Callable[[], Iterable[Batch]]
    classes: int


class PretrainLearner:
    """The pre-training task.

    views: the augmentations of the two views, each images uint8 [N, 3, H, W], samples [N], seed, epoch -> float
    [N, 3, size, size]; `small`, those of the small ones. transform: evaluation images uint8 -> float, the same shape.
    bank: labeled images for the k-NN accuracy, or None. feature_mask: bool [split], the evaluated images whose
    features `metrics` returns; None: of none.
    """

    def __init__(
        self,
        config: PretrainConfig,
        *,
        model: Siamese,
        views: Sequence[Callable[[Tensor, Tensor, int, int], Tensor]],
        small: Sequence[Callable[[Tensor, Tensor, int, int], Tensor]],
        transform: Callable[[Tensor], Tensor],
        bank: Bank | None,
        feature_mask: Tensor | None,
    ):
        self.config, self.model, self.views, self.small = config, model, views, small
        self.transform, self.bank, self.feature_mask = transform, bank, feature_mask
        self.over_batch = config.pretrain.contrast > 0 or OBJECTIVES[config.pretrain.method].over_batch

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """The loss of one direction, predictions and targets [N, P]."""
        pretrain = self.config.pretrain
        loss = OBJECTIVES[pretrain.method].loss(predictions, targets, pretrain)
        if not pretrain.contrast:
            return loss
        return torch.lerp(loss, contrastive_loss(predictions, targets, pretrain), pretrain.contrast)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """{"loss": scalar}: each view's prediction against the other's projection; labels are not looked at.

        A small view's prediction goes against both projections; the sum over all is brought to the two terms of two
        views, so that the learning rate need not know how many views there are.
        """
        (first, second), crops = self.prepare(batch)
        pooled = batch.global_samples is not None and self.over_batch  # its negatives are those of all processes
        rows = gathered if pooled else torch.nn.Identity()
        prediction, projection = map(rows, self.model(first))
        other_prediction, other_projection = map(rows, self.model(second))
        terms = [self.loss(prediction, other_projection), self.loss(other_prediction, projection)]
        for crop in crops:
            small = rows(self.model.predict(crop))
            terms += [self.loss(small, projection), self.loss(small, other_projection)]
        found = {"loss": torch.stack(terms).sum() * (2 / len(terms))}
        return found | {"weight": torch.ones_like(found["loss"]).detach()} if pooled else found

    @torch.no_grad()
    def prepare(self, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        """(the two views float [N, 3, side, side], the small ones) of a training batch."""
        seed, side = self.config.train.seed, training_side(self.config, batch.epoch)
        with torch.autocast(batch.images.device.type, enabled=False):
            views = [view(batch.images, batch.samples, seed, batch.epoch) for view in self.views]
            if side != self.config.data.size:
                views = [functional.interpolate(v, (side, side), mode="bilinear", antialias=True) for v in views]
            crops = [view(batch.images, batch.samples, seed, batch.epoch) for view in self.small]
        return views, crops

    def after_step(self, step: int, total_steps: int) -> None:
        """The target follows the online network."""
        images = self.config.train.batch_size * self.config.optim.accumulate
        self.model.follow(target_momentum(step, total_steps, self.config.pretrain, images))

    def metrics(self, batches: Iterable[Batch]) -> tuple[dict[str, float], Arrays]:
        """Of a split: the loss; feature_std, how far apart the projections are, for that is where a collapse begins;
        effective_rank of the backbone's features, which is what is used; and, with labels, knn_accuracy of these.

        The loss is of the views of epoch 0 of the first images, in evaluation mode. Arrays: features float16 [M, D] of
        `feature_mask`; where there are labels, labels int64 [N] and predictions int64 [N].
        """
        found = gather_to_rank0([self.evaluate_batch(batch) for batch in batches])
        bank = gather_to_rank0([self.featured(batch) for batch in self.bank.batches()]) if self.bank is not None else []
        if not found:
            return {}, {}
        losses = [part["loss"] for part in found if "loss" in part]
        counted = sum(len(part["features"]) for part in found if "loss" in part)
        whole = torch.cat([part["features"] for part in found])
        numbers = {
            "loss": float(torch.stack(losses).sum() / counted),
            "feature_std": feature_std(torch.cat([part["projections"] for part in found])),
            "effective_rank": effective_rank(whole),
        }
        arrays: Arrays = {}
        if self.feature_mask is not None:
            arrays["features"] = np.concatenate([part["kept"].numpy() for part in found])
        if bank and "labels" in found[0]:
            truth = torch.cat([part["labels"] for part in found])
            votes = self.votes(whole, bank)
            numbers["knn_accuracy"] = float((votes.argmax(1) == truth).float().mean())
            arrays |= {"labels": truth.cpu().numpy(), "predictions": votes.argmax(1).cpu().numpy()}
        return numbers, arrays

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Of an evaluation batch the features [N, D], their "projections", "labels", of the first batches the sum of
        the "loss", and the features "kept" of those that `feature_mask` names."""
        features = self.model.features(self.transform(batch.images))
        part = {"projections": self.model.projector(features).float(), "features": features.float()}
        if batch.labels is not None:
            part["labels"] = batch.labels
        if int(batch.samples[0]) < ENOUGH_FOR_LOSS:
            part["loss"] = self.step(batch)["loss"].float() * len(features)
        if self.feature_mask is not None:
            part["kept"] = part["features"][self.feature_mask[batch.samples]].to("cpu", torch.float16)
        return part

    def featured(self, batch: Batch) -> dict[str, Tensor]:
        """The features [N, D] and labels of a batch of the bank."""
        assert batch.labels is not None
        return {"features": self.model.features(self.transform(batch.images)).float(), "labels": batch.labels}

    def votes(self, queries: Tensor, bank: list[dict[str, Tensor]]) -> Tensor:
        """The votes [N, K] of the nearest bank images for the classes of queries [N, D]."""
        features, labels = (torch.cat([part[name] for part in bank]) for name in ("features", "labels"))
        assert self.bank is not None
        k = max(1, min(self.config.pretrain.neighbors, len(labels) // self.bank.classes))
        return knn_votes(features, labels, queries, self.bank.classes, k)

    def parameters(self) -> nn.Module:
        """The module that is trained, the target within it."""
        return self.model


def pretraining_intervals(arrays: Arrays, seed: int) -> dict[str, list[float]]:
    """The 95 % bootstrap interval [low, high] of the k-NN accuracy, of what `metrics` returns; {} without labels."""
    if "predictions" not in arrays:
        return {}
    right = arrays["predictions"] == arrays["labels"]
    return {"knn_accuracy_interval": list(bootstrap_interval(right, seed=seed))}
