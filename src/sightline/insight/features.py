"""How well classes are separated in the feature space itself."""

import numpy as np


def silhouette(features: np.ndarray, labels: np.ndarray) -> float | None:
    """Mean silhouette, -1 to 1, by cosine distance (Rousseeuw 1987); None where fewer than two classes occur
    or each sample has its own class.

    features: float [N, D]. labels: int64 [N]. As in scikit-learn, a sample alone in its class scores 0. The sum of
    a sample's distances to a class is the class's size minus the product with the sum of its unit vectors, so no [N, N]
    distance matrix is needed.
    """
    present, column = np.unique(labels, return_inverse=True)
    if not 2 <= len(present) < len(labels):
        return None
    members = np.eye(len(present))[column]
    counts = members.sum(0)
    unit = unit_rows(features)
    sums = counts - unit @ (unit.T @ members)
    sums -= members * (1 - (unit * unit).sum(1, keepdims=True))  # the distance to itself: 1 for a row of zeros
    rows = np.arange(len(labels))
    others = counts[column] - 1
    within = sums[rows, column] / np.maximum(others, 1)
    means = sums / counts
    means[rows, column] = np.inf
    between = means.min(1)
    scale = np.maximum(np.maximum(within, between), np.finfo(float).tiny)
    return float(np.where(others > 0, (between - within) / scale, 0).mean())


def unit_rows(features: np.ndarray) -> np.ndarray:
    """float64 [N, D] with rows of length 1; a row of zeros stays zero."""
    wide = features.astype(np.float64)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), np.finfo(float).tiny)
