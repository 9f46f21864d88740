"""The handwritten digits of scikit-learn as a data set, and as files for the transfer demo."""

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from ..config.schema import Data
from ..errors import SightlineError
from ..runs.atomic import atomic_write
from .scenes import encoded
from .sources.leakage import finish_source
from .sources.splits import WHOLE
from .types import Items, Source

FIRST_DIGIT, FEW = 5, 10
"""In the transfer demo: the first digit of the target data, and its number of training images per class."""


def open_digits(data: Data, seed: int, hold_out: bool = True) -> Source:
    """Open `sklearn:digits`: 1,797 digits of 8x8 pixels (Alpaydin and Kaynak 1998, UCI), 17 levels scaled to 0..255.

    hold_out: hold out a share `data.val_fraction` of each class for validation, chosen by `seed`.
    """
    name = data.path.partition(":")[2] if ":" in data.path else data.path
    if name != "digits":
        raise SightlineError(f"there is no data set {data.path!r}", where="data.path", cure="use sklearn:digits")
    from sklearn.datasets import load_digits  # takes a second to import

    bunch = load_digits()
    pixels = gray_levels(bunch.images)

    def read(index: int, side: int = 0) -> Image.Image:
        return Image.fromarray(pixels[index]).convert("RGB")

    count = len(pixels)
    names = tuple(f"digit-{index:04d}" for index in range(count))
    items = Items(names, bunch.target.astype(np.int64), read, stamps=("scikit-learn",) * count)
    classes = tuple(str(name) for name in bunch.target_names)
    source = Source("sklearn:digits", "sklearn", classes, {WHOLE: items}, ("scikit-learn's digits, 8x8",))
    return finish_source(source, data, seed, hold_out)


def gray_levels(images: np.ndarray) -> np.ndarray:
    """Scale scikit-learn's digits, float [N, 8, 8] from 0 to 16, to uint8 from 0 to 255."""
    return np.rint(images * (255 / 16)).astype(np.uint8)


def write_digits(folder: str | Path) -> Path:
    """Write the digits as PNG files for the transfer demo; returns `folder`.

    `pretraining/` has the digits 0 to 4 (`images/` and labels.csv). `target/` has the digits 5 to 9: ten images per
    class in `train/CLASS/`, the others in `val/CLASS/`. SightlineError if it cannot be written.
    """
    from sklearn.datasets import load_digits

    bunch, root, seen = load_digits(), Path(folder), Counter[int]()
    rows = ["filename,label"]
    for index, (image, label) in enumerate(zip(gray_levels(bunch.images), bunch.target.tolist(), strict=True)):
        if label < FIRST_DIGIT:
            path = root / "pretraining" / "images" / f"{index:04d}.png"
            rows.append(f"images/{path.name},digit {label}")
        else:
            split = "train" if seen[label] < FEW else "val"
            path = root / "target" / split / f"digit {label}" / f"{index:04d}.png"
        seen[label] += 1
        atomic_write(path, encoded(image, "PNG"))
    atomic_write(root / "pretraining" / "labels.csv", "\n".join(rows) + "\n")
    return root
