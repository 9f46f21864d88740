"""Heads that are fitted to features instead of trained: logistic regression by L-BFGS, and k-nearest neighbors."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn import functional

from ...errors import counted
from ...models.heads import NearestHead
from ..contract import Say

ITERATIONS = 1000
"""Maximum number of iterations of L-BFGS."""
HELD_OUT = 0.2
"""Share of the training images on which the penalty of a logistic regression is chosen."""
COARSE, FINE = 1e-4, 1e-7
"""Relative decreases of the loss in an iteration at which L-BFGS ends, to choose a penalty and for the result. On
18,000 photographs of 50 classes, the result of the coarse one has a loss of 1.328, of the fine one 1.320."""
FEWEST = 10
"""With fewer held-out images than this, no penalty is chosen, and `optim.weight_decay` is used."""
FEW, LEAST_DEVIATION = 100, 0.1
"""Features that happen to vary little among few training images vary more in others, and are not enlarged to the scale
of the rest. With 5 images of each of 4 classes the accuracy is 0.78 in place of 0.68; with 15 of each of 50 classes
nothing changes, see LOG.md."""

Scale = tuple[Tensor, Tensor]
"""Mean and standard deviation of each feature, [D] each."""


@threadpool_limits.wrap(limits=1, user_api="blas")  # each of the many short vector operations would wait for threads
def logistic_regression(
    features: Tensor,
    labels: Tensor,
    classes: int,
    penalty: float,
    start: np.ndarray | None = None,
    tolerance: float = FINE,
) -> np.ndarray:
    """Fit logistic regression to standardized features [N, D]: weights and biases [K * (D + 1)], float64.

    labels: class indices int64 [N], for multinomial regression; or label sets bool [N, K], for one regression for each
    class. The mean over the images of the cross-entropy, for label sets summed over the classes, plus penalty / 2 *
    |weights|^2 is minimized, from `start`. Biases are not penalized. L-BFGS works in float64, the products of
    features and weights are in the dtype of the features.
    """
    count, width = features.shape
    several = labels.ndim == 2
    targets = labels.to(features) if several else functional.one_hot(labels, classes).to(features)

    def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
        weights, biases = parts_of(values, classes, features)
        logits = features @ weights.T + biases
        if several:
            loss = functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
            errors = (logits.sigmoid() - targets) / count
        else:
            logs = logits.log_softmax(1)
            loss, errors = -(targets * logs).sum(), (logs.exp() - targets) / count
        slope = torch.cat([(errors.T @ features + penalty * weights).ravel(), errors.sum(0)])
        return float(loss.double() / count + penalty / 2 * (weights.double() ** 2).sum()), slope.double().cpu().numpy()

    options = {"maxiter": ITERATIONS, "maxfun": 2 * ITERATIONS, "ftol": tolerance}
    first = np.zeros(classes * (width + 1)) if start is None else start
    return minimize(objective, first, jac=True, method="L-BFGS-B", options=options).x


def with_float64(tensor: Tensor) -> Tensor:
    """The tensor, on the CPU if its device has no float64 (Apple's MPS)."""
    return tensor.cpu() if tensor.device.type == "mps" else tensor


def parts_of(values: np.ndarray, classes: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """(weights [K, D], biases [K]) of the result of `logistic_regression`, with the dtype and device of `like`."""
    tensor = torch.from_numpy(values).to(like)
    return tensor[:-classes].reshape(classes, -1), tensor[-classes:]


def standardization(features: Tensor) -> Scale:
    """Mean and standard deviation of each feature [D]; 1 for features that are constant. With fewer than FEW images the
    deviations are at least LEAST_DEVIATION of the root mean square of all of them."""
    mean, scale = features.mean(0), features.std(0, correction=0)
    if len(features) < FEW:
        scale = scale.clamp(min=float(LEAST_DEVIATION * scale.square().mean().sqrt()))
    return mean, torch.where(scale <= 1e-6 * scale.max(), torch.ones_like(scale), scale)


def choose_penalty(
    features: Tensor, labels: Tensor, classes: int, penalties: Sequence[float], held: np.ndarray
) -> tuple[float, float, np.ndarray]:
    """The penalty with the lowest loss on the held-out images, bool [N], after a fit to the others; with the loss and
    the result of that fit. Weaker penalties than the first one with a higher loss are not tried."""
    out = torch.from_numpy(held).to(features.device)
    mean, scale = standardization(features[~out])
    inputs, tests = (features[~out] - mean) / scale, (features[out] - mean) / scale
    best, values = (math.nan, math.inf, np.zeros(0)), None
    for penalty in sorted(penalties, reverse=True):  # from strong to weak, each from the one before
        values = logistic_regression(inputs, labels[~out], classes, penalty, values, COARSE)
        weights, biases = parts_of(values, classes, features)
        loss = float(loss_of(tests @ weights.T + biases, labels[out]))
        if loss >= best[1]:
            break
        best = penalty, loss, values
    return best


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of logits [N, K]; of label sets bool [N, K] the mean over images and classes."""
    if labels.ndim == 2:
        return functional.binary_cross_entropy_with_logits(logits, labels.to(logits))
    return functional.cross_entropy(logits, labels)


@torch.no_grad()
def fit_head(
    head: nn.Module,
    features: Tensor,
    labels: Tensor,
    penalty: float,
    penalties: Sequence[float] = (),
    held_out: Callable[[], np.ndarray] | None = None,
    say: Say = lambda text: None,
) -> None:
    """Fit a head to the features [N, D] of the training images and their labels.

    A `NearestHead` stores them. A linear head becomes the logistic regression of the standardized features; the
    standardization is then folded into its weights. labels: class indices int64 [N], or label sets bool [N, K].
    penalty: of the logistic regression; or of `penalties`, the only one, or the best one on the images of `held_out()`,
    bool [N].
    """
    if isinstance(head, NearestHead):
        head.store(features, labels.to(features.device))
        return
    assert isinstance(head, nn.Linear)
    features = with_float64(features)
    # Products in float64 take twice the time; on few features the time does not matter.
    inputs = features.double() if features.numel() * head.out_features < 1e8 else features.float()
    labels, start = labels.to(inputs.device), None
    penalty = penalties[0] if len(penalties) == 1 else penalty
    held = held_out() if len(penalties) > 1 and held_out else np.zeros(0, bool)
    if held.sum() >= FEWEST:
        penalty, loss, start = choose_penalty(inputs, labels, head.out_features, penalties, held)
        where = f"on {counted(int(held.sum()), 'training image')} that were held out for this choice"
        say(f"logistic regression: penalty {penalty:g}, with the lowest loss ({loss:.4f}) {where}")
    mean, scale = standardization(inputs)
    values = logistic_regression((inputs - mean) / scale, labels, head.out_features, penalty, start)
    weights, biases = parts_of(values, head.out_features, inputs.double())
    weights = weights / scale.double()
    head.weight.copy_(weights.to(head.weight.dtype))
    head.bias.copy_((biases - weights @ mean.double()).to(head.bias.dtype))
