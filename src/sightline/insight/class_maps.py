"""Draw class activation maps over images."""

import numpy as np
from matplotlib import colormaps
from PIL import Image

SHARE, DARKER = 0.75, 0.8
"""Opacity of the brightest position of an overlay, and the factor on the gray image below it."""


def overlay(image: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """A map [H, W] from 0 to 1 in colors over an image uint8 [3, H, W] in gray: uint8 [H, W, 3]."""
    gray = np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L"), np.float64)[..., None] * DARKER
    colors = 255 * colormaps["inferno"](strength)[..., :3]
    opacity = SHARE * strength[..., None] ** 0.75
    return np.rint(gray * (1 - opacity) + colors * opacity).astype(np.uint8)
