"""Which validation images a run follows over its epochs; NumPy only, for the report asks too."""

import difflib
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from .errors import SightlineError, listing


def sample_rows(count: int, wanted: int, seed: int) -> np.ndarray:
    """Sorted rows of the validation images that are followed: all, or a seeded sample of `wanted`."""
    if wanted >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng([seed, 1]).permutation(count)[:wanted])


def named_rows(names: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """Rows of the images called `wanted`, in that order: by path, file name, stem, or `0013` for `0013_sat.jpg`.

    SightlineError naming each that is not there, with the nearest, or that several images are called.
    """
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        path = PurePosixPath(name)
        for called in {path.name, path.stem, path.stem.removesuffix("_sat")}:
            rows.setdefault(called, []).append(row)
    rows |= {name: [row] for row, name in enumerate(names)}  # a whole path means one image
    faults, owner = [], {}
    for name in wanted:
        if name not in rows:
            near = difflib.get_close_matches(name, rows, 1, 0.5)
            faults.append(f"{name}: there is no such image" + (f"; did you mean {near[0]}?" if near else ""))
        elif len(rows[name]) > 1:
            faults.append(f"{name}: {' and '.join(names[row] for row in rows[name][:2])} are both called so")
        elif owner.setdefault(rows[name][0], name) != name:
            faults.append(f"{name}: {owner[rows[name][0]]} is the same image")
    if faults:
        cure = "name validation images as their files are called, with their folder where that is needed"
        raise SightlineError(
            "these images cannot be followed", where="report.samples", why="\n" + listing(faults), cure=cure
        )
    return np.array([rows[name][0] for name in wanted], dtype=np.int64)
