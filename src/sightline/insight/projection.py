"""Two-dimensional maps of features over the epochs of a run: PCA and t-SNE, aligned between epochs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from ..stats.metrics import knn_accuracy
from .features import silhouette

FEWEST = 10  # samples; of fewer, a neighborhood is the whole set
COMPONENTS = 50  # principal components that t-SNE works on; the usual choice (van der Maaten & Hinton 2008: 30)
PERPLEXITY = 30
NEIGHBORS = 20


@dataclass(frozen=True)
class EpochMap:
    """The maps of one epoch, and measures of its features.

    pca, tsne: float64 [N, 2]; tsne is None where not requested. explained: share of the variance in `pca`.
    knn: leave-one-out accuracy of k-NN with k = `neighbors` (NEIGHBORS, or all others of fewer samples); None without
    labels. silhouette: -1 to 1, or None. Both use cosine distance in the original feature space.
    """

    epoch: int
    pca: np.ndarray
    tsne: np.ndarray | None
    explained: float
    knn: float | None
    neighbors: int
    silhouette: float | None


def epoch_maps(
    epochs: list[int], features: list[np.ndarray], labels: np.ndarray | None, neighbors: bool = True
) -> list[EpochMap]:
    """Maps of the same samples at several epochs, in order. features: float [N, D] each; labels: int64 [N], or None.
    neighbors: compute t-SNE too.

    PCA: feature spaces differ between epochs, so each epoch has its own two components, in units of its root mean
    square distance from the mean; the map is then rotated or mirrored to match that of the LAST epoch. t-SNE: each
    epoch is initialized with the map of the epoch before, and rotated to match it.
    """
    reduced = [principal_components(array, COMPONENTS) for array in features]
    planes = [scores[:, :2] / max(spread, 1e-12) for scores, _, spread in reduced]
    planes = [rotated_to(centered(plane), planes[-1]) for plane in planes]
    maps: list[EpochMap] = []
    for epoch, array, plane, (scores, shares, _) in zip(epochs, features, planes, reduced, strict=True):
        before = maps[-1].tsne if maps else None
        flat = tsne(scores, before) if neighbors else None
        flat = rotated_to(flat, before) if flat is not None and before is not None else flat
        shown = float(shares[:2].sum())
        voters = min(NEIGHBORS, len(array) - 1)
        knn, apart = None, None
        if labels is not None:
            knn, apart = knn_accuracy(array, labels, voters), silhouette(array, labels)
        maps.append(EpochMap(epoch, plane, flat, shown, knn, voters, apart))
    return maps


def principal_components(features: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Scores float64 [N, k], their shares of the variance [k], and the root of the total variance; exact PCA.

    k = min(count, N, D), and at least 2. The eigenvectors are those of the smaller of covariance [D, D] and Gram
    matrix [N, N]. Signs: the score of largest magnitude is positive, for reproducible maps.
    """
    wide = centered(features.astype(np.float64))
    samples, width = wide.shape
    small = width <= samples
    matrix = (wide.T @ wide if small else wide @ wide.T) / max(samples - 1, 1)
    kept = min(count, len(matrix))
    values, vectors = scipy.linalg.eigh(matrix, subset_by_index=[len(matrix) - kept, len(matrix) - 1])
    values, vectors = np.clip(values[::-1], 0, None), vectors[:, ::-1]
    scores = wide @ vectors if small else vectors * np.sqrt(values * max(samples - 1, 1))
    if kept < 2:
        scores, values = np.pad(scores, ((0, 0), (0, 2 - kept))), np.pad(values, (0, 2 - kept))
    peaks = scores[np.abs(scores).argmax(0), np.arange(scores.shape[1])]
    total = max(float(np.trace(matrix)), np.finfo(float).tiny)
    return scores * np.where(peaks < 0, -1.0, 1.0), values / total, float(np.sqrt(total))


def tsne(scores: np.ndarray, start: np.ndarray | None, seed: int = 0) -> np.ndarray:
    """t-SNE map float64 [N, 2] of `scores` [N, k], initialized with an earlier epoch's map `start` or PCA.

    `start` is scaled down for early exaggeration and the full schedule runs: it sets the layout, not the clusters.
    Continuing at full scale without exaggeration is faster, but splits classes that were scattered early (50 classes,
    2,500 samples: k-NN accuracy in the map 0.91 instead of 0.99). 150 + 300 iterations
    instead of openTSNE's 250 + 500 keep that accuracy (0.35 and 0.34 on hard features) in two thirds of the time.
    One thread and a fixed seed make the map reproducible.
    """
    from openTSNE import TSNE

    perplexity = min(PERPLEXITY, (len(scores) - 1) / 3)
    initial = "pca" if start is None else start / max(float(np.std(start[:, 0])), 1e-12) * 1e-4
    model = TSNE(
        perplexity=perplexity,
        initialization=initial,
        early_exaggeration_iter=150,
        n_iter=300,
        neighbors="exact" if len(scores) <= 5000 else "auto",
        random_state=seed,
        n_jobs=1,
    )
    return centered(np.asarray(model.fit(scores), dtype=np.float64))


def rotated_to(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """`points` [N, 2] rotated or mirrored to match `target` (orthogonal Procrustes, no scaling). Both are centered."""
    rotation, _ = scipy.linalg.orthogonal_procrustes(points, target)
    return points @ rotation


def centered(points: np.ndarray) -> np.ndarray:
    """Points [N, D] minus their mean."""
    return points - points.mean(0)


def still_maps(maps: Sequence[EpochMap]) -> list[EpochMap]:
    """The maps of the first, middle and last epoch, which fit side by side on a page."""
    chosen = first_middle_last([one.epoch for one in maps])
    return [one for one in maps if one.epoch in chosen]


def first_middle_last(epochs: list[int]) -> list[int]:
    """The first, the middle (nearest to half of the last) and the last of sorted epochs, without repeats."""
    if len(epochs) < 3:
        return list(epochs)
    middle = min(epochs[1:-1], key=lambda epoch: abs(epoch - epochs[-1] / 2))
    return [epochs[0], middle, epochs[-1]]
