"""Data that come with an installed library: handwritten digits from scikit-learn."""

import difflib
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from ..config.schema import Data
from ..errors import SightlineError
from ..runs.atomic import atomic_write
from .sources.open import Items, Source, finished
from .sources.splits import WHOLE

FIRST_DIGITS, FEW = 5, 10
"""Digits below the first are pre-trained on; of the others so many of each are trained on."""


def open_digits(data: Data, seed: int, hold_out: bool = True) -> Source:
    """`sklearn:digits`: 1,797 digits of 8x8 pixels (Alpaydin and Kaynak 1998, UCI), 17 gray levels spread over 0..255.

    A share `data.val_fraction` of each class is held out, chosen by `seed`; without `hold_out` nothing is.
    """
    name = data.path.partition(":")[2] if ":" in data.path else data.path
    if name != "digits":
        close = " did you mean sklearn:digits?" if difflib.get_close_matches(name, ["digits"]) else ""
        raise SightlineError(
            f"there is no data set {data.path!r}",
            where="data.path",
            cure=f"the only one of scikit-learn is sklearn:digits.{close}",
        )
    from sklearn.datasets import load_digits  # a second to import, and only needed here

    bunch = load_digits()
    pixels = gray_levels(bunch.images)

    def read(index: int, side: int = 0) -> Image.Image:
        return Image.fromarray(pixels[index]).convert("RGB")

    count = len(pixels)
    items = Items(
        names=tuple(f"digit-{index:04d}" for index in range(count)),
        labels=bunch.target.astype(np.int64),
        read=read,
        stamps=("scikit-learn",) * count,
    )
    classes = tuple(str(name) for name in bunch.target_names)
    source = Source("sklearn:digits", "sklearn", classes, {WHOLE: items}, ("scikit-learn's digits, 8x8",))
    return finished(source, data, seed, hold_out)


def gray_levels(images: np.ndarray) -> np.ndarray:
    """scikit-learn's digits float [N, 8, 8] of 0 to 16 as uint8, spread over 0..255."""
    return np.rint(images * (255 / 16)).astype(np.uint8)


def write_digits(folder: str | Path) -> Path:
    """The digits as a task of transfer: `pretrain/` has 0 to 4, `target/` 5 to 9 with few labels to learn from.

    `pretrain/images/` holds PNG files without labels in their names, `pretrain/labels.csv` their labels;
    `target/train/CLASS/` 10 images each and `target/val/CLASS/` all others. Returns the folder. SightlineError where
    it cannot be written.
    """
    from sklearn.datasets import load_digits

    from .scenes import encoded

    bunch, place, seen = load_digits(), Path(folder), Counter[int]()
    rows = ["filename,label"]
    for index, (image, label) in enumerate(zip(gray_levels(bunch.images), bunch.target.tolist(), strict=True)):
        if label < FIRST_DIGITS:
            path = place / "pretrain" / "images" / f"{index:04d}.png"
            rows.append(f"images/{path.name},digit {label}")
        else:
            split = "train" if seen[label] < FEW else "val"
            path = place / "target" / split / f"digit {label}" / f"{index:04d}.png"
        seen[label] += 1
        atomic_write(path, encoded(image, "PNG"))
    atomic_write(place / "pretrain" / "labels.csv", "\n".join(rows) + "\n")
    return place
