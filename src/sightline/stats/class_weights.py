"""Weights of the classes in a loss, from their counts."""

import numpy as np
from numpy.typing import ArrayLike

from ..errors import SightlineError


def class_weights(counts: ArrayLike, kind: str) -> np.ndarray:
    """Class weights, float64 [K], out of the number of images, or of pixels, of each class, [K].

    kind: `none`: 1. `balanced`: n / (classes * count), where `classes` counts those that there are, so that the mean
    weight of an image is 1 (scikit-learn's "balanced"). `log`: 1 / ln(1.02 + share of all), between 1.4 and 50.5 (ENet,
    arXiv 1606.02147, whose c is this 1.02). A class of which there is nothing weighs 0: no target asks for its weight.
    """
    numbers = np.asarray(counts, dtype=np.float64)
    present = numbers > 0
    some, total = np.where(present, numbers, 1), max(1.0, numbers.sum())
    kinds = {
        "none": np.ones_like(numbers),
        "balanced": total / (max(1, present.sum()) * some),
        "log": 1 / np.log(1.02 + numbers / total),
    }
    if kind not in kinds:
        cure = "none, balanced or log"
        raise SightlineError(f"there are no class weights {kind!r}", where="loss.class_weights", cure=cure)
    return np.where(present, kinds[kind], 0.0)
