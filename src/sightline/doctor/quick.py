"""What is said on the data before a training: findings that need no file to be read, and films in small data."""

import json
import shlex
from collections.abc import Iterable

import numpy as np
from PIL import Image

from ..config.paths import is_url
from ..config.schema import Data
from ..data.label_arrays import class_counts, label_texts
from ..data.near import thumbnail
from ..data.sources.splits import ALL
from ..data.types import Decoded, Source
from ..errors import SightlineError, counted
from .checks import imbalance, missing_classes
from .copies import film_option, films_of
from .masks import RARE_PIXELS

READING = (
    *("layout", "pattern", "labels", "separator", "classes", "mask", "palette", "colors", "tolerance", "threshold"),
    *("merge", "ignore", "group", "val_fraction", "fold", "split_seed", "on_bad_image", "on_unpaired", "max_pixels"),
    *("channels", "label_column", "file_column", "overlap"),
)
"""Settings of `data` that affect how the files are read, so that the suggested command repeats them."""
MOST_READ = 1000
"""In data with more images, films are not searched, because all images would have to be read."""
SIDE = 64
"""Images are read at about this side."""


def doctor_command(data: Data) -> str:
    """The command `sightline doctor DATA` with the run's settings that affect reading, quoted for a shell."""
    return shlex.join(["sightline", "doctor", data.path, *options(data, READING)])


def options(data: Data, names: Iterable[str]) -> list[str]:
    """The options for those of the settings `names` that are not the defaults."""
    usual, words = Data(), []
    for name in names:
        value = getattr(data, name)
        if value != getattr(usual, name):
            words += [f"--data.{name}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)]
    return words


def quick_line(data: Data, splits: dict[str, Decoded]) -> str:
    """A line such as `doctor: 2 findings (3 images in both splits, ...): sightline doctor DATA`. It uses the class
    counts, and the hashes of the pixels of decoded images; no image is read."""
    pairs = any(split.masks is not None for split in splits.values())
    classes = next(iter(splits.values())).classes
    if pairs:
        counts = {name: split.counts.sum(0) for name, split in splits.items()}
        found = [*missing_classes(counts, classes, "pixel"), *imbalance(counts, classes, RARE_PIXELS, "pixels")]
        texts = [finding.what for finding in found]
    else:
        labeled = {n: s for n, s in splits.items() if s.labels is not None}
        counts = {name: class_counts(s.labels, len(classes)) for name, s in labeled.items()}  # ty: ignore
        found = [*missing_classes(counts, classes), *imbalance(counts, classes)]
        texts = [*copies(splits), *(one.what for one in found)]
    command = doctor_command(data)
    if is_url(data.path):
        command = "sightline doctor FOLDER, with a copy of the shards"
    if not texts:
        return f"doctor: no finding in class counts and identical images; to check every file: {command}"
    return f"doctor: {counted(len(texts), 'finding')} ({'; '.join(texts)}): {command}"


def copies(splits: dict[str, Decoded]) -> list[str]:
    """Phrases on images with the same pixels, within a split and in two splits. Another split is only compared with
    train if its images were decoded in the same size."""
    known = {name: split for name, split in splits.items() if split.digests is not None}
    if len({split.images.shape[1:] for split in known.values()}) > 1:
        known = {name: split for name, split in known.items() if name == "train"}
    seen: dict[bytes, list[tuple[str, str]]] = {}
    for name, split in known.items():
        labels = [""] * len(split.names) if split.labels is None else label_texts(split.labels, split.classes)
        for digest, label in zip(split.digests, labels, strict=True):  # ty: ignore
            seen.setdefault(digest.tobytes(), []).append((name, label))
    groups = [group for group in seen.values() if len(group) > 1]
    found = (
        (sum(len({name for name, _ in group}) > 1 for group in groups), "in both splits"),
        (sum(len({label for _, label in group if label}) > 1 for group in groups), "with several labels"),
        (sum(len({*group}) == 1 for group in groups), "more than once in a split"),
    )
    return [f"{counted(count, 'image')} {text}" for count, text in found if count]


def divided_films(source: Source, data: Data) -> str:
    """A sentence on the films or scenes that a random split of these images would divide, with the option that keeps
    them together; "" if there are none, if groups are stated, and for more than MOST_READ images.

    source: the data before a validation split is held out. Images that cannot be read are left to the training.
    """
    items = source.splits.get(ALL) or source.splits.get("train")
    if (
        items is None
        or "val" in source.splits
        or data.group
        or items.groups is not None
        or len(items.names) > MOST_READ
    ):
        return ""
    try:
        pictures = [items.read(row, SIDE) for row in range(len(items.names))]
    except (SightlineError, OSError, ValueError):
        return ""
    plain = [picture.convert("RGB") for picture in pictures if isinstance(picture, Image.Image)]
    if len(plain) < len(pictures) or not plain:
        return ""  # other channels than red, green and blue
    labels = items.labels.tolist() if items.labels is not None and items.labels.ndim == 1 else [0] * len(plain)
    found = films_of(items.names, [thumbnail(picture) for picture in plain], labels)
    if found is None:
        return ""
    sizes = np.bincount(found.ids)
    films = counted(int((sizes > 1).sum()), "film")
    return (
        f"{int(sizes[sizes > 1].sum()):,} of {len(items.names):,} images are of {films} or scenes, by their names and "
        "pixels. A random split divides them: the scores are those for films that the model knows, and are lower for "
        f"new ones. To keep films together: {film_option(items.names, found.ids.tolist(), labels)}"
    )
