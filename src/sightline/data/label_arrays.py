"""Labels of N images as arrays: class indices int64 [N]; label sets bool [N, K], any number of classes per image; or
numbers float32 [N], as for regression."""

from collections.abc import Sequence
from typing import TypeGuard

import numpy as np

SEPARATOR = ";"
"""Between the class names of a label set in text."""


def are_sets(labels: np.ndarray | None) -> TypeGuard[np.ndarray]:
    """Whether labels are label sets."""
    return labels is not None and labels.ndim == 2


def are_numbers(labels: np.ndarray | None) -> TypeGuard[np.ndarray]:
    """Whether labels are numbers."""
    return labels is not None and labels.dtype.kind == "f"


def class_counts(labels: np.ndarray, classes: int) -> np.ndarray:
    """Number of images that have each class, int64 [classes]. Indices below 0 (unlabeled) are not counted.
    Numbers have no class."""
    if are_numbers(labels):
        return np.zeros(classes, np.int64)
    if are_sets(labels):
        return labels.sum(0, dtype=np.int64)
    return np.bincount(labels[labels >= 0], minlength=classes)


def label_texts(labels: np.ndarray, classes: Sequence[str]) -> list[str]:
    """The class name of each image; for label sets the names, separated by SEPARATOR, in class order;
    numbers with up to seven digits."""
    if are_numbers(labels):
        return [f"{value:.7g}" for value in labels]
    if are_sets(labels):
        return [SEPARATOR.join(classes[index] for index in np.flatnonzero(row)) for row in labels]
    return [classes[index] for index in labels]


def strata(labels: np.ndarray) -> np.ndarray:
    """The class by which each image is stratified, int64 [N]: of a label set the class that fewest images have.

    An image without a label has K. Numbers are not stratified: all are 0.
    """
    if are_numbers(labels):
        return np.zeros(len(labels), np.int64)
    if labels.ndim == 1:
        return labels
    counts = np.where(labels, labels.sum(0), len(labels) + 1)
    return np.where(labels.any(1), counts.argmin(1), labels.shape[1]).astype(np.int64)


def set_indices(labels: np.ndarray, classes: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """(index of each image's label set or number among the distinct ones, int64 [N]; the text of each distinct one)."""
    distinct, inverse = np.unique(labels, axis=0, return_inverse=True)
    return inverse.reshape(-1).astype(np.int64), tuple(label_texts(distinct, classes))
