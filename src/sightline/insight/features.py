"""Measures of how well classes are separated in feature space: k-NN accuracy and silhouette."""

import numpy as np


def silhouette(features: np.ndarray, labels: np.ndarray) -> float | None:
    """Mean silhouette coefficient by cosine distance, -1 to 1 (Rousseeuw 1987), equal to scikit-learn's.

    features: float [N, D]. labels: int64 [N]. Returns None if there are fewer than two classes, or if every class has a
    single sample. A sample that is the only one of its class scores 0.

    The sum of a sample's cosine distances to a class is the size of the class minus the dot product of the sample with
    the sum of the class's unit vectors. Therefore no distance matrix [N, N] is needed.
    """
    present, column = np.unique(labels, return_inverse=True)
    if not 2 <= len(present) < len(labels):
        return None
    members = np.eye(len(present))[column]
    counts = members.sum(0)
    unit = unit_rows(features)
    sums = counts - unit @ (unit.T @ members)
    sums -= members * (1 - (unit * unit).sum(1, keepdims=True))  # distance to itself: 0, or 1 for zeros
    rows = np.arange(len(labels))
    others = counts[column] - 1
    within = sums[rows, column] / np.maximum(others, 1)
    means = sums / counts
    means[rows, column] = np.inf
    between = means.min(1)
    scale = np.maximum(np.maximum(within, between), np.finfo(float).tiny)
    return float(np.where(others > 0, (between - within) / scale, 0).mean())


def unit_rows(features: np.ndarray) -> np.ndarray:
    """L2-normalize the rows of `features` [N, D]: float64 [N, D]; rows of zeros remain zero."""
    rows = features.astype(np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(float).tiny)
