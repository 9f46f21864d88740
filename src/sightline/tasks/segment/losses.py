"""Segmentation losses: pure functions of logits [N, K, H, W] and masks [N, H, W], computed in float32, each a scalar.

Masks hold class indices 0..K-1 (uint8 or int64; K <= 254) or IGNORE, which counts nowhere. Where every pixel is
ignored a loss is 0 with a gradient of zeros, never NaN. `weights`, float [K], weigh pixels by their class in the losses
that are means over pixels (cross_entropy, focal, ohem), classes in those that are means over classes (dice, lovasz).
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ...data.decode.palettes import IGNORE
from ...errors import SightlineError

ONE_BITS = 0x3F800000  # of the float32 1.0
LAST_KEY = 2**31 - 2  # even, and beyond the key of the error 0


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None, *, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy over the counted pixels of the batch, with label smoothing (arXiv 1512.00567).

    With weights it is PyTorch's mean: the sum divided by the summed weights of the targets.
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
    """-log p of each pixel's own class, float32 [N, H, W]; 0 where it is ignored.

    functional.cross_entropy takes more than twice as long on a processor, forward and backward: 130 to 155 ms against
    57 for [8, 11, 256, 320] channels_last, one Zen 4 core. Its softmax wants the classes outermost in memory.
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
    """Softmax focal loss of arXiv 1708.02002: mean over the counted pixels of -alpha * (1 - p_t)^gamma * log p_t.

    The same as `losses.focal` on the list of the counted pixels: smoothing and weights as there.
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
    """-alpha * (1 - p)^gamma * log p out of -log p, of any shape."""
    # 1 - p through expm1 keeps its digits near p = 1; the clamp keeps the gradient of x^gamma finite for gamma < 1.
    miss = (-torch.expm1(-losses)).clamp(min=1e-12)
    return alpha * miss**gamma * losses


def dice(logits: Tensor, targets: Tensor, weights: Tensor | None = None, *, smooth: float = 1.0) -> Tensor:
    """1 - the mean over the classes present in the batch's masks of soft Dice, pooled over the batch's counted pixels.

    Soft Dice of a class is (2 * sum(p * y) + smooth) / (sum(p) + sum(y) + smooth), where p is the softmax probability
    and y is 1 on the pixels of the class (V-Net, arXiv 1606.04797, with p in place of its p^2). smooth: in pixels; it
    keeps the gradient of a class of a few pixels small.
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
    """Lovász-softmax (arXiv 1705.08790): mean over the classes present in the batch's masks of a surrogate of 1 - IoU.

    The IoU is that of all counted pixels of the batch together, not a mean over its images.
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
    """Gradient of the Lovász extension of one class's Jaccard loss in its errors; all [pixels], written to `out`.

    Algorithm 1 of the paper: with the errors sorted from the largest, it is what each pixel adds to the Jaccard loss
    when the pixels before it are wrong already. With `missed` of the class's pixels and `added` others wrong, the loss
    is 1 - (size - missed) / (size + added). Its differences are written out here: in float32 the subtraction of
    neighboring values near 1 would lose half of their digits. Ignored pixels come last, where nothing is left to add.
    """
    # Floats in [0, 1] sort as their bits do, which stay below 2^30, and torch sorts integers by radix: 8 times as fast
    # on a processor. The lowest bit carries the class along, which spares a gather.
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
    """Online hard example mining (arXiv 1604.03540, for pixels): mean cross-entropy of the hardest pixels of the batch.

    Of `counted` pixels those with the largest unweighted cross-entropy are taken: round(share * counted) of them, but
    at least `minimum` and at least 1, and never more than there are. Their mean is weighted as in `cross_entropy`.
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


POOLED = ("dice", "lovasz", "ohem")
"""No means over pixels: of a batch in several parts they are not the mean of those of the parts."""


def mean_over(targets: Tensor, weights: Tensor | None) -> Tensor:
    """What cross_entropy and focal divide their sum by, a scalar, 0 where no pixel counts."""
    if weights is None:
        return (targets != IGNORE).sum().float()
    return by_class(weights.to(targets.device, torch.float32))[targets.long()].sum()


DENSE_LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy,
    "focal": focal,
    "dice": dice,
    "lovasz": lovasz,
    "ohem": ohem,
}


def compound(
    terms: Mapping[Any, float], settings: Mapping[str, Mapping[str, Any]] | None = None
) -> Callable[..., Tensor]:
    """The sum of `factor * loss` over terms {name: factor}, as a function (logits, targets, weights=None) -> scalar.

    settings: keyword arguments by name of the loss, such as {"focal": {"gamma": 3.0}}; those of losses that are no term
    are not looked at. Raises SightlineError naming every loss that does not exist.
    """
    unknown = [name for name in terms if name not in DENSE_LOSSES]
    if unknown or not terms:
        what = "there is no loss " + ", ".join(map(repr, unknown)) if unknown else "a sum of losses without terms"
        raise SightlineError(what, where="loss.terms", cure="choose from " + ", ".join(DENSE_LOSSES))
    given = settings or {}
    parts = [(factor, DENSE_LOSSES[name], dict(given.get(name, {}))) for name, factor in terms.items()]

    def total(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        values = [factor * loss(logits, targets, weights, **keywords) for factor, loss, keywords in parts]
        return torch.stack(values).sum()

    return total


def on_device(weights: Tensor | None, logits: Tensor) -> Tensor | None:
    """Class weights as float32 beside the logits."""
    return None if weights is None else weights.to(logits.device, torch.float32)


def by_class(weights: Tensor) -> Tensor:
    """A table [256] of the weight of a pixel by its value in the mask; IGNORE weighs 0."""
    table = weights.new_zeros(256)
    table[: len(weights)] = weights
    return table


def divisor(targets: Tensor, weights: Tensor | None) -> Tensor:
    """Number of counted pixels, or the sum of their weights; 1 where that is 0, because then the sum above it is 0."""
    if weights is None:
        return positive((targets != IGNORE).sum())
    return positive(by_class(weights)[targets.long()].sum())


def positive(total: Tensor) -> Tensor:
    """`total`, or 1 where it is 0."""
    return torch.where(total > 0, total, torch.ones_like(total))
