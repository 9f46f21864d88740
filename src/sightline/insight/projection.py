"""Two-dimensional maps of features over the epochs of a run: PCA and t-SNE, aligned between epochs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from threadpoolctl import threadpool_limits

from ..data.parallel import processors
from ..errors import counted
from ..stats.metrics import knn_accuracy
from .features import silhouette

MIN_SAMPLES = 10
"""Minimum number of samples for a map; with fewer, a t-SNE neighborhood would contain nearly all of them."""
COMPONENTS = 50
"""Number of principal components that are the input of t-SNE; van der Maaten & Hinton (2008) use 30."""
PERPLEXITY = 30
"""Maximum perplexity of t-SNE; with N samples, at most (N - 1) / 3."""
MOST_JOBS = 8
"""Maximum number of threads of t-SNE. It has at most half of the processors: its threads wait for each other after each
iteration, and on two processors, one of them busy, they took four times as long as one."""
EXAGGERATED, ITERATIONS = 150, 300
"""Iterations of t-SNE with early exaggeration, and without."""
NEIGHBORS = 20
"""Maximum k of the k-NN accuracy; with N samples, at most N - 1."""


@dataclass(frozen=True)
class EpochMap:
    """The maps of the features at one epoch, and measures of these features.

    pca, tsne: float64 [N, 2]; tsne is None if it was not requested. explained: share of the variance that the two axes
    of `pca` have, 0 to 1. knn: leave-one-out accuracy of k-NN with k = `neighbors`. silhouette: mean silhouette
    coefficient, -1 to 1. Both use the cosine distance of the original features, and are None without labels and where
    `why_not_separable` has a reason.
    """

    epoch: int
    pca: np.ndarray
    tsne: np.ndarray | None
    explained: float
    knn: float | None
    neighbors: int
    silhouette: float | None


def why_no_map(features: np.ndarray) -> str:
    """Why features float [N, D] have no map, in words; "" if they have one.

    Features are stored in float16, so differences of at most its rounding error in every dimension are no differences:
    t-SNE would show this error, and fails for equal features.
    """
    if len(features) < MIN_SAMPLES:
        return f"{counted(len(features), 'image')}, but at least {MIN_SAMPLES} are needed"
    half, largest = np.finfo(np.float16), np.abs(features).max(0)
    if not (largest <= half.max).all():  # also for NaN
        return f"the features have values that are not numbers or exceed {float(half.max):,.0f}, the limit of float16"
    if (np.ptp(features, 0) <= half.eps * np.maximum(largest, half.tiny)).all():
        return "the features of all images are the same, so there are no neighborhoods to show"
    return ""


def why_not_separable(labels: np.ndarray) -> str:
    """Why k-NN accuracy and silhouette are not defined for class indices int64 [N], in words; "" if they are."""
    classes = np.unique(labels).size
    if classes < 2:
        return "all these images are of one class"
    return "each of these images is the only one of its class" if classes == len(labels) else ""


def epoch_maps(
    epochs: list[int], features: list[np.ndarray], labels: np.ndarray | None, with_tsne: bool = True
) -> list[EpochMap]:
    """Compute aligned maps of the same N samples at several epochs.

    epochs: ascending. features: float [N, D] of each epoch. labels: class indices int64 [N], or None. with_tsne:
    whether to compute t-SNE too. Epochs whose features have no map (`why_no_map`) are left out.

    PCA is fitted to each epoch separately, because feature spaces differ between epochs. Its scores are divided by the
    root mean square distance from the mean, then rotated or mirrored to match the map of the last epoch. t-SNE is
    initialized with the map of the previous epoch, then rotated or mirrored to match that map.
    """
    usable = [index for index, array in enumerate(features) if not why_no_map(array)]
    epochs, features = [epochs[index] for index in usable], [features[index] for index in usable]
    reduced = [principal_components(array, COMPONENTS) for array in features]
    planes = [scores[:, :2] / max(spread, 1e-12) for scores, _, spread in reduced]
    planes = [rotated_to(centered(plane), planes[-1]) for plane in planes]
    maps: list[EpochMap] = []
    for epoch, array, plane, (scores, shares, _) in zip(epochs, features, planes, reduced, strict=True):
        previous = maps[-1].tsne if maps else None
        embedding = tsne(scores, previous) if with_tsne else None
        if embedding is not None and previous is not None:
            embedding = rotated_to(embedding, previous)
        explained, k = float(shares[:2].sum()), min(NEIGHBORS, len(array) - 1)
        knn, separation = None, None
        if labels is not None and not why_not_separable(labels):
            knn, separation = knn_accuracy(array, labels, k), silhouette(array, labels)
        maps.append(EpochMap(epoch, plane, embedding, explained, knn, k, separation))
    return maps


@threadpool_limits.wrap(limits=1, user_api="blas")  # SciPy's threads wait for each other where others compute
def principal_components(features: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Exact PCA of `features` [N, D].

    Returns (scores float64 [N, k], share of the variance of each component [k], square root of the total variance),
    where k = min(count, N, D), and at least 2; missing components are 0. The eigenvectors are computed from the
    covariance matrix [D, D] or from the Gram matrix [N, N], whichever is smaller. The score of largest magnitude of
    each component is positive, for reproducible maps.
    """
    data = centered(features.astype(np.float64))
    samples, width = data.shape
    small = width <= samples
    matrix = (data.T @ data if small else data @ data.T) / max(samples - 1, 1)
    kept = min(count, len(matrix))
    values, vectors = scipy.linalg.eigh(matrix, subset_by_index=[len(matrix) - kept, len(matrix) - 1])
    values, vectors = np.clip(values[::-1], 0, None), vectors[:, ::-1]
    scores = data @ vectors if small else vectors * np.sqrt(values * max(samples - 1, 1))
    if kept < 2:
        scores, values = np.pad(scores, ((0, 0), (0, 2 - kept))), np.pad(values, (0, 2 - kept))
    peaks = scores[np.abs(scores).argmax(0), np.arange(scores.shape[1])]
    total = max(float(np.trace(matrix)), np.finfo(float).tiny)
    return scores * np.where(peaks < 0, -1.0, 1.0), values / total, float(np.sqrt(total))


def tsne(scores: np.ndarray, start: np.ndarray | None, seed: int = 0) -> np.ndarray:
    """t-SNE map float64 [N, 2] of `scores` [N, k], deterministic for a fixed seed.

    start: the map of the previous epoch, or None to initialize with PCA. `start` is scaled down, and all iterations
    run, with early exaggeration: so `start` determines the positions of the clusters, but not which samples are in
    them. Starting at full scale without early exaggeration is faster, but splits classes that were scattered in earlier
    epochs: the k-NN accuracy in the map was 0.91 instead of 0.99 for 2,500 samples of 50 classes.

    These iterations take two thirds of the time of openTSNE's default (250 and 500). The k-NN accuracy in the map is
    about the same: 0.35 and 0.34 on features of low accuracy. The map does not depend on the number of threads.
    """
    from openTSNE import TSNE

    perplexity = min(PERPLEXITY, (len(scores) - 1) / 3)
    initial = "pca" if start is None else start / max(float(np.std(start[:, 0])), 1e-12) * 1e-4
    model = TSNE(
        perplexity=perplexity,
        initialization=initial,
        early_exaggeration_iter=EXAGGERATED,
        n_iter=ITERATIONS,
        neighbors="exact" if len(scores) <= 5000 else "auto",
        random_state=seed,
        n_jobs=max(1, min(MOST_JOBS, processors() // 2)),
    )
    return centered(np.asarray(model.fit(scores), dtype=np.float64))


def rotated_to(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Rotate or mirror `points` [N, 2] to match `target` [N, 2], by orthogonal Procrustes; both must be centered."""
    rotation, _ = scipy.linalg.orthogonal_procrustes(points, target)
    return points @ rotation


def centered(points: np.ndarray) -> np.ndarray:
    """`points` [N, D] minus their mean."""
    return points - points.mean(0)


def static_maps(maps: Sequence[EpochMap]) -> list[EpochMap]:
    """The maps of the first, middle and last epoch, for a figure of three panels."""
    chosen = first_middle_last([one.epoch for one in maps])
    return [one for one in maps if one.epoch in chosen]


def first_middle_last(epochs: list[int]) -> list[int]:
    """The first epoch, the one nearest to half of the last, and the last, without duplicates. epochs: ascending."""
    if len(epochs) < 3:
        return list(epochs)
    middle = min(epochs[1:-1], key=lambda epoch: abs(epoch - epochs[-1] / 2))
    return [epochs[0], middle, epochs[-1]]
