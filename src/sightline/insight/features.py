"""How well the classes stand apart in feature space itself, before any map flattens it."""

import numpy as np


def silhouette(features: np.ndarray, labels: np.ndarray) -> float | None:
    """Mean silhouette, -1 to 1, by cosine distance (Rousseeuw 1987); None where fewer than two classes repeat.

    features: float [N, D]. labels: int64 [N]. As in scikit-learn a sample alone in its class counts 0. All
    distances are held at once: 50 MB at 2,500 samples.
    """
    present, place = np.unique(labels, return_inverse=True)
    if not 2 <= len(present) < len(labels):
        return None
    members = np.eye(len(present))[place]
    counts = members.sum(0)
    unit = unit_rows(features)
    distance = 1 - unit @ unit.T
    np.fill_diagonal(distance, 0)  # also of a row of zeros
    sums = distance @ members
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
