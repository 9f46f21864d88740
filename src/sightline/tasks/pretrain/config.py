"""The configuration of a pre-training run: its own section, `pretrain`, and its checks."""

from typing import ClassVar, Literal

from pydantic import PositiveFloat

from ...config.checks import Rules, metric_rules, no_head_rules, whole_image_rules
from ...config.fields import Count, CountOrZero, Decay, Probability, Section, ShareRange
from ...config.schema import Config, Loss, Train


class Pretrain(Section):
    """Self-supervised pre-training. Two views of each image go through `augment`; what differs for the second is here.

    The defaults are those of BYOL (arXiv 2006.07733); the optimizer's stand in the recipes.
    """

    method: Literal["byol", "simsiam", "moco"] = "byol"
    """The objective, a file each in tasks/pretrain/objectives. `simsiam` (arXiv 2011.10566): no second network; the
    target is the other view's projection, without gradient. `moco`: the loss of MoCo v3 (arXiv 2104.02057)."""
    projector: tuple[Count, ...] = (4096, 256)
    """Widths of the projector's layers, each but the last with batch norm and ReLU."""
    projector_norm: bool = False
    """Batch norm on the projection too, without scale and shift, as SimSiam has it."""
    predictor: Count = 4096
    """Width of the predictor's hidden layer."""
    contrast: Probability = 0.0
    """Share of a contrastive loss in the sum (that of MoCo v3, arXiv 2104.02057): each prediction must find its own
    image's target among those of the batch. Nothing in BYOL's own loss says that images differ, and in runs of a few
    thousand steps its features lose what they had. 0: the method as published; 1: the contrastive loss alone."""
    temperature: PositiveFloat = 0.2
    """Of the contrastive loss: cosines are divided by it."""
    momentum: Decay = 0.996
    """Share of itself that the target keeps at each step, at first."""
    momentum_end: Probability = 1.0
    """The same at the end, towards which it climbs along half a cosine; equal to `momentum`: constant."""
    momentum_batch: CountOrZero = 4096
    """The batch size that `momentum` is for: at another one it is momentum ** (batch size / momentum_batch), so that
    the target follows as fast per image (arXiv 2307.13813). 0: `momentum` as it stands."""
    second_blur: Probability = 0.1
    second_solarize: Probability = 0.2
    small_crops: CountOrZero = 0
    """Further views, of which the online network predicts the targets of both large ones (arXiv 2006.09882)."""
    small_size: CountOrZero = 0
    """Side of the small views in pixels; 0: half of `data.size`."""
    small_scale: ShareRange = (0.05, 0.4)
    """Share of the image that a small view shows."""
    probe: str = ""
    """Labeled data on which k-NN accuracy is measured after each epoch, never trained on. Empty: `data.path`, where
    it has labels."""
    neighbors: Count = 20
    """k of the k-NN accuracy; at most the mean number of labeled images a class, beyond which others must vote too."""


class PretrainConfig(Config):
    """The common sections and `pretrain`."""

    path_keys: ClassVar[tuple[str, ...]] = (*Config.path_keys, "pretrain.probe")

    task: Literal["pretrain"] = "pretrain"
    pretrain: Pretrain = Pretrain()
    train: Train = Train(best_metric="epoch")

    def rules(self) -> Rules:
        """Settings that pre-training cannot have, or that would do nothing."""
        pretrain, augment, train, own = self.pretrain, self.augment, self.train, Pretrain()
        simsiam = pretrain.method == "simsiam"
        return {
            **metric_rules(self, "epoch"),
            **whole_image_rules(self),
            **no_head_rules(self),
            "the settings loss.* are for labels": self.loss != Loss(),
            "simsiam has no target: leave pretrain.momentum* at their defaults, as simsiam_fast does": simsiam
            and (pretrain.momentum, pretrain.momentum_end, pretrain.momentum_batch)
            != (own.momentum, own.momentum_end, own.momentum_batch),
            "train.patience is for tasks with labels: pre-training has no metric to watch": train.patience,
            "train.flip_test is for classification and segmentation": train.flip_test,
            "train.shard_model is not for pre-training: the target network follows whole weights": train.shard_model,
            "augment.mixup and augment.cutmix need labels": augment.mixup or augment.cutmix,
            "optim.ema is for tasks with labels: the target network is an average already": self.optim.ema,
            "optim.layer_decay and model.freeze are for classification": self.optim.layer_decay < 1
            or self.model.freeze,
            "pretrain.projector needs a width": not pretrain.projector,
            "pretrain.momentum_end is below pretrain.momentum": pretrain.momentum_end < pretrain.momentum,
            "pretrain.small_size and small_scale do nothing without pretrain.small_crops": not pretrain.small_crops
            and (pretrain.small_size or pretrain.small_scale != own.small_scale),
            "pretrain.temperature does nothing without the contrastive loss of moco (pretrain.contrast)": (
                pretrain.temperature != own.temperature and not (pretrain.contrast or pretrain.method == "moco")
            ),
            "pretrain.contrast is a share that byol and simsiam may have; moco is contrastive throughout": (
                pretrain.contrast and pretrain.method == "moco"
            ),
            "pretrain.small_crops go with augment.crop resized": pretrain.small_crops and augment.crop != "resized",
        }
