"""The part that `train` runs: what is known once the images are decoded, in one line."""

import json
import shlex

import numpy as np

from ..config.schema import Data
from ..data.cache import Decoded
from ..data.pair_cache import DecodedPairs
from ..errors import counted
from .checks import imbalance, missing_classes
from .masks import LEAST_PIXELS

READING = (
    *("layout", "pattern", "classes", "mask", "palette", "colors", "tolerance", "threshold", "merge", "ignore"),
    *("group", "val_fraction", "split_seed", "on_bad_image", "max_pixels"),
)
"""Settings of `data` without which its files would be read otherwise."""


def doctor_command(data: Data) -> str:
    """`sightline doctor DATA` with what the run says about its data, to be copied as it is."""
    usual, words = Data(), ["sightline", "doctor", data.path]
    for name in READING:
        value = getattr(data, name)
        if value != getattr(usual, name):
            words += [f"--data.{name}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)]
    return shlex.join(words)


def quick_line(data: Data, splits: dict[str, Decoded | DecodedPairs]) -> str:
    """`doctor: 2 findings (3 images in both splits, ...): sightline doctor DATA`; it reads no image again."""
    pairs = [split for split in splits.values() if isinstance(split, DecodedPairs)]
    classes = next(iter(splits.values())).classes
    if pairs:
        counts = {name: split.counts.sum(0) for name, split in splits.items() if isinstance(split, DecodedPairs)}
        found = [*missing_classes(counts, classes, "pixel"), *imbalance(counts, classes, LEAST_PIXELS, "pixels")]
        says = [finding.what for finding in found]
    else:
        labeled = {n: s for n, s in splits.items() if isinstance(s, Decoded) and s.labels is not None}
        counts = {name: np.bincount(s.labels, minlength=len(classes)) for name, s in labeled.items()}  # ty: ignore
        found = [*missing_classes(counts, classes), *imbalance(counts, classes)]
        says = [*copies({n: s for n, s in splits.items() if isinstance(s, Decoded)}), *(one.what for one in found)]
    command = doctor_command(data)
    if any(split.stream is not None for split in splits.values()):
        command = "sightline doctor, of the data before they are packed"
    if not says:
        return f"doctor: nothing found in counts and copies; it looks closer by: {command}"
    return f"doctor: {counted(len(says), 'finding')} ({'; '.join(says)}): {command}"


def copies(splits: dict[str, Decoded]) -> list[str]:
    """Sentences on images of the same pixels, where the cache knows their digests and all are of one size."""
    known = {name: split for name, split in splits.items() if split.digests is not None}
    if len({split.images.shape[1:] for split in known.values()}) > 1:
        known = {name: split for name, split in known.items() if name == "train"}
    seen: dict[bytes, list[tuple[str, int]]] = {}
    for name, split in known.items():
        labels = [-1] * len(split.names) if split.labels is None else split.labels.tolist()
        for digest, label in zip(split.digests, labels, strict=True):  # ty: ignore
            seen.setdefault(digest.tobytes(), []).append((name, label))
    groups = [group for group in seen.values() if len(group) > 1]
    conflicts = sum(len({label for _, label in group}) > 1 for group in groups)
    shared = sum(len({name for name, _ in group}) > 1 for group in groups)
    repeated = sum(len({*group}) == 1 for group in groups)
    said = {
        f"{counted(shared, 'image')} in both splits": shared,
        f"{counted(conflicts, 'image')} with several labels": conflicts,
        f"{counted(repeated, 'image')} more than once in a split": repeated,
    }
    return [text for text, count in said.items() if count]
