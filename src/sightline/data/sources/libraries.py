"""Data sets of libraries, by name: `sklearn:digits`, `torchvision:CIFAR100`, or with a folder
`torchvision:CIFAR100:/data`.

torchvision's data sets are downloaded only with `data.download`; torchvision compares the MD5 checksums of their files.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ...config.paths import absolute
from ...config.schema import Data
from ...errors import ENVIRONMENT, USER, SightlineError
from ...runs.atomic import atomic_write
from ..cache import cache_root
from ..decode.faults import image_error
from ..decode.images import encoded, to_rgb
from ..types import Items, Source
from .leakage import finish_source
from .splits import ALL

FIRST_DIGIT, FEW = 5, 10
"""In the transfer demo: first digit of the target data, and its number of training images per class."""

TRAIN_FLAG = {"train": {"train": True}, "test": {"train": False}}
TWO_SPLITS = {"train": {"split": "train"}, "test": {"split": "test"}}
THREE_SPLITS = {"train": {"split": "train"}, "val": {"split": "val"}, "test": {"split": "test"}}
PETS = {"train": {"split": "trainval"}, "test": {"split": "test"}}
UNSPLIT: dict[str, dict[str, Any]] = {"train": {}}


class LibraryEntry(NamedTuple):
    """A data set of torchvision. build: its class. splits: the arguments for each split, by split name. labels:
    function from an opened split to its class indices."""

    build: Callable[..., Any]
    splits: dict[str, dict[str, Any]]
    labels: Callable[[Any], Sequence[int]]


def entries() -> dict[str, LibraryEntry]:
    """The supported torchvision data sets by name."""
    from torchvision import datasets as tv  # takes seconds to import

    return {
        "CIFAR10": LibraryEntry(tv.CIFAR10, TRAIN_FLAG, lambda d: d.targets),
        "CIFAR100": LibraryEntry(tv.CIFAR100, TRAIN_FLAG, lambda d: d.targets),
        "MNIST": LibraryEntry(tv.MNIST, TRAIN_FLAG, lambda d: d.targets),
        "FashionMNIST": LibraryEntry(tv.FashionMNIST, TRAIN_FLAG, lambda d: d.targets),
        "KMNIST": LibraryEntry(tv.KMNIST, TRAIN_FLAG, lambda d: d.targets),
        "SVHN": LibraryEntry(tv.SVHN, TWO_SPLITS, lambda d: d.labels),
        "STL10": LibraryEntry(tv.STL10, TWO_SPLITS, lambda d: d.labels),
        "EuroSAT": LibraryEntry(tv.EuroSAT, UNSPLIT, lambda d: d.targets),
        "Flowers102": LibraryEntry(tv.Flowers102, THREE_SPLITS, lambda d: d._labels),
        "DTD": LibraryEntry(tv.DTD, THREE_SPLITS, lambda d: d._labels),
        "Food101": LibraryEntry(tv.Food101, TWO_SPLITS, lambda d: d._labels),
        "FGVCAircraft": LibraryEntry(tv.FGVCAircraft, THREE_SPLITS, lambda d: d._labels),
        "OxfordIIITPet": LibraryEntry(tv.OxfordIIITPet, PETS, lambda d: d._labels),
    }


def open_library(data: Data, seed: int, hold_out: bool = True) -> Source:
    """Open a torchvision data set. hold_out: whether to hold out a validation split of train, by `seed`, if there is
    none. Raises SightlineError for an unknown name, and for missing or damaged files."""
    name, _, root = data.path.removeprefix("torchvision:").partition(":")
    known = entries()
    if name not in known:
        what, cure = (
            f"there is no data set torchvision:{name}",
            f"use --data torchvision:NAME with one of {', '.join(sorted(known))}",
        )
        raise SightlineError(what, where="data.path", cure=cure)
    entry = known[name]
    root = absolute(root) if root else str(cache_root(data) / "torchvision")
    sets = {split: build(entry, arguments, name, root, data.download) for split, arguments in entry.splits.items()}
    labels = {split: np.asarray(entry.labels(content), dtype=np.int64) for split, content in sets.items()}
    classes = getattr(sets["train"], "classes", None) or range(int(labels["train"].max()) + 1)
    splits = {split: items_of(name, split, content, labels[split]) for split, content in sets.items()}
    if entry.splits == UNSPLIT:
        splits = {ALL: splits["train"]}
    note = f"torchvision's {name} in {root}"
    source = Source(f"torchvision:{name}:{root}", "torchvision", tuple(map(str, classes)), splits, (note,))
    return finish_source(source, data, seed, hold_out)


def build(entry: LibraryEntry, arguments: dict[str, Any], name: str, root: str, download: bool) -> Any:
    """Open one split of a torchvision data set; raises SightlineError if its files are missing or damaged."""
    try:
        if download:
            os.makedirs(root, exist_ok=True)
        return entry.build(root, download=download, **arguments)
    except Exception as error:  # torchvision raises RuntimeError, network errors and others for missing files
        cure = "check the network and the disk, or copy the files there"
        if not download:
            cure = (
                "download the files: --data.download true; or give the folder that has them: --data "
                f"torchvision:{name}:FOLDER"
            )
        raise SightlineError(
            f"the files of torchvision:{name} are missing or damaged",
            where=root,
            why=str(error).splitlines()[0] if str(error) else type(error).__name__,
            cure=cure,
            status=ENVIRONMENT if download else USER,
        ) from error


def items_of(name: str, split: str, content: Any, labels: np.ndarray) -> Items:
    """The `Items` (names, labels, ...) of one opened split, whose images torchvision decodes."""
    from torchvision import __version__

    def read(index: int, side: int = 0) -> Image.Image:
        try:
            return to_rgb(content[index][0])
        except Exception as error:  # decoders raise many types, always because of the data
            raise image_error(f"torchvision:{name}, {split} image {index}", error) from error

    names = tuple(f"{split}/{index:06d}" for index in range(len(labels)))
    return Items(names, labels, read, (f"torchvision {__version__}",) * len(labels))


def open_digits(data: Data, seed: int, hold_out: bool = True) -> Source:
    """Open `sklearn:digits`: 1,797 digits of 8x8 pixels (Alpaydin and Kaynak 1998, UCI), 17 levels scaled to 0..255.
    hold_out: whether to hold out the fraction `data.val_fraction` of each class for validation, chosen by `seed`."""
    name = data.path.partition(":")[2] if ":" in data.path else data.path
    if name != "digits":
        raise SightlineError(
            f"there is no data set {data.path!r}",
            where="data.path",
            cure="use the only data set of scikit-learn that is supported: --data sklearn:digits",
        )
    from sklearn.datasets import load_digits  # takes a second to import

    bunch = load_digits()
    pixels = gray_levels(bunch.images)

    def read(index: int, side: int = 0) -> Image.Image:
        return Image.fromarray(pixels[index]).convert("RGB")

    count = len(pixels)
    names = tuple(f"digit-{index:04d}" for index in range(count))
    items = Items(names, bunch.target.astype(np.int64), read, stamps=("scikit-learn",) * count)
    classes = tuple(str(name) for name in bunch.target_names)
    source = Source("sklearn:digits", "sklearn", classes, {ALL: items}, ("scikit-learn's digits, 8x8",))
    return finish_source(source, data, seed, hold_out)


def gray_levels(images: np.ndarray) -> np.ndarray:
    """Scale scikit-learn's digits, float [N, 8, 8] from 0 to 16, to uint8 from 0 to 255."""
    return np.rint(images * (255 / 16)).astype(np.uint8)


def write_digits(folder: str | Path) -> Path:
    """Write the digits as PNG files for the transfer demo; returns `folder`.

    `pretraining/` has the digits 0 to 4 (`images/` and labels.csv). `target/` has the digits 5 to 9: ten images per
    class in `train/CLASS/`, the others in `val/CLASS/`. Raises SightlineError if it cannot be written.
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
        atomic_write(path, encoded(Image.fromarray(image), "PNG"))
    atomic_write(root / "pretraining" / "labels.csv", "\n".join(rows) + "\n")
    return root
