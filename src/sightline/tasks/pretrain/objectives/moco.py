"""MoCo v3 (arXiv 2104.02057): classify the target of the same image among all targets of the batch."""

import torch
from torch import Tensor
from torch.nn import functional

from ..config import Pretrain


def contrastive_loss(predictions: Tensor, targets: Tensor, settings: Pretrain) -> Tensor:
    """Contrastive loss of predictions [N, P] and targets [N, P], a scalar.

    For each prediction, the targets of all images of the batch are classes, with cos(prediction, target) / temperature
    as logits; the target of the same image is the correct class. The loss is the mean cross-entropy (equation 1 of
    arXiv 2104.02057, without its factor).
    """
    first = functional.normalize(predictions.float(), dim=1)
    second = functional.normalize(targets.float().detach(), dim=1)
    with torch.autocast(first.device.type, enabled=False):
        logits = first @ second.T / settings.temperature
    return functional.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
