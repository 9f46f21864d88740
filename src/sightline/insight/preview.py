"""A sheet of training images after augmentation and resizing, with normalization undone."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from .figures import draw_sheet
from .style import short


def draw_preview(
    images: np.ndarray,
    mean: Sequence[float],
    std: Sequence[float],
    labels: Sequence[int] | np.ndarray | None,
    classes: Sequence[str],
    columns: int = 8,
) -> Figure:
    """Draw model inputs, float [N, 3, H, W], with their class names. mean, std: of the normalization; labels: int [N].

    Values outside 0..1 after undoing the normalization are clipped.
    """
    names = [""] * len(images) if labels is None else [short(classes[label], 16) for label in labels]
    return draw_sheet(list(denormalized(images, mean, std)), names, columns)


def denormalized(images: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Undo the normalization: uint8 [N, 3, H, W] from floats of the same shape."""
    scale, shift = (np.asarray(values, dtype=np.float64).reshape(1, 3, 1, 1) for values in (std, mean))
    shares = (np.asarray(images, dtype=np.float64) * scale + shift).clip(0, 1)
    return (255 * shares).round().astype(np.uint8)
