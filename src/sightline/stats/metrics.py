"""Classification metrics over a whole data set (never means of batch means), from arrays or tensors.

Shapes: scores [N, K] (probabilities or logits), labels and predictions int64 [N], confusion int64 [K, K] (rows: true
class, columns: predicted class).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from ..errors import SightlineError

Array = np.ndarray | torch.Tensor

BLOCK = 2**24
"""Maximum number of similarities that `knn_votes` computes at a time: 64 MiB of float32."""


@dataclass(frozen=True)
class PerClass:
    """One number per class, float64 [K]. support: int64 [K], number of images of the class. Never NaN: a quotient 0
    / 0 is 0, as for the recall of a class without images, or the precision of a class that is never predicted."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray


@dataclass(frozen=True)
class Reliability:
    """Mean confidence and accuracy of the predictions in bins of confidence of equal width. edges: [bins + 1]. The
    other fields: [bins], 0 in empty bins."""

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def to_numpy(values: Array) -> np.ndarray:
    """Convert to a NumPy array; 16-bit numbers, of which NumPy lacks bfloat16, become float32."""
    if isinstance(values, torch.Tensor):
        values = values.detach().float() if values.dtype in (torch.bfloat16, torch.float16) else values.detach()
        return values.cpu().numpy()
    return np.asarray(values)


def accuracy(scores: Array, labels: Array) -> float:
    """Share of images whose label has the highest score. If several scores are highest, the first of them counts. An
    image with a NaN score of its label is wrong."""
    return top_k(scores, labels, 1)


def top_k(scores: Array, labels: Array, k: int = 5) -> float:
    """Share of images whose label is among the k highest scores; 1 if k is at least the number of classes.

    Of equal scores, those of lower class indices rank higher, so that constant scores do not result in 100 %. A label
    with a NaN score is wrong. NaN scores of other classes rank above the label's score.
    """
    scores, labels = to_numpy(scores), to_numpy(labels)
    assert scores.ndim == 2 and len(scores) == len(labels) > 0, f"scores {scores.shape}, labels {labels.shape}"
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    outranked = (scores < own) | ((scores == own) & (np.arange(scores.shape[1]) >= labels[:, None]))
    rank = scores.shape[1] - outranked.sum(axis=1)
    return float((rank < k).mean())


def confusion_matrix(predictions: Array, labels: Array, classes: int) -> np.ndarray:
    """Confusion matrix int64 [classes, classes]: row = true class, column = predicted class. predictions, labels:
    class indices, arrays of the same shape. Raises SightlineError for values outside 0 to classes - 1."""
    predicted, truth = to_numpy(predictions).ravel(), to_numpy(labels).ravel()
    assert predicted.shape == truth.shape, f"{predicted.shape} predictions for {truth.shape} labels"
    for name, values in (("a prediction", predicted), ("a label", truth)):
        if len(values) and not 0 <= int(values.min()) <= int(values.max()) < classes:
            wrong = int(values.min()) if values.min() < 0 else int(values.max())
            cure = "pass predictions and labels that are indices into the same list of classes"
            raise SightlineError(f"{name} is {wrong}, but the class indices are 0 to {classes - 1}", cure=cure)
    cells = np.bincount(truth.astype(np.int64) * classes + predicted, minlength=classes * classes)
    return cells.reshape(classes, classes)


def per_class(confusion: np.ndarray) -> PerClass:
    """Precision, recall, F1 and support of each class, from a confusion matrix [K, K] (row = true class)."""
    hits, support, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    precision = hits / np.maximum(predicted, 1)
    recall = hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(support + predicted, 1)
    return PerClass(precision, recall, f1, support)


def most_confused(confusion: np.ndarray, limit: int = 10) -> list[tuple[int, int, int]]:
    """The most frequent errors in a confusion matrix: (true class, predicted class, count), most frequent first.
    Ties are in class order."""
    mistakes = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:limit]
    truth, predicted = np.unravel_index(order, mistakes.shape)
    cells = zip(truth.tolist(), predicted.tolist(), mistakes.ravel()[order].tolist(), strict=True)
    return [cell for cell in cells if cell[2]]


def reliability(confidence: Array, correct: Array, bins: int = 15) -> Reliability:
    """Mean confidence and accuracy of the predictions in `bins` equal bins of confidence [a, b); the last bin includes
    1.

    confidence: [N], probability of the predicted class. correct: bool [N], whether the prediction is correct.
    """
    edges, count, total, hits = binned(confidence, correct, bins)
    for sums in (count, total, hits):
        sums[bins - 1] += sums[bins]
    divisor = np.maximum(count[:bins], 1)
    return Reliability(edges, count[:bins], total[:bins] / divisor, hits[:bins] / divisor)


def calibration_error(confidence: Array, correct: Array, bins: int = 15) -> float:
    """Expected calibration error (arXiv 1706.04599): sum over bins of (share of images) * |accuracy - mean confidence|.

    The bins are [a, b) of equal width, with a separate bin for confidence 1, as in torchmetrics'
    MulticlassCalibrationError (n_bins=15, norm="l1"), which returns the same values. Arguments as in `reliability`.
    """
    _, count, total, hits = binned(confidence, correct, bins)
    return float(np.abs(hits - total).sum() / count.sum())


def binned(confidence: Array, correct: Array, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sums over bins of confidence: (edges of the bins, and for each bin [bins + 1] the number of images, the sum of
    their confidences, the number of correct ones). The last bin is for confidence 1."""
    confidence, correct = to_numpy(confidence), to_numpy(correct)
    assert confidence.ndim == 1 and confidence.shape == correct.shape and len(confidence), confidence.shape
    edges = np.linspace(0, 1, bins + 1)
    index = np.searchsorted(edges.astype(confidence.dtype), confidence, side="right") - 1
    count = np.bincount(index, minlength=bins + 1)
    total = np.bincount(index, weights=confidence, minlength=bins + 1)
    hits = np.bincount(index, weights=correct, minlength=bins + 1)
    return edges, count, total, hits


@torch.inference_mode()
def knn_accuracy(features: Array, labels: Array, k: int = 20, temperature: float = 0.07) -> float:
    """Accuracy of k-nearest-neighbor classification of features float [N, D] with labels int64 [N]. Leave-one-out:
    each image is classified by the others. `knn_votes` describes the votes. k is limited to N - 1."""
    bank, truth = torch.as_tensor(features).float(), torch.as_tensor(labels)
    assert bank.ndim == 2 and len(bank) == len(truth) > 1, f"features {tuple(bank.shape)}, labels {tuple(truth.shape)}"
    truth = truth.to(bank.device)
    votes = knn_votes(bank, truth, bank, int(truth.max()) + 1, k, temperature, leave_one_out=True)
    return int((votes.argmax(1) == truth).sum()) / len(bank)


@torch.inference_mode()
def knn_votes(
    bank: torch.Tensor,
    labels: torch.Tensor,
    queries: torch.Tensor,
    classes: int,
    k: int = 20,
    temperature: float = 0.07,
    leave_one_out: bool = False,
) -> torch.Tensor:
    """Votes float32 [M, classes] of weighted k-nearest-neighbor classification by cosine similarity.

    bank: features float [N, D] of the known images, with labels int64 [N]. queries: features float [M, D] of the images
    to classify. Each of the k bank images that are most similar to a query votes for its class, with weight
    exp(similarity / temperature); k = 20 and temperature 0.07 as in arXiv 2104.14294 and 1805.01978.

    leave_one_out: `queries` is `bank`, and no image is its own neighbor. Blocks of rows are computed, so that no matrix
    [M, N] is stored.
    """
    bank, queries = functional.normalize(bank.float(), dim=1), functional.normalize(queries.float(), dim=1)
    k = min(k, len(bank) - leave_one_out)
    votes = torch.zeros(len(queries), classes, device=bank.device)
    rows = max(1, BLOCK // len(bank))
    for start in range(0, len(queries), rows):
        with torch.autocast(bank.device.type, enabled=False):  # in bf16, similar neighbors would be ties
            similarity = queries[start : start + rows] @ bank.T
        if leave_one_out:
            similarity.diagonal(start).fill_(-torch.inf)
        nearest, index = similarity.topk(k, dim=1)
        # Scale the largest weight of a row to 1: the same vote, and exp cannot overflow.
        weights = ((nearest - nearest[:, :1]) / temperature).exp()
        votes[start : start + rows].scatter_add_(1, labels[index], weights)
    return votes


@torch.inference_mode()
def feature_std(features: torch.Tensor) -> float:
    """Spread of the directions of features float [N, D]: 0 if all are equal, 1 if their mean direction is 0.

    Values near 0 indicate collapse, as in SimSiam (arXiv 2011.10566, section 4.1, there for the projector's output). It
    is the square root of the summed variances of the L2-normalized features, which equals sqrt(1 - |mean|^2). If all
    channels vary equally, it is sqrt(D) times the paper's mean standard deviation per channel.
    """
    directions = functional.normalize(features.cpu().double(), dim=1)  # not every device supports float64
    return float(directions.var(0, correction=0).sum().sqrt())


@torch.inference_mode()
def effective_rank(features: torch.Tensor, most: int = 4096) -> float:
    """Effective rank of features float [N, D]: exp of the entropy of their normalized singular values, after
    centering.

    It is 1 for points on a line or equal rows, and at most min(N - 1, D) (Roy and Vetterli 2007). RankMe (arXiv
    2210.02885) is the same without centering. If N exceeds `most`, rows are subsampled with a fixed stride. It is NaN
    for features that are not finite.
    """
    rows = features[:: -(-len(features) // most)].cpu().double()
    if not rows.isfinite().all():
        return float("nan")
    values = torch.linalg.svdvals(rows - rows.mean(0))
    if float(values[0]) <= 1e-12 * float(rows.abs().max().clamp_min(1e-300)):
        return 1.0
    shares = values[values > 0] / values.sum()
    return float((-(shares * shares.log()).sum()).exp())


@torch.inference_mode()
def alignment(first: torch.Tensor, second: torch.Tensor) -> float:
    """Mean squared distance of the features float [N, D] of two views of the same images, after scaling to length 1: 0
    if the views of each image have equal features, 2 for unrelated ones (arXiv 2005.10242, equation 5)."""
    apart = functional.normalize(first.cpu().double(), dim=1) - functional.normalize(second.cpu().double(), dim=1)
    return float(apart.square().sum(1).mean())


@torch.inference_mode()
def uniformity(features: torch.Tensor, most: int = 2000) -> float:
    """Logarithm of the mean of exp(-2 d^2) over pairs of rows of features float [N, D], where d is their distance after
    scaling to length 1: 0 if all are equal, at least -8, near -4 if they are spread evenly over many directions (arXiv
    2005.10242, equation 6). If N exceeds `most`, rows are subsampled with a fixed stride. NaN for fewer than 2 rows."""
    rows = functional.normalize(features[:: max(1, -(-len(features) // most))].cpu().double(), dim=1)
    if len(rows) < 2:
        return float("nan")
    return float(torch.pdist(rows).square().mul(-2).exp().mean().log())
