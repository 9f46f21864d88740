"""Linear evaluation of a frozen backbone: logistic regression by L-BFGS on its features, and k-nearest neighbors."""

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch import Tensor, nn

from ...stats.metrics import knn_votes

ITERATIONS = 1000
"""Maximum number of iterations of L-BFGS."""


def logistic_regression(
    features: np.ndarray, labels: np.ndarray, classes: int, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fit multinomial logistic regression: (weights [K, D], biases [K]) for unscaled features, float64.

    features: [N, D]. labels: int64 [N]. The features are standardized, and the mean cross-entropy plus
    penalty / 2 * |weights|^2 is minimized; the standardization is then folded into weights and biases. So the penalty
    does not depend on the scale of the features. Biases are not penalized.
    """
    mean, scale = features.mean(0), features.std(0)
    scale[scale <= 1e-6 * scale.max()] = 1.0  # features that are constant
    inputs = ((features - mean) / scale).astype(np.float64)
    targets, width = np.eye(classes)[labels], inputs.shape[1]

    def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
        weights, biases = values[: classes * width].reshape(classes, width), values[classes * width :]
        logs = log_softmax(inputs @ weights.T + biases, axis=1)
        errors = (np.exp(logs) - targets) / len(inputs)
        loss = -(targets * logs).sum() / len(inputs) + penalty / 2 * (weights**2).sum()
        return loss, np.concatenate([(errors.T @ inputs + penalty * weights).ravel(), errors.sum(0)])

    options = {"maxiter": ITERATIONS, "maxfun": 2 * ITERATIONS}
    found = minimize(objective, np.zeros(classes * (width + 1)), jac=True, method="L-BFGS-B", options=options).x
    weights = found[: classes * width].reshape(classes, width) / scale
    return weights, found[classes * width :] - weights @ mean


@torch.no_grad()
def fit_head(head: nn.Module, features: Tensor, labels: Tensor, penalty: float) -> None:
    """Set a linear head [N, D] -> [N, K] to the logistic regression of features [N, D] with labels int64 [N]."""
    assert isinstance(head, nn.Linear)
    inputs = features.double().cpu().numpy()
    for parameter, values in zip(
        (head.weight, head.bias),
        logistic_regression(inputs, labels.cpu().numpy(), head.out_features, penalty),
        strict=True,
    ):
        parameter.copy_(torch.from_numpy(values))


def nearest_accuracy(bank: Tensor, labels: Tensor, queries: Tensor, truth: Tensor) -> float:
    """Accuracy of k-nearest-neighbor classification (`knn_votes`) of `queries` [M, D] by the images of `bank` [N, D].

    labels: int64 [N], of the bank. truth: int64 [M].
    """
    classes = int(max(labels.max(), truth.max())) + 1
    predicted = knn_votes(bank, labels.to(bank.device), queries, classes).argmax(1)
    return int((predicted.cpu() == truth.cpu()).sum()) / len(truth)
