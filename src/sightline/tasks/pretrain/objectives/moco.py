"""MoCo v3 (arXiv 2104.02057): each prediction must match the target of its own image among those of the batch."""

import torch
from torch import Tensor
from torch.nn import functional

from ..config import Pretrain


def contrastive_loss(predictions: Tensor, targets: Tensor, settings: Pretrain) -> Tensor:
    """The mean cross-entropy of softmax(cos(prediction, targets) / temperature) of predictions [N, P] among the targets
    [N, P] of all N images (equation 1 of arXiv 2104.02057, without its factor)."""
    first = functional.normalize(predictions.float(), dim=1)
    second = functional.normalize(targets.float().detach(), dim=1)
    with torch.autocast(first.device.type, enabled=False):
        logits = first @ second.T / settings.temperature
    return functional.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
