"""Frames of four films of two classes, each fading between random pictures."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_films(root: Path, splits: tuple[str, ...] = ("",), frames: int = 30) -> Path:
    """Write `frames` frames of each film, frame by frame to the splits in turn; returns `root`."""
    for index, name in enumerate(("street", "park", "beach", "wood")):
        steps = np.random.default_rng(index).integers(0, 256, (frames // 5 + 1, 6, 6, 3)).astype(float)
        for frame in range(frames):
            place, share = divmod(frame / 5, 1)
            pixels = (1 - share) * steps[int(place)] + share * steps[int(place) + 1]
            path = root / splits[frame % len(splits)] / f"class_{index % 2}" / f"{name}_{frame:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).resize((48, 48)).save(path)
    return root
