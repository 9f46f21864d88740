"""Data sets of torchvision by name: `torchvision:CIFAR100`, or `torchvision:CIFAR100:/data` with its files' folder.

Nothing is downloaded unless `data.download` says so. torchvision checks the MD5 sums of its files before it reads them.
"""

import difflib
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ...config.paths import absolute
from ...config.schema import Data
from ...errors import ENVIRONMENT, SightlineError
from ..cache import cache_root
from ..decode.images import refusal, to_rgb
from .open import Items, Source, finished
from .splits import WHOLE

TRAIN_FLAG = {"train": {"train": True}, "test": {"train": False}}
TWO_SPLITS = {"train": {"split": "train"}, "test": {"split": "test"}}
THREE_SPLITS = {"train": {"split": "train"}, "val": {"split": "val"}, "test": {"split": "test"}}
PETS = {"train": {"split": "trainval"}, "test": {"split": "test"}}
UNSPLIT: dict[str, dict[str, Any]] = {"train": {}}


class Entry(NamedTuple):
    """How to open one data set. build: its class. splits: the arguments of each. labels: class indices of a split."""

    build: Callable[..., Any]
    splits: dict[str, dict[str, Any]]
    labels: Callable[[Any], Sequence[int]]


def entries() -> dict[str, Entry]:
    """The data sets by name. torchvision keeps labels under three names and sometimes in an underscored one."""
    from torchvision import datasets as tv  # seconds to import, and only needed here

    return {
        "CIFAR10": Entry(tv.CIFAR10, TRAIN_FLAG, lambda d: d.targets),
        "CIFAR100": Entry(tv.CIFAR100, TRAIN_FLAG, lambda d: d.targets),
        "MNIST": Entry(tv.MNIST, TRAIN_FLAG, lambda d: d.targets),
        "FashionMNIST": Entry(tv.FashionMNIST, TRAIN_FLAG, lambda d: d.targets),
        "KMNIST": Entry(tv.KMNIST, TRAIN_FLAG, lambda d: d.targets),
        "SVHN": Entry(tv.SVHN, TWO_SPLITS, lambda d: d.labels),
        "STL10": Entry(tv.STL10, TWO_SPLITS, lambda d: d.labels),
        "EuroSAT": Entry(tv.EuroSAT, UNSPLIT, lambda d: d.targets),
        "Flowers102": Entry(tv.Flowers102, THREE_SPLITS, lambda d: d._labels),
        "DTD": Entry(tv.DTD, THREE_SPLITS, lambda d: d._labels),
        "Food101": Entry(tv.Food101, TWO_SPLITS, lambda d: d._labels),
        "FGVCAircraft": Entry(tv.FGVCAircraft, THREE_SPLITS, lambda d: d._labels),
        "OxfordIIITPet": Entry(tv.OxfordIIITPet, PETS, lambda d: d._labels),
    }


def open_library(data: Data, seed: int, hold_out: bool = True) -> Source:
    """A torchvision data set as a Source. Where it has no validation split, one is held out of train; test is not.

    Without `hold_out` the splits stay as torchvision has them.
    """
    name, _, root = data.path.removeprefix("torchvision:").partition(":")
    known = entries()
    if name not in known:
        close = difflib.get_close_matches(name, known, 1, 0.4)
        hint = f"did you mean torchvision:{close[0]}? " if close else ""
        raise SightlineError(
            f"there is no data set torchvision:{name}",
            where="data.path",
            cure=f"{hint}There are {', '.join(sorted(known))}",
        )
    root = absolute(root) if root else str(cache_root(data) / "torchvision")
    sets = {
        split: build(known[name], arguments, name, root, data.download)
        for split, arguments in known[name].splits.items()
    }
    train = sets["train"]
    labels = {split: np.asarray(known[name].labels(content), dtype=np.int64) for split, content in sets.items()}
    own_names = getattr(train, "classes", None)
    classes = (
        tuple(str(c) for c in own_names) if own_names else tuple(str(i) for i in range(int(labels["train"].max()) + 1))
    )
    splits = {split: items_of(name, split, content, labels[split], data.max_pixels) for split, content in sets.items()}
    splits = {WHOLE: splits["train"]} if known[name].splits == UNSPLIT else splits
    path = f"torchvision:{name}:{root}"
    source = Source(path, "torchvision", classes, splits, (f"torchvision's {name} in {root}",))
    return finished(source, data, seed, hold_out)


def build(entry: Entry, arguments: dict[str, Any], name: str, root: str, download: bool) -> Any:
    """One split of a torchvision data set; SightlineError with the cure where its files are not there."""
    try:
        if download:
            os.makedirs(root, exist_ok=True)
        return entry.build(root, download=download, **arguments)
    except (
        Exception
    ) as error:  # torchvision raises RuntimeError, network errors and more for the one condition: no files
        cure = "check the network and the disk, or copy the files there by hand"
        if not download:
            cure = f"--data.download true, or say where they are: --data torchvision:{name}:FOLDER"
        raise SightlineError(
            f"the files of torchvision:{name} are not there or not intact",
            where=root,
            why=str(error).splitlines()[0] if str(error) else type(error).__name__,
            cure=cure,
            status=ENVIRONMENT if download else 2,
        ) from error


def items_of(name: str, split: str, content: Any, labels: np.ndarray, max_pixels: int) -> Items:
    """One split as Items; torchvision decodes, so `max_pixels` is checked on what comes out."""
    from torchvision import __version__

    def read(index: int, side: int = 0) -> Image.Image:
        try:
            image = content[index][0]
            if image.width * image.height > max_pixels:
                raise SightlineError(f"has more than data.max_pixels = {max_pixels:,} pixels")
            return to_rgb(image)
        except Exception as error:  # as in images.open_image: the one place where a decoder may fail
            raise refusal(f"torchvision:{name}, {split} image {index}", error) from error

    count = len(labels)
    names = tuple(f"{split}/{index:06d}" for index in range(count))
    return Items(names, labels, read, (f"torchvision {__version__}",) * count)
