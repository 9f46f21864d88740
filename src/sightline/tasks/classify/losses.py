"""Classification losses: pure functions of logits and targets, computed in float32, averaged over the batch.

Targets are class indices, int64 [N], or probabilities, float [N, K], as after mixup and cutmix. With class weights, the
mean is defined as in PyTorch: for indices, the sum is divided by the sum of the weights of the targets; for
probabilities, it is divided by N.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy, with label smoothing (arXiv 1512.00567) and class weights; a scalar.

    logits: [N, K]. targets: int64 [N] or float [N, K]. smoothing: share of each target spread evenly over all
    classes. weights: float [K] or None.
    """
    weights = None if weights is None else weights.to(logits.device, torch.float32)
    targets = targets.float() if targets.is_floating_point() else targets
    return functional.cross_entropy(logits.float(), targets, weight=weights, label_smoothing=smoothing)


def focal(
    logits: Tensor,
    targets: Tensor,
    alpha: float = 1.0,
    gamma: float = 2.0,
    smoothing: float = 0.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Softmax focal loss, -alpha * (1 - p_t)^gamma * log p_t, where p_t is the softmax probability of the target.

    This is the multi-class form of arXiv 1708.02002, not the one-vs-rest sigmoid form that object detectors use. For
    soft or smoothed targets q it is the sum over the classes k of q_k * alpha * (1 - p_k)^gamma * -log p_k. With gamma
    = 0 and alpha = 1 it equals `cross_entropy`, which describes the other arguments and the mean.
    """
    log_p = functional.log_softmax(logits.float(), dim=1)
    hard = not targets.is_floating_point()
    q = functional.one_hot(targets, logits.shape[1]).float() if hard else targets.float()
    q = q * (1 - smoothing) + smoothing / logits.shape[1]
    # 1 - p through expm1 keeps its digits near p = 1; the clamp keeps the gradient of x^gamma finite for gamma < 1.
    miss = (-torch.expm1(log_p)).clamp(min=1e-12)
    terms = -alpha * q * miss**gamma * log_p
    if weights is None:
        return terms.sum() / len(logits)
    weights = weights.to(logits.device, torch.float32)
    return (terms * weights).sum() / (weights[targets].sum() if hard else len(logits))


def mean_over(targets: Tensor, weights: Tensor | None) -> Tensor:
    """The denominator by which these losses divide, a scalar.

    If a batch is split into several parts, it weighs the mean of each part.
    """
    if weights is None or targets.is_floating_point():
        return torch.tensor(float(len(targets)), device=targets.device)
    return weights.to(targets.device, torch.float32)[targets].sum()


LOSSES: dict[str, Callable[..., Tensor]] = {"cross_entropy": cross_entropy, "focal": focal}


def losses() -> dict[str, Callable[..., Tensor]]:
    """The dict of losses, to which a file of the user's may add."""
    return LOSSES
