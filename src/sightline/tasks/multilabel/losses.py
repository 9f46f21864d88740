"""Losses for several labels per image: each class is a separate yes-or-no question, computed in float32.

logits: [N, K]. targets: [N, K] from 0 to 1 (1: the image has the label; between: after mixup or cutmix). Each loss is
the mean over the N x K terms. weights, float [K], multiply the terms of positive targets, as PyTorch's `pos_weight`: a
factor on all terms of a class would only change its learning rate.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def binary_cross_entropy(
    logits: Tensor, targets: Tensor, weights: Tensor | None = None, *, smoothing: float = 0.0
) -> Tensor:
    """Binary cross-entropy, with class weights and label smoothing towards 1/2; a scalar."""
    weights = None if weights is None else weights.to(logits.device, torch.float32)
    targets = smoothed(targets, smoothing)
    return functional.binary_cross_entropy_with_logits(logits.float(), targets, pos_weight=weights)


def asymmetric(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    *,
    smoothing: float = 0.0,
    positive_gamma: float = 0.0,
    negative_gamma: float = 4.0,
    margin: float = 0.05,
) -> Tensor:
    """Asymmetric loss (Ben-Baruch et al., arXiv 2009.14119, equation 7); a scalar.

    -y (1 - p)^positive_gamma log p - (1 - y) q^negative_gamma log(1 - q), with p = sigmoid(logit) and
    q = max(p - margin, 0). Easy negatives, which are most of the terms, get little weight, and none below the margin.
    The paper and its code sum the terms; this is their mean. With both gammas and the margin 0 it equals
    `binary_cross_entropy`.
    """
    logits, targets = logits.float(), smoothed(targets, smoothing)
    log_p, p = functional.logsigmoid(logits), torch.sigmoid(logits)
    miss = torch.sigmoid(-logits)  # 1 - p without cancellation
    log_rest = (miss + margin).clamp(max=1).log() if margin else functional.logsigmoid(-logits)
    positive = targets * focus(miss, positive_gamma) * log_p
    negative = (1 - targets) * focus((p - margin).clamp(min=0), negative_gamma) * log_rest
    if weights is not None:
        positive = positive * weights.to(logits.device, torch.float32)
    return -(positive + negative).mean()


def focus(values: Tensor, gamma: float) -> Tensor | float:
    """values ** gamma, with a finite gradient at 0."""
    return values.clamp(min=1e-12) ** gamma if gamma else 1.0


def smoothed(targets: Tensor, smoothing: float) -> Tensor:
    """Move targets towards 1/2 by the share `smoothing`, float32."""
    return targets.float() * (1 - smoothing) + smoothing / 2


LOSSES: dict[str, Callable[..., Tensor]] = {"binary_cross_entropy": binary_cross_entropy, "asymmetric": asymmetric}


def losses() -> dict[str, Callable[..., Tensor]]:
    """The dict of losses, to which a file of the user's may add."""
    return LOSSES
