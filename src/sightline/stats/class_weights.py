"""Class weights of a loss, from class counts."""

import numpy as np
from numpy.typing import ArrayLike

from ..errors import SightlineError


def class_weights(counts: ArrayLike, kind: str) -> np.ndarray:
    """Class weights for a loss, float64 [K], from the number of images or pixels of each class, [K].

    kind `none`: all weights are 1. `balanced`: total / (number of classes that occur * count), as in scikit-learn, so
    that the mean weight of an image or pixel is 1. `log`: 1 / ln(1.02 + share of the class), between 1.4 and 50.5
    (ENet, arXiv 1606.02147). Classes that do not occur have weight 0. Raises SightlineError for an unknown kind.
    """
    numbers = np.asarray(counts, dtype=np.float64)
    present = numbers > 0
    counts_or_1, total = np.where(present, numbers, 1), max(1.0, numbers.sum())
    kinds = {
        "none": np.ones_like(numbers),
        "balanced": total / (max(1, present.sum()) * counts_or_1),
        "log": 1 / np.log(1.02 + numbers / total),
    }
    if kind not in kinds:
        cure = "use --loss.class_weights none, balanced or log"
        raise SightlineError(f"unknown class weights {kind!r}", where="loss.class_weights", cure=cure)
    return np.where(present, kinds[kind], 0.0)
