"""DINO (arXiv 2104.14294): predict the target network's distribution over prototypes, centered and sharpened."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ....models.heads import mlp
from ..config import Pretrain
from ..siamese import Siamese

CENTER_MOMENTUM = 0.9


class Prototypes(nn.Module):
    """Linear layer [N, width] -> logits [N, K], the cosines of inputs and prototypes: both are scaled to length 1.

    center: float [K], moving average of the target network's logits; only that of the target network is used.
    """

    def __init__(self, width: int, prototypes: int):
        super().__init__()
        self.weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(prototypes, width), std=0.02))
        self.register_buffer("center", torch.zeros(prototypes))

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.autocast("cuda" if inputs.is_cuda else "cpu", enabled=False):  # not of device "meta"
            scaled = functional.normalize(inputs.to(self.weight.dtype), dim=1)
            return functional.linear(scaled, functional.normalize(self.weight, dim=1))


def dino_heads(width: int, settings: Pretrain) -> tuple[nn.Module, nn.Module]:
    """The projector of features [N, width], and the prototypes."""
    return mlp(width, settings.projector), Prototypes(settings.projector[-1], settings.prototypes)


@torch.no_grad()
def centered_and_sharpened(logits: Sequence[Tensor], model: Siamese, settings: Pretrain) -> list[Tensor]:
    """The target distributions [N, K] of the target network's logits [N, K] of the large views:
    softmax((logits - center) / teacher_temperature).

    In training mode, the center is then updated with the mean of the logits (equation 4 of the paper).
    """
    assert model.target is not None
    head = model.target[-1]
    assert isinstance(head, Prototypes)
    center: Tensor = head.center  # ty: ignore[invalid-assignment]
    found = [((view.to(center) - center) / settings.teacher_temperature).softmax(1) for view in logits]
    if model.training:
        center.lerp_(torch.cat([view.to(center) for view in logits]).mean(0), 1 - CENTER_MOMENTUM)
    return found


def dino_loss(predictions: Tensor, targets: Tensor, settings: Pretrain) -> Tensor:
    """The cross-entropy of the distributions softmax(predictions / student_temperature) with the target distributions
    [N, K], mean over the images; a scalar (equation 2 of the paper, for one pair of views)."""
    logs = (predictions.to(targets.dtype) / settings.student_temperature).log_softmax(1)
    return -(targets.detach() * logs).sum(1).mean()
