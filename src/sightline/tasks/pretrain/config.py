"""The configuration of a pre-training run: its own section, `pretrain`, and its checks."""

from typing import ClassVar, Literal

from pydantic import PositiveFloat

from ...config.checks import Rules, metric_rules, no_head_rules, whole_image_rules
from ...config.fields import Count, CountOrZero, Decay, Probability, Section, ShareRange
from ...config.schema import Config, Loss, Train


class Pretrain(Section):
    """Settings of self-supervised pre-training. Two views of each image are augmented by the section `augment`.

    The defaults are those of BYOL (arXiv 2006.07733); its optimizer settings are in the recipes.
    """

    method: str = "byol"
    """The objective. `byol`: see above. `simsiam` (arXiv 2011.10566): no second network; the target is the projection
    of the other view, without gradient. `moco`: the contrastive loss of MoCo v3 (arXiv 2104.02057)."""
    projector: tuple[Count, ...] = (4096, 256)
    """Widths of the projector's layers; all but the last have batch norm and ReLU."""
    projector_norm: bool = False
    """Whether the projector ends with a batch norm without scale and shift, as in SimSiam."""
    predictor: Count = 4096
    """Width of the predictor's hidden layer."""
    contrast: Probability = 0.0
    """Weight of an additional contrastive loss, that of MoCo v3, from 0 (the method as published) to 1 (the contrastive
    loss alone). The losses of BYOL and SimSiam do not separate different images, and the features get worse in runs of
    a few thousand steps."""
    temperature: PositiveFloat = 0.2
    """Temperature of the contrastive loss, by which cosine similarities are divided."""
    momentum: Decay = 0.996
    """Momentum of the target network's moving average at the first step."""
    momentum_end: Probability = 1.0
    """Momentum at the last step, reached by a half cosine; if equal to `momentum`, it is constant."""
    momentum_batch: CountOrZero = 4096
    """The batch size for which `momentum` holds. For others it is momentum ** (batch size / momentum_batch), so that
    the target moves equally fast per image (arXiv 2307.13813). 0: `momentum` holds for every batch size."""
    second_blur: Probability = 0.1
    """`augment.blur` of the second view."""
    second_solarize: Probability = 0.2
    """`augment.solarize` of the second view."""
    small_crops: CountOrZero = 0
    """Number of small views, from which the targets of both large views are predicted (arXiv 2006.09882)."""
    small_size: CountOrZero = 0
    """Height and width of the small views in pixels; 0: half of `data.size`."""
    small_scale: ShareRange = (0.05, 0.4)
    """Smallest and largest share of the image's area that a small view shows."""
    probe: str = ""
    """Labeled data on which k-NN accuracy is measured after each epoch; they are never trained on. Empty: the labels of
    `data.path`, if any."""
    neighbors: Count = 20
    """k of the k-NN accuracy; limited to the mean number of labeled images per class."""


class PretrainConfig(Config):
    """The common sections and `pretrain`."""

    path_keys: ClassVar[tuple[str, ...]] = (*Config.path_keys, "pretrain.probe")

    task: Literal["pretrain"] = "pretrain"
    pretrain: Pretrain = Pretrain()
    train: Train = Train(best_metric="epoch")

    def rules(self) -> Rules:
        """Settings that are invalid for pre-training, or have no effect on it."""
        pretrain, augment, train, own = self.pretrain, self.augment, self.train, Pretrain()
        simsiam = pretrain.method == "simsiam"
        return {
            **metric_rules(self, "epoch"),
            **whole_image_rules(self),
            **no_head_rules(self),
            "the settings loss.* have no effect on pre-training, which has no labels": self.loss != Loss(),
            "simsiam has no target network: leave out pretrain.momentum, momentum_end and momentum_batch": simsiam
            and (pretrain.momentum, pretrain.momentum_end, pretrain.momentum_batch)
            != (own.momentum, own.momentum_end, own.momentum_batch),
            "train.patience is not available: pre-training has no metric for early stopping": train.patience,
            "train.flip_test is available for classification and segmentation only": train.flip_test,
            "train.shard_model is not available: the target network needs unsharded weights": train.shard_model,
            "augment.mixup and augment.cutmix need labels, which pre-training does not use": augment.mixup
            or augment.cutmix,
            "optim.ema is not available: the target network is a moving average already": self.optim.ema,
            "optim.layer_decay and model.freeze are available for classification only": self.optim.layer_decay < 1
            or self.model.freeze,
            "pretrain.projector needs the width of at least one layer": not pretrain.projector,
            "pretrain.momentum_end is below pretrain.momentum": pretrain.momentum_end < pretrain.momentum,
            "pretrain.small_size and small_scale have no effect without pretrain.small_crops": not pretrain.small_crops
            and (pretrain.small_size or pretrain.small_scale != own.small_scale),
            "pretrain.temperature has no effect without a contrastive loss (pretrain.contrast, or moco)": (
                pretrain.temperature != own.temperature and not (pretrain.contrast or pretrain.method == "moco")
            ),
            "pretrain.contrast is available for byol and simsiam only; the loss of moco is contrastive already": (
                pretrain.contrast and pretrain.method == "moco"
            ),
            "pretrain.small_crops needs augment.crop resized": pretrain.small_crops and augment.crop != "resized",
        }
