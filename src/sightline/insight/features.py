"""How well the classes stand apart in feature space itself, before any map flattens it."""

import numpy as np


def silhouette(features: np.ndarray, labels: np.ndarray) -> float | None:
    """Mean silhouette, -1 to 1, by cosine distance (Rousseeuw 1987); None where fewer than two classes repeat.

    features: float [N, D]. labels: int64 [N]. As in scikit-learn a sample alone in its class counts 0. The sum of a
    sample's distances to a class is its size less the product with the sum of the class's unit vectors, so that no
    [N, N] distances are needed.
    """
    present, place = np.unique(labels, return_inverse=True)
    if not 2 <= len(present) < len(labels):
        return None
    members = np.eye(len(present))[place]
    counts = members.sum(0)
    unit = unit_rows(features)
    sums = counts - unit @ (unit.T @ members)
    sums -= members * (1 - (unit * unit).sum(1, keepdims=True))  # of itself; not 0 of a row of zeros
    rows = np.arange(len(labels))
    others = counts[place] - 1
    within = sums[rows, place] / np.maximum(others, 1)
    means = sums / counts
    means[rows, place] = np.inf
    between = means.min(1)
    scale = np.maximum(np.maximum(within, between), np.finfo(float).tiny)
    return float(np.where(others > 0, (between - within) / scale, 0).mean())


def unit_rows(features: np.ndarray) -> np.ndarray:
    """float64 [N, D] with rows of length 1; a row of zeros stays zero."""
    wide = features.astype(np.float64)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), np.finfo(float).tiny)
