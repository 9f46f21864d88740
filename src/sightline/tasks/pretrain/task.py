"""Learner of self-supervised pre-training: from one view of an image, predict the projection of another view.

The objectives are in objectives/. Labels are never part of the loss. The losses of BYOL and SimSiam do not separate
different images, so `metrics` also measures whether the features have collapsed.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...data.types import Batch, Decoded
from ...engine.distributed import gather_to_rank0, gathered
from ...engine.parts import Arrays
from ...engine.schedules import training_side
from ...stats.groups import Groups, ids_in
from ...stats.intervals import effective_images, mean_interval
from ...stats.metrics import alignment, effective_rank, feature_std, knn_votes, uniformity
from ..whole_image.fitted import COARSE, logistic_regression, parts_of, standardization, with_float64
from .config import Pretrain, PretrainConfig
from .networks import small_side
from .objectives import OBJECTIVES
from .objectives.distill import Teacher
from .siamese import Siamese

LINEAR_PENALTY = 1e-2
"""Penalty of the logistic regression of `linear_accuracy`, that of the recipes' linear evaluations."""
LOSS_IMAGES = 500
"""Number of evaluated images, rounded up to whole batches, for which the loss is computed; it costs five times as
much as the features."""


def target_momentum(step: int, total_steps: int, pretrain: Pretrain, batch_size: int) -> float:
    """The momentum of the target network after optimizer step `step`, counted from 1.

    It is end - (end - start) (cos(pi step / total_steps) + 1) / 2, where start and end are `momentum` and
    `momentum_end`, converted to this batch size (see `momentum_batch`). In BYOL, end is 1.
    """
    scale = batch_size / pretrain.momentum_batch if pretrain.momentum_batch else 1.0
    first, last = pretrain.momentum**scale, pretrain.momentum_end**scale
    return last - (last - first) * (math.cos(math.pi * min(step, total_steps) / total_steps) + 1) / 2


@dataclass(frozen=True)
class Bank:
    """Labeled images among which nearest neighbors are searched. batches: function that returns them in batches.
    classes: number of classes."""

    images: Decoded
    batches: Callable[[], Iterable[Batch]]
    classes: int


@dataclass(eq=False, kw_only=True)
class PretrainLearner:
    """The learner of pre-training; see `engine.parts.Learner`.

    views, small: the augmentations of the two large views and of the small views, each (images uint8 [N, 3, H, W],
    sample indices [N], seed, epoch) -> float [N, 3, side, side]. transform: evaluation images uint8 [N, 3, H, W] ->
    normalized float images. bank: labeled images for the k-NN accuracy, or None. feature_mask: bool, one value per
    evaluated image: whether `metrics` returns its features. None: for no image. teacher: the trained network of
    `distill`; it may be None for an evaluation, which then has no loss.
    """

    config: PretrainConfig
    model: Siamese
    views: Sequence[Callable[[Tensor, Tensor, int, int], Tensor]]
    small: Sequence[Callable[[Tensor, Tensor, int, int], Tensor]]
    transform: Callable[[Tensor], Tensor]
    bank: Bank | None = None
    feature_mask: Tensor | None = None
    teacher: Teacher | None = None

    def __post_init__(self) -> None:
        self.objective = OBJECTIVES[self.config.pretrain.method]

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """The loss of predictions [N, P] from one view against the targets [N, P] of another view, a scalar."""
        return self.objective.loss(predictions, targets, self.config.pretrain)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of a training batch, {"loss": scalar}: each view's prediction against the target of the other view,
        or, with a teacher, of the same view.

        The prediction of a small view is compared with the targets of both large views. The loss is twice the mean
        over all comparisons, so that the learning rate does not depend on the number of views. If several processes
        share the batch and the loss depends on all of its images, also "weight": 1.
        """
        views, crops = self.prepare(batch)
        pooled = batch.global_samples is not None and self.objective.over_batch  # with all processes' images
        rows = gathered if pooled else torch.nn.Identity()
        outputs = [tuple(map(rows, self.model(view))) for view in views]
        predictions = [prediction for prediction, _ in outputs] + [rows(self.model.predict(crop)) for crop in crops]
        goals = [self.teacher(view) for view in views] if self.teacher else [projection for _, projection in outputs]
        if self.objective.targets:
            goals = self.objective.targets(goals, self.model, self.config.pretrain)
        terms = [
            self.loss(prediction, goal)
            for number, prediction in enumerate(predictions)
            for other, goal in enumerate(goals)
            if (number == other) == self.objective.taught
        ]
        found = {"loss": torch.stack(terms).sum() * (2 / len(terms))}
        return found | {"weight": torch.ones_like(found["loss"]).detach()} if pooled else found

    @torch.no_grad()
    def prepare(self, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        """(the two large views, the small views) of a batch, each float [N, 3, side, side].

        In evaluation mode, the large views have the side `data.size` in all epochs, so that metrics can be compared.
        """
        seed, full = self.config.train.seed, self.config.data.size
        side = training_side(self.config, batch.epoch) if self.model.training else full
        with torch.autocast(batch.images.device.type, enabled=False):
            views = [view(batch.images, batch.samples, seed, batch.epoch) for view in self.views]
            crops = [view(batch.images, batch.samples, seed, batch.epoch) for view in self.small]
            if side != full:
                views = [resized(view, side) for view in views]
                crops = [resized(crop, small_side(self.config, side)) for crop in crops]
        return views, crops

    def after_step(self, step: int, total_steps: int) -> None:
        """Update the target network (a moving average) after optimizer step `step`."""
        images = self.config.train.batch_size * self.config.optim.accumulate
        self.model.update_target(target_momentum(step, total_steps, self.config.pretrain, images))

    def metrics(self, batches: Iterable[Batch]) -> tuple[dict[str, float], Arrays]:
        """(metrics, arrays) of a split: loss, feature_std, effective_rank, uniformity, alignment and, with labels,
        knn_accuracy and linear_accuracy.

        loss: of the first LOSS_IMAGES images with the views of epoch 0 at full size, in evaluation mode. feature_std:
        spread of the projections, which shows a collapse first. effective_rank, knn_accuracy: of the backbone's
        features.

        The arrays are: features float16 [M, D] of the M images that `feature_mask` selects; with labels also labels,
        predictions (by k-NN) and linear_predictions, int64 [N].
        """
        found = gather_to_rank0([self.evaluate_batch(batch) for batch in batches])
        bank = (
            gather_to_rank0([self.bank_features(batch) for batch in self.bank.batches()])
            if self.bank is not None
            else []
        )
        if not found:
            return {}, {}
        losses = [part["loss"] for part in found if "loss" in part]
        counted = sum(len(part["features"]) for part in found if "loss" in part)
        whole = torch.cat([part["features"] for part in found])
        numbers = {
            **({"loss": float(torch.stack(losses).sum() / counted)} if losses else {}),
            "feature_std": feature_std(torch.cat([part["projections"] for part in found])),
            "effective_rank": effective_rank(whole),
            "uniformity": uniformity(whole),
        }
        if views := [part["views"] for part in found if "views" in part]:
            numbers["alignment"] = alignment(*torch.cat(views).unbind(1))
        arrays: Arrays = {}
        if self.feature_mask is not None:
            arrays["features"] = np.concatenate([part["kept"].numpy() for part in found])
        if bank and "labels" in found[0]:
            truth = torch.cat([part["labels"] for part in found])
            votes = self.votes(whole, bank)
            numbers["knn_accuracy"] = float((votes.argmax(1) == truth).float().mean())
            linear = self.linear_predictions(whole, bank)
            numbers["linear_accuracy"] = math.nan if linear is None else float((linear == truth).float().mean())
            arrays |= {"labels": truth.cpu().numpy(), "predictions": votes.argmax(1).cpu().numpy()}
            arrays |= {} if linear is None else {"linear_predictions": linear.cpu().numpy()}
        return numbers, arrays

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Results of an evaluation batch: "features" [N, D], "projections" [N, P] and, if present, "labels" [N].

        The first batches also have "loss", summed over the batch, and "views", the features [N, 2, D] of two views.
        With `feature_mask` there is also "kept", the features float16 [M, D] of the selected images.
        """
        features = self.model.features(self.transform(batch.images))
        part = {"projections": self.model.projector(features).float(), "features": features.float()}
        if batch.labels is not None:
            part["labels"] = batch.labels
        if int(batch.samples[0]) < LOSS_IMAGES and (self.teacher or not self.objective.taught):
            part["loss"] = self.step(batch)["loss"].float() * len(features)
            both = [self.model.features(view).float() for view in self.prepare(batch)[0]]
            part["views"] = torch.stack(both, 1)
        if self.feature_mask is not None:
            part["kept"] = part["features"][self.feature_mask[batch.samples]].to("cpu", torch.float16)
        return part

    def bank_features(self, batch: Batch) -> dict[str, Tensor]:
        """The features [N, D] and labels [N] of a batch of labeled images, in which neighbors are searched."""
        assert batch.labels is not None
        return {"features": self.model.features(self.transform(batch.images)).float(), "labels": batch.labels}

    def votes(self, queries: Tensor, bank: list[dict[str, Tensor]]) -> Tensor:
        """The votes [N, K] for each class for the features `queries` [N, D], by their nearest neighbors in `bank`.

        bank: features and labels of the labeled images, in batches.
        """
        features, labels = (torch.cat([part[name] for part in bank]) for name in ("features", "labels"))
        assert self.bank is not None
        k = max(1, min(self.config.pretrain.neighbors, len(labels) // self.bank.classes))
        return knn_votes(features, labels, queries, self.bank.classes, k)

    def linear_predictions(self, queries: Tensor, bank: list[dict[str, Tensor]]) -> Tensor | None:
        """The classes [N] that a logistic regression, fitted to the features in `bank`, predicts for `queries` [N, D];
        None for features that are not finite."""
        assert self.bank is not None
        features, labels = (with_float64(torch.cat([part[name] for part in bank])) for name in ("features", "labels"))
        device, queries = queries.device, with_float64(queries)
        if not (features.isfinite().all() and queries.isfinite().all()):
            return None
        mean, scale = standardization(features)
        rest = (self.bank.classes, LINEAR_PENALTY)
        values = logistic_regression((features - mean) / scale, labels, *rest, tolerance=COARSE)
        weights, biases = parts_of(values, self.bank.classes, features)
        logits = (queries - mean) / scale @ weights.T + biases
        return logits.argmax(1).to(device)

    def parameters(self) -> nn.Module:
        """The module that is trained, including the target network."""
        return self.model


def resized(images: Tensor, side: int) -> Tensor:
    """Images [N, C, H, W] -> [N, C, side, side], bilinear with antialiasing."""
    return functional.interpolate(images, (side, side), mode="bilinear", antialias=True)


def pretraining_intervals(arrays: Arrays, groups: Groups | None) -> dict[str, Any]:
    """The 95 % intervals [low, high] of both accuracies, by name, and the facts of the groups; {} without labels.

    arrays: as returned by `PretrainLearner.metrics`. groups: of the images, or None.
    """
    if "predictions" not in arrays:
        return {}
    right, ids = arrays["predictions"] == arrays["labels"], ids_in(groups)
    found: dict[str, Any] = {"knn_accuracy_interval": list(mean_interval(right, ids))}
    if "linear_predictions" in arrays:
        linear = arrays["linear_predictions"] == arrays["labels"]
        found["linear_accuracy_interval"] = list(mean_interval(linear, ids))
    return found | (groups.facts(effective_images(right, ids)) if groups else {})
