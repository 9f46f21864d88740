"""Which validation images a run follows over its epochs; NumPy only, for the report asks too."""

import difflib
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from ..errors import SightlineError, listing


def sample_rows(count: int, wanted: int, seed: int) -> np.ndarray:
    """Sorted rows of the validation images that are followed: all, or a seeded sample of `wanted`."""
    if wanted >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng([seed, 1]).permutation(count)[:wanted])


def named_rows(names: Sequence[str], wanted: Sequence[str], train: Sequence[str] = ()) -> np.ndarray:
    """Rows of the images called `wanted`, in that order: by path, file name, stem, or `0013` for `0013_sat.jpg`.

    train: names of training images, for those who ask for one. SightlineError naming each that is not there, with the
    nearest, that several images are called, or that is named twice.
    """
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        for called in short_names(name):
            rows.setdefault(called, []).append(row)
    trained = {called for name in train for called in (name, *short_names(name))}
    rows |= {name: [row] for row, name in enumerate(names)}  # a whole path means one image
    faults, owner = [], {}
    for name in wanted:
        if name not in rows and name in trained:
            faults.append(f"{name}: it is a training image, and only validation images are followed")
        elif name not in rows:
            near = difflib.get_close_matches(name, rows, 1, 0.5)
            faults.append(f"{name}: there is no such image" + (f"; did you mean {near[0]}?" if near else ""))
        elif len(rows[name]) > 1:
            faults.append(f"{name}: {' and '.join(names[row] for row in rows[name][:2])} are both called so")
        elif rows[name][0] in owner:
            faults.append(f"{name}: it is named twice, as {owner[rows[name][0]]} too")
        else:
            owner[rows[name][0]] = name
    if faults:
        cure = "name validation images as their files are called, with their folder where that is needed"
        raise SightlineError(
            "these images cannot be followed", where="report.samples", why="\n" + listing(faults), cure=cure
        )
    return np.array([rows[name][0] for name in wanted], dtype=np.int64)


def short_names(name: str) -> set[str]:
    """What an image may be called besides its path: `0013_sat.jpg`, `0013_sat`, `0013`."""
    path = PurePosixPath(name)
    return {path.name, path.stem, path.stem.removesuffix("_sat")}
