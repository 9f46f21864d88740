"""Objectives of pre-training: the loss of the prediction from one view against the target from a view.

A training step adds the losses of all pairs of views. To add an objective, write its file and add it to `OBJECTIVES`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from ..config import Pretrain
from ..siamese import Siamese
from .byol import byol_loss
from .dino import centered_and_sharpened, dino_heads, dino_loss
from .distill import distill_heads, distill_loss
from .heads import projector_and_predictor
from .moco import contrastive_loss
from .simsiam import simsiam_loss


class Objective(NamedTuple):
    """An objective of pre-training.

    title: its name in reports. loss: (predictions [N, P], targets [N, P], settings) -> scalar. heads: (number of
    features, settings) -> (projector, predictor). with_target: whether a second network, a moving average of the first,
    computes the targets. whole_target: whether that network also has a predictor. over_batch: whether the loss of an
    image depends on the other images of the batch. taught: whether the targets are features of a trained network for
    the same view; otherwise they are of another view. targets: (outputs of the target network for the large views,
    networks, settings) -> targets; None if they are equal.
    """

    title: str
    loss: Callable[[Tensor, Tensor, Pretrain], Tensor]
    heads: Callable[[int, Pretrain], tuple[nn.Module, nn.Module]] = projector_and_predictor
    with_target: bool = True
    whole_target: bool = False
    over_batch: bool = False
    taught: bool = False
    targets: Callable[[Sequence[Tensor], Siamese, Pretrain], list[Tensor]] | None = None


OBJECTIVES = {
    "byol": Objective("BYOL", byol_loss),
    "simsiam": Objective("SimSiam", simsiam_loss, with_target=False),
    "moco": Objective("MoCo v3", contrastive_loss, over_batch=True),
    "dino": Objective(
        "DINO", dino_loss, dino_heads, whole_target=True, over_batch=True, targets=centered_and_sharpened
    ),
    "distill": Objective("distillation", distill_loss, distill_heads, with_target=False, taught=True),
}
