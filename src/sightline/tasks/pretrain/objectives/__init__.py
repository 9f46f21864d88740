"""Objectives of pre-training: the loss of the prediction from one view against the target from the other view.

A training step adds the losses of both directions. To add an objective, write its file and add it to `OBJECTIVES`.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from ..config import Pretrain
from .byol import byol_loss
from .moco import contrastive_loss
from .simsiam import simsiam_loss


class Objective(NamedTuple):
    """An objective of pre-training.

    title: its name in reports. loss: (predictions [N, P], targets [N, P], settings) -> scalar. with_target: whether a
    second network, a moving average of the first, computes the targets. over_batch: whether the loss of an image
    depends on the other images of the batch.
    """

    title: str
    loss: Callable[[Tensor, Tensor, Pretrain], Tensor]
    with_target: bool = True
    over_batch: bool = False


OBJECTIVES = {
    "byol": Objective("BYOL", byol_loss),
    "simsiam": Objective("SimSiam", simsiam_loss, with_target=False),
    "moco": Objective("MoCo v3", contrastive_loss, over_batch=True),
}
