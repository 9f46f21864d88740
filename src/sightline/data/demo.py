"""Data that come with an installed library: handwritten digits from scikit-learn."""

import difflib

import numpy as np
from PIL import Image

from ..config import Data
from ..errors import SightlineError
from .sources import Items, Source, finished
from .splits import WHOLE


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
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)

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
