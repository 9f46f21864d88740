"""Segmentation losses: pure functions of logits [N, K, H, W] and masks [N, H, W], computed in float32, each a scalar.

Masks have class indices 0..K-1 (uint8 or int64; K <= 254), or IGNORE for pixels that are not counted. If all pixels are
ignored, a loss is 0 with a gradient of zeros, never NaN.

weights: float [K], the weight of each class. In cross_entropy, focal and ohem it weighs the pixels of the class; in
dice and lovasz it weighs the class in the mean over the classes.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ...data.decode.palettes import IGNORE

ONE_BITS = 0x3F800000  # bit pattern of the float32 1.0
LAST_KEY = 2**31 - 2  # sort key of ignored pixels: even, and larger than that of the error 0


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None, *, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy, averaged over the pixels of the batch that are not ignored, with label smoothing (arXiv
    1512.00567).

    With weights the mean is defined as in PyTorch: the sum divided by the sum of the weights of the true classes.
    """
    weights = on_device(weights, logits)
    if not smoothing:
        terms = negative_log_likelihood(logits, targets)
        terms = terms if weights is None else terms * by_class(weights)[targets.long()]
        return terms.sum() / divisor(targets, weights)
    total = functional.cross_entropy(
        logits.float(),
        targets.long(),
        weight=weights,
        ignore_index=IGNORE,
        reduction="sum",  # the mean of no pixels would be NaN
        label_smoothing=smoothing,
    )
    return total / divisor(targets, weights)


def negative_log_likelihood(logits: Tensor, targets: Tensor) -> Tensor:
    """-log p of each pixel's true class, float32 [N, H, W]; 0 for ignored pixels.

    functional.cross_entropy is slower on a CPU, because its softmax expects channels-first memory: 130 to 155 ms
    instead of 57 ms, forward and backward, for [8, 11, 256, 320] in channels_last order on one Zen 4 core.
    """
    logits = logits.float()
    ignored = targets == IGNORE
    own = logits.gather(1, targets.long().masked_fill(ignored, 0)[:, None])[:, 0]
    return (logits.logsumexp(1) - own).masked_fill(ignored, 0)


def focal(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    *,
    alpha: float = 1.0,
    gamma: float = 2.0,
    smoothing: float = 0.0,
) -> Tensor:
    """Softmax focal loss of arXiv 1708.02002: mean of -alpha * (1 - p_t)^gamma * log p_t over the pixels not ignored.

    p_t is the softmax probability of the true class. The loss equals `classify.losses.focal` applied to these pixels,
    with the same smoothing and weights.
    """
    weights = on_device(weights, logits)
    targets = targets.long()
    terms = focal_terms(negative_log_likelihood(logits, targets), alpha, gamma)
    if weights is not None:
        terms = terms * by_class(weights)[targets]
    if smoothing:
        every = focal_terms(-functional.log_softmax(logits.float(), dim=1), alpha, gamma)
        every = every if weights is None else every * weights[:, None, None]
        terms = (1 - smoothing) * terms + smoothing * every.mean(dim=1) * (targets != IGNORE)
    return terms.sum() / divisor(targets, weights)


def focal_terms(losses: Tensor, alpha: float, gamma: float) -> Tensor:
    """-alpha * (1 - p)^gamma * log p, of any shape; losses: -log p."""
    # 1 - p through expm1 keeps its digits near p = 1; the clamp keeps the gradient of x^gamma finite for gamma < 1.
    miss = (-torch.expm1(-losses)).clamp(min=1e-12)
    return alpha * miss**gamma * losses


def dice(logits: Tensor, targets: Tensor, weights: Tensor | None = None, *, smooth: float = 1.0) -> Tensor:
    """1 - mean soft Dice over the classes that occur in the batch's masks.

    Soft Dice of a class is (2 * sum(p * y) + smooth) / (sum(p) + sum(y) + smooth). The sums are over all pixels of the
    batch that are not ignored; p is the softmax probability of the class, and y is 1 on its pixels, else 0 (V-Net,
    arXiv 1606.04797, with p instead of p^2). smooth: in pixels; it limits the gradient of classes with few pixels.
    """
    weights = on_device(weights, logits)
    probabilities = logits.float().softmax(dim=1)
    classes = torch.arange(logits.shape[1], device=logits.device, dtype=targets.dtype)
    is_class = targets[:, None] == classes[:, None, None]
    truth = is_class.sum(dim=(0, 2, 3))
    hits = (probabilities * is_class).sum(dim=(0, 2, 3))
    predicted = (probabilities * (targets != IGNORE)[:, None]).sum(dim=(0, 2, 3))
    misses = 1 - (2 * hits + smooth) / (predicted + truth + smooth).clamp(min=1e-12)
    share = (truth > 0).float() if weights is None else (truth > 0) * weights
    return (misses * share).sum() / positive(share.sum())


def lovasz(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Lovász-softmax (arXiv 1705.08790): a surrogate of 1 - IoU, averaged over the classes that occur in the batch's
    masks.

    The IoU is computed over all pixels of the batch that are not ignored, not per image. weights: float [K], the weight
    of each class in the average.
    """
    weights = on_device(weights, logits)
    truth = targets.flatten()
    present = torch.bincount(truth, minlength=256)[: logits.shape[1]].nonzero().flatten()
    share = torch.ones(len(present), device=logits.device) if weights is None else weights[present]
    probabilities = logits.float().softmax(dim=1).movedim(1, 0).flatten(1)[present]  # [classes present, pixels]
    is_class = truth == present.to(truth.dtype)[:, None]
    errors = (is_class.float() - probabilities).abs()
    with torch.no_grad():
        steps, ignored = torch.empty_like(errors), truth == IGNORE
        for row, (error, own) in enumerate(zip(errors, is_class, strict=True)):
            lovasz_steps(error, own, ignored, steps[row])
    return ((errors * steps).sum(dim=1) * share).sum() / positive(share.sum())


def lovasz_steps(errors: Tensor, is_class: Tensor, ignored: Tensor, out: Tensor) -> None:
    """Write to `out` the gradient of one class's Lovász-extended Jaccard loss with respect to its `errors`.

    errors, is_class, ignored, out: [pixels]. This is algorithm 1 of arXiv 1705.08790: the pixels are sorted by
    descending error, ignored pixels last. The gradient of a pixel is the increase of the Jaccard loss if this pixel
    becomes wrong in addition to all pixels before it. With `missed` wrong pixels of the class and `added` wrong pixels
    of other classes, the loss is 1 - (size - missed) / (size + added), where size is the number of pixels of the class.
    Its differences are computed in closed form, because subtracting float32 values near 1 would lose half of their
    digits.
    """
    # Floats in [0, 1] sort like their bits, which stay below 2^30, and torch's radix sort of integers is 8 times as
    # fast on a CPU. The lowest bit of a key stores `is_class`, which saves a gather.
    keys = ((ONE_BITS - errors.view(torch.int32)) << 1) | is_class
    keys, order = torch.sort(keys.masked_fill_(ignored, LAST_KEY))
    own = (keys & 1).bool()
    missed = own.cumsum(0, dtype=torch.int32)
    size = missed[-1]
    union = (size + torch.arange(1, len(own) + 1, device=own.device, dtype=torch.int32) - missed).float()
    out.scatter_(0, order, torch.where(own, 1 / union, (size - missed) / (union * (union - 1))))


def ohem(
    logits: Tensor, targets: Tensor, weights: Tensor | None = None, *, share: float = 0.25, minimum: int = 0
) -> Tensor:
    """Online hard example mining (arXiv 1604.03540) for pixels: mean cross-entropy of the hardest pixels of the batch.

    The hardest pixels are those with the largest unweighted cross-entropy. Their number is round(share * number of
    pixels not ignored), but at least max(minimum, 1) and at most all pixels not ignored. Their mean is weighted by
    class: the sum divided by the sum of the weights of the true classes.
    """
    weights, targets = on_device(weights, logits), targets.long()
    losses = negative_log_likelihood(logits, targets).flatten()
    ignored = (targets == IGNORE).flatten()
    counted = len(ignored) - int(ignored.sum())
    taken = min(counted, max(round(share * counted), minimum, 1))
    hardest = losses.detach().masked_fill(ignored, -1.0).topk(taken, sorted=False).indices
    if weights is None:
        return losses[hardest].sum() / max(1, taken)
    pixel = by_class(weights)[targets.flatten()[hardest]]
    return (losses[hardest] * pixel).sum() / positive(pixel.sum())


def mean_over(targets: Tensor, weights: Tensor | None) -> Tensor:
    """The denominator by which cross_entropy and focal divide, a scalar; 0 if all pixels are ignored."""
    if weights is None:
        return (targets != IGNORE).sum().float()
    return by_class(weights.to(targets.device, torch.float32))[targets.long()].sum()


LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy,
    "focal": focal,
    "dice": dice,
    "lovasz": lovasz,
    "ohem": ohem,
}


POOLED = ("dice", "lovasz", "ohem")
"""Losses that are not means over pixels. They have no label smoothing. If several processes share a batch, these
losses need the pixels of all processes."""


def compound(
    terms: Mapping[Any, float], settings: Mapping[str, Mapping[str, Any]] | None = None
) -> Callable[..., Tensor]:
    """A weighted sum of losses, as a function (logits, targets, weights=None) -> scalar.

    terms: {name of the loss: its factor}. settings: keyword arguments of each loss by name, such as {"focal": {"gamma":
    3.0}}; settings of losses that are not in `terms` are ignored.
    """
    given = settings or {}
    parts = [(factor, LOSSES[name], dict(given.get(name, {}))) for name, factor in terms.items()]

    def total(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        values = [factor * loss(logits, targets, weights, **keywords) for factor, loss, keywords in parts]
        return torch.stack(values).sum()

    return total


def on_device(weights: Tensor | None, logits: Tensor) -> Tensor | None:
    """Class weights as float32 on the device of the logits."""
    return None if weights is None else weights.to(logits.device, torch.float32)


def by_class(weights: Tensor) -> Tensor:
    """The weight of a pixel for each possible value in a mask, float [256]; 0 for IGNORE."""
    table = weights.new_zeros(256)
    table[: len(weights)] = weights
    return table


def divisor(targets: Tensor, weights: Tensor | None) -> Tensor:
    """The number of pixels that are not ignored, or the sum of the weights of their classes; 1 if that is 0."""
    if weights is None:
        return positive((targets != IGNORE).sum())
    return positive(by_class(weights)[targets.long()].sum())


def positive(total: Tensor) -> Tensor:
    """`total`, or 1 if it is 0."""
    return torch.where(total > 0, total, torch.ones_like(total))


def losses() -> dict[str, Callable[..., Tensor]]:
    """The dict of losses, to which a file of the user's may add."""
    return LOSSES
