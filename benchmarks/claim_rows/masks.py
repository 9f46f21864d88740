"""Simulated confusion matrices of segmentation models, of independent images or of films."""

import numpy as np
from scipy import special

CLASSES = 6
PIXELS = 4096
RARITY = np.array([0.35, 0.25, 0.2, 0.125, 0.06, 0.015])
"""Mean share of the pixels of each class."""
RECALL = np.array([2.5, 2.0, 1.5, 1.0, 0.5, 0.0])
"""Logit of the mean recall of each class."""


def shares(rng: np.random.Generator, mean: np.ndarray, concentration: float) -> np.ndarray:
    """Shares of the classes [N, K], Dirichlet with the mean `mean` [N, K]. Small concentration: few classes each."""
    drawn = rng.gamma(np.maximum(concentration * mean, 1e-3))
    return (drawn + 1e-12) / (drawn + 1e-12).sum(1, keepdims=True)


def confusions(
    rng: np.random.Generator, images: int, group: int = 1, alike: float = 0.3, better: float = 0.0
) -> np.ndarray:
    """Confusion matrices [N, K, K] of `images` images in films of `group` images.

    alike: share of the variance of class shares and recalls that the images of a film have in common. better: increase
    of all recalls, in logits.
    """
    films = -(-images // group)
    scene = np.repeat(shares(rng, np.tile(RARITY, (films, 1)), 1.4), group, axis=0)[:images]
    effect = np.repeat(rng.standard_normal((films, CLASSES)), group, axis=0)[:images]
    present = scene if group == 1 else shares(rng, scene, 1.4 * alike / (1 - alike))
    own = rng.standard_normal((images, CLASSES))
    mixed = np.sqrt(alike) * effect + np.sqrt(1 - alike) * own if group > 1 else effect
    recall = special.expit(RECALL + 1.2 * mixed + better)
    others = 0.5 * present[:, None, :] + 0.5 * RARITY
    others = np.where(np.eye(CLASSES, dtype=bool), 0, others)
    spread = (1 - recall)[:, :, None] * others / others.sum(2, keepdims=True)
    matrix = present[:, :, None] * (spread + np.eye(CLASSES) * recall[:, :, None])
    return np.rint(PIXELS * matrix).astype(np.int64)


def with_errors(rng: np.random.Generator, base: np.ndarray) -> np.ndarray:
    """Confusion matrices in which each class of each image loses up to a third of its correct pixels to the next
    class."""
    right = np.einsum("nkk->nk", base)
    lost = np.rint(right * rng.beta(1, 4, right.shape)).astype(np.int64)
    matrix, index = base.copy(), np.arange(base.shape[1])
    matrix[:, index, index] -= lost
    matrix[:, index, (index + 1) % len(index)] += lost
    return matrix
