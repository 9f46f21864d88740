"""Selection of a few of many images: at random, evenly spread, or by name. NumPy only, for fast reports."""

import difflib
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from ..errors import SightlineError, listing


def sample_rows(count: int, wanted: int, seed: int) -> np.ndarray:
    """Choose `wanted` of `count` images at random by `seed`: sorted indices, int64. All indices if `wanted` is not
    smaller."""
    if wanted >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng([seed, 1]).permutation(count)[:wanted])


def evenly_spread(count: int, wanted: int) -> np.ndarray:
    """`wanted` of `count` indices at equal distances, with the first and the last one, int64; all indices if `wanted`
    is not smaller."""
    return np.linspace(0, max(count - 1, 0), min(count, wanted)).round().astype(np.int64)


def rows_by_name(names: Sequence[str], wanted: Sequence[str], train: Sequence[str] = ()) -> np.ndarray:
    """Indices, int64, of the images with the `wanted` names, in that order.

    names: the paths of all images. A wanted name is a path, a file name, a stem, or `0013` for `0013_sat.jpg`. train:
    names of the training images, for the error message. Raises SightlineError with all wanted names that are unknown
    (with the nearest name), ambiguous or repeated.
    """
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        for called in short_names(name):
            rows.setdefault(called, []).append(row)
    trained = {called for name in train for called in (name, *short_names(name))}
    rows |= {name: [row] for row, name in enumerate(names)}  # a full path is unambiguous
    faults, owner = [], {}
    for name in wanted:
        if name not in rows and name in trained:
            faults.append(f"{name}: it is a training image; only validation images can be sampled")
        elif name not in rows:
            near = difflib.get_close_matches(name, rows, 1, 0.5)
            faults.append(f"{name}: there is no such validation image" + (f"; did you mean {near[0]}?" if near else ""))
        elif len(rows[name]) > 1:
            faults.append(
                f"{name}: several images have this name: {' and '.join(names[row] for row in rows[name][:2])}"
            )
        elif rows[name][0] in owner:
            faults.append(f"{name}: it is the same image as {owner[rows[name][0]]}")
        else:
            owner[rows[name][0]] = name
    if faults:
        cure = (
            "list names of validation images, with their folder if several have the same name: --report.samples "
            "'[NAME, NAME]'"
        )
        raise SightlineError(
            "these images cannot be sampled", where="report.samples", why="\n" + listing(faults), cure=cure
        )
    return np.array([rows[name][0] for name in wanted], dtype=np.int64)


def short_names(name: str) -> set[str]:
    """Short names by which an image can be given instead of its path: `0013_sat.jpg`, `0013_sat` and `0013`."""
    path = PurePosixPath(name)
    return {path.name, path.stem, path.stem.removesuffix("_sat")}
