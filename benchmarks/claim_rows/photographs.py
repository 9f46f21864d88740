"""Photographs of 32 x 32 pixels for the rows that need real images, from a folder or .zip that the user has."""

import io
import os
import zipfile
from functools import cache

import numpy as np
from PIL import Image

from .row import NoData

OBJECTS, TRANSFER = "SIGHTLINE_OBJECTS", "SIGHTLINE_TRANSFER"
"""Environment variables with the path of objects50.zip and of transfer.zip, which README.md beside them describes."""
PATCH, FILTERS = 6, 128


@cache
def photographs(variable: str, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """(images uint8 [N, 32, 32, 3], labels int64 [N]) of the first classes: of objects50 the training images, of
    transfer those for pre-training. Raises NoData without the file."""
    path = os.environ.get(variable, "")
    if not os.path.isfile(path):
        name = "objects50.zip" if variable == OBJECTS else "transfer.zip"
        raise NoData(f"not measured: {name} was not given")
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".png")]
        if variable == OBJECTS:
            known = {name: int(name.rsplit("/", 1)[1].split("_")[0]) for name in names if "/train_50/" in name}
        else:
            rows = archive.read("transfer/pretrain/labels.csv").decode().split()[1:]
            known = {f"transfer/pretrain/train/{name}": int(label) for name, label in (row.split(",") for row in rows)}
        chosen = [name for name in sorted(known) if known[name] < classes]
        images = [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name in chosen]
    return np.stack(images), np.array([known[name] for name in chosen])


def features(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Features float32 [N, 4 * FILTERS] from whitened random patches, summed over quadrants (Coates and Ng 2011).

    A classifier of them is trained in seconds; its accuracy for 10 classes of photographs is about 0.6.
    """
    rng, pixels = np.random.default_rng(seed), images.astype(np.float32) / 255
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (PATCH, PATCH), axis=(1, 2))[:, ::3, ::3]
    count, rows, columns = windows.shape[:3]
    flat = windows.reshape(count, rows * columns, -1)
    sample = standardized(flat[rng.integers(0, count, 20_000), rng.integers(0, rows * columns, 20_000)])
    mean = sample.mean(0)
    values, vectors = np.linalg.eigh(np.cov(sample - mean, rowvar=False))
    whitening = (vectors / np.sqrt(values + 0.1)) @ vectors.T
    filters = (sample[: FILTERS // 2] - mean) @ whitening
    filters = filters / np.linalg.norm(filters, axis=1, keepdims=True)
    projection = (whitening @ filters.T).astype(np.float32)
    found = []
    for part in np.array_split(flat, max(1, count // 200)):
        responses = (standardized(part) - mean) @ projection
        responses = np.maximum(np.concatenate([responses, -responses], 2) - 0.25, 0)
        grid = responses.reshape(len(part), rows, columns, FILTERS)
        halves = [grid[:, half] for half in (slice(rows // 2), slice(rows // 2, None))]
        quarters = [half[:, :, side] for half in halves for side in (slice(columns // 2), slice(columns // 2, None))]
        found.append(np.concatenate([one.mean((1, 2)) for one in quarters], 1))
    return np.concatenate(found).astype(np.float32)


def standardized(patches: np.ndarray) -> np.ndarray:
    """Patches [..., D] with mean 0 and standard deviation about 1 each."""
    centered = patches - patches.mean(-1, keepdims=True)
    return centered / np.sqrt(centered.var(-1, keepdims=True) + 1e-2)
