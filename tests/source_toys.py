"""Write small data sets to disk, and open them."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.config.schema import Data
from sightline.data.sources.open import open_source
from sightline.data.types import Source
from sightline.errors import SightlineError

FOUR = ("0.png", "1.png", "2.png", "3.png")
ROWS = "0.png,cat\n1.png,cat\n2.png,dog\n3.png,dog\n"


def put(root: Path, *names: str) -> None:
    """Write small images with these names. Red is the index in the list; no two images are the same."""
    for index, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (index, *sha256(repr(path).encode()).digest()[:2])).save(path)


def class_folders(root: Path, counts: dict[str, int]) -> None:
    """Write class folders; counts: number of images by class."""
    put(root, *(f"{name}/{number}.png" for name, count in counts.items() for number in range(count)))


def written(root: Path, text: str | bytes, name: str = "labels.csv") -> Path:
    """Write a table; returns its folder."""
    (root / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return root


def opened(path: Path | str, seed: int = 0, hold_out: bool = True, **settings: object) -> Source:
    return open_source(Data.model_validate({"path": str(path), **settings}), seed, hold_out)


def open_error(path: Path | str, **settings: object) -> SightlineError:
    """Return the error that opening `path` raises; it must have `where` and `cure`."""
    with pytest.raises(SightlineError) as caught:
        opened(path, **settings)
    assert caught.value.where and caught.value.cure
    return caught.value


def labels_of(source: Source, *splits: str) -> dict[str, str]:
    """Class names by image name, of the given splits or of all."""
    found = {}
    for split in splits or source.splits:
        items = source.splits[split]
        assert items.labels is not None and items.labels.dtype == np.int64
        found |= {name: source.classes[label] for name, label in zip(items.names, items.labels, strict=True)}
    return found
