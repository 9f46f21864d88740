"""torchvision data sets by name: `torchvision:CIFAR100`, or `torchvision:CIFAR100:/data` with the folder of its files.

They are downloaded only with `data.download`. torchvision compares the MD5 checksums of its files.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ...config.paths import absolute
from ...config.schema import Data
from ...errors import ENVIRONMENT, USER, SightlineError
from ..cache import cache_root
from ..decode.images import image_error, to_rgb
from ..types import Items, Source
from .leakage import finish_source
from .splits import WHOLE

TRAIN_FLAG = {"train": {"train": True}, "test": {"train": False}}
TWO_SPLITS = {"train": {"split": "train"}, "test": {"split": "test"}}
THREE_SPLITS = {"train": {"split": "train"}, "val": {"split": "val"}, "test": {"split": "test"}}
PETS = {"train": {"split": "trainval"}, "test": {"split": "test"}}
UNSPLIT: dict[str, dict[str, Any]] = {"train": {}}


class LibraryEntry(NamedTuple):
    """A data set of torchvision. build: class. splits: arguments by split name. labels: function that returns the class
    indices of a split."""

    build: Callable[..., Any]
    splits: dict[str, dict[str, Any]]
    labels: Callable[[Any], Sequence[int]]


def entries() -> dict[str, LibraryEntry]:
    """The supported data sets by name."""
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
    """Open a torchvision data set. hold_out: hold out a validation split of train by `seed` if there is none.

    SightlineError for an unknown name, and for missing or damaged files.
    """
    name, _, root = data.path.removeprefix("torchvision:").partition(":")
    known = entries()
    if name not in known:
        what, cure = f"there is no data set torchvision:{name}", f"use one of {', '.join(sorted(known))}"
        raise SightlineError(what, where="data.path", cure=cure)
    entry = known[name]
    root = absolute(root) if root else str(cache_root(data) / "torchvision")
    sets = {split: build(entry, arguments, name, root, data.download) for split, arguments in entry.splits.items()}
    labels = {split: np.asarray(entry.labels(content), dtype=np.int64) for split, content in sets.items()}
    classes = getattr(sets["train"], "classes", None) or range(int(labels["train"].max()) + 1)
    splits = {split: items_of(name, split, content, labels[split]) for split, content in sets.items()}
    if entry.splits == UNSPLIT:
        splits = {WHOLE: splits["train"]}
    note = f"torchvision's {name} in {root}"
    source = Source(f"torchvision:{name}:{root}", "torchvision", tuple(map(str, classes)), splits, (note,))
    return finish_source(source, data, seed, hold_out)


def build(entry: LibraryEntry, arguments: dict[str, Any], name: str, root: str, download: bool) -> Any:
    """Open one split of a torchvision data set; SightlineError if its files are missing or damaged."""
    try:
        if download:
            os.makedirs(root, exist_ok=True)
        return entry.build(root, download=download, **arguments)
    except Exception as error:  # torchvision raises RuntimeError, network errors and others for missing files
        cure = "check the network and the disk, or copy the files there"
        if not download:
            cure = f"--data.download true, or give their folder: --data torchvision:{name}:FOLDER"
        raise SightlineError(
            f"the files of torchvision:{name} are missing or damaged",
            where=root,
            why=str(error).splitlines()[0] if str(error) else type(error).__name__,
            cure=cure,
            status=ENVIRONMENT if download else USER,
        ) from error


def items_of(name: str, split: str, content: Any, labels: np.ndarray) -> Items:
    """The `Items` of one opened split, with images that torchvision decodes."""
    from torchvision import __version__

    def read(index: int, side: int = 0) -> Image.Image:
        try:
            return to_rgb(content[index][0])
        except Exception as error:  # decoders raise many types, always because of the data
            raise image_error(f"torchvision:{name}, {split} image {index}", error) from error

    names = tuple(f"{split}/{index:06d}" for index in range(len(labels)))
    return Items(names, labels, read, (f"torchvision {__version__}",) * len(labels))
