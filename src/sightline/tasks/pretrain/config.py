"""The configuration of a pre-training run: its own section, `pretrain`, and its checks."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import PositiveFloat

from ...config.checks import Rules, class_rules, metric_rules, no_head_rules, whole_image_rules
from ...config.fields import Count, CountOrZero, Decay, Probability, Section, ShareRange
from ...config.schema import Config, Loss, Train
from ...errors import SightlineError


class Pretrain(Section):
    """Settings of self-supervised pre-training. The two views of each image are augmented with the settings in
    `augment`.

    The defaults are those of BYOL (arXiv 2006.07733); the recipes have its optimizer settings.
    """

    method: str = "byol"
    """The objective. `byol`: predict the projection of the other view by a target network, a moving average of the
    trained one. `simsiam` (arXiv 2011.10566): without a target network; predict the projection of the other view by
    the same network, without gradient. `moco`: the contrastive loss of MoCo v3 (arXiv 2104.02057), with a target
    network. `dino` (arXiv 2104.14294): predict the target network's distribution over prototypes. `distill`: predict
    the features of a trained network, the teacher, for the same view."""
    projector: tuple[Count, ...] = (4096, 256)
    """Widths of the layers of the projector, the MLP after the backbone. All layers but the last have batch norm and
    ReLU. With `distill`, a layer of the width of the teacher's features follows."""
    projector_norm: bool = False
    """Whether the projector ends with a batch norm without scale and shift, as in SimSiam."""
    predictor: Count = 4096
    """Width of the hidden layer of the predictor, the two-layer MLP after the projector."""
    predictor_rate: PositiveFloat = 1.0
    """Factor of the predictor's learning rate. BYOL and SimSiam learn if the predictor is close to the best one for the
    present features; a larger rate keeps it there (arXiv 2102.06810)."""
    temperature: PositiveFloat = 0.2
    """Temperature of the contrastive loss of `moco`, by which cosine similarities are divided."""
    prototypes: Count = 4096
    """Number of prototypes of `dino`."""
    student_temperature: PositiveFloat = 0.1
    """By which the logits of the online network are divided in `dino`."""
    teacher_temperature: PositiveFloat = 0.04
    """By which the centered logits of the target network are divided in `dino`; a lower one sharpens the targets."""
    teacher: str = ""
    """The trained network of `distill`, a name as in `model.name`, such as timm/NAME."""
    teacher_weights: str = "pretrained"
    """Its weights: `pretrained`, those that its library publishes; or a file or run folder, as in `model.weights`."""
    teacher_size: CountOrZero = 0
    """Height and width of the teacher's images in pixels; 0: those for which its weights were made."""
    momentum: Decay = 0.996
    """Momentum of the target network (a moving average of the online network) at the first step."""
    momentum_end: Probability = 1.0
    """Momentum at the last step, reached along a half cosine; the momentum is constant if this equals `momentum`."""
    momentum_batch: CountOrZero = 4096
    """The batch size for which `momentum` is given. For a batch size B, momentum ** (B / momentum_batch) is used, so
    that the target changes equally fast per image (arXiv 2307.13813). 0: `momentum` is used for every batch size."""
    second_blur: Probability = 0.1
    """The value of `augment.blur` for the second view; `augment.blur` itself applies to the first view."""
    second_solarize: Probability = 0.2
    """The value of `augment.solarize` for the second view; `augment.solarize` itself applies to the first view."""
    small_crops: CountOrZero = 0
    """Number of additional small views per image (multi-crop, arXiv 2006.09882). From each, the projections of both
    large views are predicted."""
    small_size: CountOrZero = 0
    """Height and width of the small views in pixels; 0: half of `data.size`. With `augment.progressive` they shrink in
    proportion to the large ones."""
    small_scale: ShareRange = (0.05, 0.4)
    """Smallest and largest share of the image's area that a small view shows."""
    probe: str = ""
    """Path of labeled data on which the k-NN accuracy is measured after each epoch; they are never used for
    training. Empty: the labels of `data.path` are used, if it has any."""
    neighbors: Count = 20
    """k of the k-NN accuracy; limited to the mean number of labeled images per class."""


class PretrainConfig(Config):
    """The configuration of a pre-training run: the sections that all tasks have, and the section `pretrain`."""

    path_keys: ClassVar[tuple[str, ...]] = (*Config.path_keys, "pretrain.probe", "pretrain.teacher_weights")
    former_keys: ClassVar[dict[str, str]] = {
        "pretrain.contrast": "the objective's name determines its loss: use --pretrain.method moco for the contrastive "
        "loss of MoCo v3, or byol or simsiam for their own"
    }

    task: Literal["pretrain"] = "pretrain"
    pretrain: Pretrain = Pretrain()
    train: Train = Train(best_metric="epoch")

    def rules(self) -> Rules:
        """Rules for settings that are invalid for pre-training or have no effect on it: error message -> whether the
        configuration violates the rule."""
        pretrain, augment, train, own = self.pretrain, self.augment, self.train, Pretrain()
        method = pretrain.method
        alone = method in ("simsiam", "distill")
        dino = ("prototypes", "student_temperature", "teacher_temperature")
        taught = ("teacher", "teacher_weights", "teacher_size")

        def changed(names: tuple[str, ...]) -> bool:
            return any(getattr(pretrain, name) != getattr(own, name) for name in names)

        return {
            **metric_rules(self, "epoch"),
            **whole_image_rules(self),
            **no_head_rules(self),
            **class_rules(self),
            "data.sampler draws by labels, which pre-training does not use": self.data.sampler != "shuffle",
            "the settings loss.* have no effect on pre-training, which has no labels": self.loss != Loss(),
            f"{method} has no target network: leave out pretrain.momentum, momentum_end and momentum_batch": alone
            and changed(("momentum", "momentum_end", "momentum_batch")),
            "pretrain.prototypes, student_temperature and teacher_temperature need pretrain.method dino": method
            != "dino"
            and changed(dino),
            "pretrain.teacher, teacher_weights and teacher_size need pretrain.method distill": method != "distill"
            and changed(taught),
            "pretrain.method distill needs a trained network: --pretrain.teacher timm/NAME": method == "distill"
            and not pretrain.teacher,
            "pretrain.method distill has no small views: leave out pretrain.small_crops": method == "distill"
            and pretrain.small_crops,
            "pretrain.teacher is for images of red, green and blue": pretrain.teacher
            and self.data.channels not in ("auto", "rgb"),
            "train.patience is not available: pre-training has no metric for early stopping": train.patience,
            "train.flip_test is available for classification and segmentation only": train.flip_test,
            "train.shard_model is not available: the target network needs unsharded weights": train.shard_model,
            "augment.mixup and augment.cutmix need labels, which pre-training does not use": augment.mixup
            or augment.cutmix,
            "optim.ema is not available: the target network is a moving average already": self.optim.ema,
            "optim.layer_decay and model.freeze are available for classification only": self.optim.layer_decay < 1
            or self.model.freeze,
            "pretrain.projector needs the width of at least one layer": not pretrain.projector and method != "distill",
            "pretrain.momentum_end is below pretrain.momentum": pretrain.momentum_end < pretrain.momentum,
            "pretrain.small_size and small_scale have no effect without pretrain.small_crops": not pretrain.small_crops
            and (pretrain.small_size or pretrain.small_scale != own.small_scale),
            "pretrain.temperature is that of the contrastive loss: it needs pretrain.method moco": (
                pretrain.temperature != own.temperature and pretrain.method != "moco"
            ),
            f"{method} has no predictor: leave out pretrain.predictor_rate": pretrain.predictor_rate != 1
            and method not in ("byol", "simsiam", "moco"),
            "pretrain.small_crops needs augment.crop resized": pretrain.small_crops and augment.crop != "resized",
        }


RENAMED = "pretrain.contrast 1 is now the objective `moco`: this run's method is moco"


def upgrade(values: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], str]:
    """Replace `pretrain.contrast` of earlier versions, the weight of a contrastive loss in place of the
    method's own, in the nested values of a recipe; returns (values, a note or "").

    0 is left out. 1 with BYOL is the objective `moco`, whose loss, networks and random numbers are the same. Raises
    SightlineError for other weights, which mixed two losses, and for SimSiam. where: origin of the values.
    """
    pretrain = values.get("pretrain")
    if not isinstance(pretrain, Mapping) or "contrast" not in pretrain:
        return values, ""
    rest = {key: value for key, value in pretrain.items() if key != "contrast"}
    weight, method = pretrain["contrast"], rest.get("method", "byol")
    if weight == 0:
        return {**values, "pretrain": rest}, ""
    if weight == 1 and method == "byol":
        return {**values, "pretrain": rest | {"method": "moco"}}, RENAMED
    why = "an objective now has one loss: byol and simsiam their own, moco the contrastive loss of MoCo v3"
    cure = f"remove `contrast` from the section `pretrain`; to use the weights, leave `method: {method}` as it is"
    what = f"the recipe mixes the loss of {method} with pretrain.contrast {weight}"
    raise SightlineError(what, where=where, why=why, cure=cure)
