"""Scores that need no training, to be read beside the score of a model: constant predictions and nearest neighbors."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from ..data.label_arrays import are_sets, strata
from .metrics import knn_votes

TITLES = {
    "most_frequent_class": "most frequent class",
    "most_frequent_class_pixel_accuracy": "its pixel accuracy",
    "class_frequencies": "class frequencies",
    "knn_raw_pixels": "k-NN on raw pixels",
    "knn_untrained": "k-NN on the network with random weights",
}
"""The baselines in words, by their key in the field `baselines` of a run's final results."""


def stratified_rows(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Choose `count` of N images at random by `seed`, with the same share of each class: sorted indices, int64.

    labels: as of `data.types.Decoded`. All indices if `count` is not smaller than N.
    """
    if count >= len(labels):
        return np.arange(len(labels))
    shuffled = np.random.default_rng([seed, 2]).permutation(len(labels))
    by_class = shuffled[np.argsort(strata(labels)[shuffled], kind="stable")]
    return np.sort(by_class[np.arange(count) * len(labels) // count])


def neighbor_scores(bank: torch.Tensor, labels: np.ndarray, queries: torch.Tensor, classes: int, k: int) -> np.ndarray:
    """Scores float32 [M, classes] of the images with features `queries` [M, D] by their nearest neighbors in `bank`
    [N, D], see `metrics.knn_votes`.

    labels: class indices int64 [N], or label sets bool [N, classes]; of those, each neighbor votes for all its classes.
    """
    if not are_sets(labels):
        return knn_votes(bank, torch.from_numpy(labels).to(bank.device), queries, classes, k).cpu().numpy()
    distinct, index = np.unique(labels, axis=0, return_inverse=True)
    chosen = torch.from_numpy(index.reshape(-1)).to(bank.device)
    votes = knn_votes(bank, chosen, queries, len(distinct), k).cpu().numpy()
    return votes / votes.sum(1, keepdims=True) @ distinct.astype(np.float32)


def baselines_of(*logs: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The baselines of finished runs by name, see `TITLES`: the mean over the runs that have it; {} if none has any.

    logs: for each run the lines of its metrics.jsonl.
    """
    values: dict[str, list[float]] = {}
    for log in logs:
        ends = [record for record in log if record.get("event") == "done"]
        found = ends[-1].get("baselines") if ends else None
        for name, value in found.items() if isinstance(found, dict) else ():
            if name in TITLES and isinstance(value, int | float):
                values.setdefault(name, []).append(float(value))
    return {name: float(np.mean(each)) for name, each in values.items()}


def baselines_text(found: Mapping[str, float]) -> str:
    """Baselines by name as one line of text."""
    return "without training: " + ", ".join(f"{TITLES[name]} {value:.4f}" for name, value in found.items())
