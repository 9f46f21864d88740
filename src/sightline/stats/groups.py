"""Groups of images that belong together: frames of a film, tiles of a scene, near copies, or as the user says.

Images of a group share their errors, so intervals count groups, not images. Groups that are not given are found by
file names that differ only in numbers, and confirmed by the pixels: numbered photographs of different things are no
film. `data.group: none` switches this off. docs/data.md has the measurements.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from scipy.sparse import block_array, coo_array
from scipy.sparse.csgraph import connected_components

from ..config.schema import NO_GROUPS, Data, group_pattern
from ..data.near import groups_of_near_copies, small_composites
from ..data.types import Decoded
from ..errors import counted
from ..runs.atomic import read_json, remove, write_json
from .units import FEWEST, MANY, effective_units, ids_of

SMALL = 8
"""Height and width of the thumbnails whose distances are compared."""
FILM, SCENE = 0.75, 0.85
"""Frames are a film if neighbors in number have less than FILM times the distance of random images of the same name;
images of equal names belong together if they have less than SCENE times the distance of images of other names."""
STEADY = 0.8
"""Smallest share of the neighbors in number that are more similar than half of the random images."""
FRAMES = 8
"""Smallest number of images of a film."""
RARE = 0.99
"""Near copies are ignored if the number of groups is larger than this share of the number of images."""
MOST_COMPARED = 50_000
"""In sets of more images, near copies are not searched."""
PAIRS = 20_000
"""Number of random pairs of images whose distances are measured."""

Part = tuple[str, tuple[int, ...]]
"""A file name without its last numbers, up to two of these, and the numbers."""
Key = tuple[str, int, tuple[int, ...]]
"""The file name without its last numbers, the class, and the numbers but for the last."""


@dataclass(frozen=True)
class Groups:
    """ids: int64 [N], the group of each image. by: what the groups are, such as "frames of a film". shared: number of
    images in groups that were found by name, of whose name there are training images too."""

    ids: np.ndarray
    by: str
    shared: int = 0

    @property
    def count(self) -> int:
        return int(self.ids.max()) + 1

    @property
    def unequal(self) -> bool:
        """Whether a few groups have most images. How many independent images these are worth cannot then be told: in
        simulations the estimate was two to ten times too high."""
        return 2 * effective_units(len(self.ids), self.ids) < self.count

    def sentence(self, effective_images: float) -> str:
        """What the groups are and how many, for terminal and report. effective_images: the number of independent images
        that would have an equally precise score; 0 if unknown."""
        few = f": fewer than {FEWEST}, so no interval can be given" if self.count < FEWEST else ""
        found = f"{counted(len(self.ids), 'image')} in {counted(self.count, 'group')} ({self.by}){few}"
        wide = f"; with fewer than {MANY} groups, the interval is one of at least 95%" if self.count < MANY else ""
        known = (
            f"; {self.shared:,} of them are named like training images: if these are of the same films or scenes, the "
            "score is that for films that the model knows (--data.group keeps them together)"
            if self.shared
            else ""
        )
        unknown = few or self.unequal or not effective_images
        precise = "" if unknown else f", as precise as {effective_images:,.0f} independent images"
        return f"{found}{precise}{'' if few else wide}{known}"

    def facts(self, effective_images: float) -> dict[str, Any]:
        """The groups as fields of a run's results."""
        found = {"groups": self.count, "grouped_by": self.by}
        unknown = self.count < FEWEST or self.unequal
        return found if unknown else found | {"effective_images": round(effective_images, 1)}


def ids_in(groups: Groups | None) -> np.ndarray | None:
    """The group of each image, int64 [N]; None if each is alone."""
    return None if groups is None else groups.ids


def groups_of(decoded: Decoded, data: Data) -> Groups | None:
    """The groups of the images of a split: by `data.group`, by the column `group` of a table, or found; None if every
    image is alone, or with `data.group: none`."""
    if data.group or decoded.groups is not None:
        return stated_groups(decoded.names, decoded.groups, data)
    if decoded.stream is not None:
        return None
    return found_groups(decoded.names, small_composites(decoded), decoded.labels)


def stated_groups(names: Sequence[str], column: Sequence[str] | None, data: Data) -> Groups | None:
    """The groups that the user states, by `data.group` or else by the `column` of a table; None if every image is
    alone."""
    if data.group or column is None:
        return given_groups(names, data)
    return grouped(
        ids_of([group or f"\0{name}" for group, name in zip(column, names, strict=True)]), "the column `group`"
    )


def given_groups(names: Sequence[str], data: Data) -> Groups | None:
    """The groups by `data.group`; None for `none`."""
    if data.group == NO_GROUPS:
        return None
    expression = group_pattern(data.group)
    found = [match["group"] if (match := expression.search(name)) else f"\0{name}" for name in names]
    return grouped(ids_of(found), "data.group")


def groups_of_masks(names: Sequence[str], pixels: np.ndarray, data: Data) -> Groups | None:
    """The groups of masks, by `data.group` or found by their names and the numbers of pixels of each class [N, K]."""
    if data.group:
        return given_groups(names, data)
    shares = pixels / np.maximum(pixels.sum(1, keepdims=True), 1)
    return found_by_name([name_parts(name.replace("_mask.", ".")) for name in names], shares, [0] * len(names))


def grouped(ids: np.ndarray, by: str) -> Groups | None:
    """Groups with these ids; None if each image is alone."""
    return Groups(ids, by) if len(ids) and int(ids.max()) + 1 < len(ids) else None


def found_groups(names: Sequence[str], images: np.ndarray, labels: np.ndarray | None) -> Groups | None:
    """Find tiles of scenes, frames of films and other images that belong together by name and pixels.

    images: uint8 [N, 3, H, W]. labels: if these are classes int64 [N], only images of one class are compared.
    """
    parts, copies = [name_parts(name) for name in names], np.arange(len(names))
    classes = (
        labels.tolist() if labels is not None and labels.ndim == 1 and labels.dtype.kind == "i" else [0] * len(names)
    )
    if len(names) <= MOST_COMPARED:
        copies = groups_of_near_copies(images)
    found = found_by_name(parts, thumbnails_of(images), classes)
    if found:
        return grouped(joined(found.ids, copies), found.by)
    return grouped(copies, "near copies") if copies.max() + 1 <= RARE * len(names) else None


def found_by_name(parts: Sequence[Part], small: np.ndarray, labels: Sequence[int]) -> Groups | None:
    """Find groups by names; `small` [N, D] are the values by which images or masks are compared."""
    if len(parts) < FRAMES:
        return None
    keys = [(prefix, label, numbers[:-1]) for (prefix, numbers), label in zip(parts, labels, strict=True)]
    for by, find in FINDERS.items():
        ids = find(parts, small, keys)
        if ids is not None:
            return grouped(ids, by)
    return None


def joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Ids of the smallest groups that contain the groups of both."""
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(int(first.max()) + 1, int(second.max()) + 1))
    whole = block_array([[None, graph], [graph.T, None]])
    return ids_of(connected_components(whole, directed=False)[1][first].tolist())


def name_parts(name: str) -> Part:
    """(the path without its last numbers, up to two of these): `a/clip_0001.png` -> (`a/clip`, (1,))."""
    path = PurePosixPath(name)
    match = re.fullmatch(r"(|.*?[^0-9])(?:([0-9]{1,18})[_. -]+[a-z]*)?([0-9]{1,18})", path.stem.removesuffix("_sat"))
    if not match:
        return name, ()
    return str(path.with_name(match[1] or "_")), tuple(int(digits) for digits in match.groups()[1:] if digits)


def tiles(parts: Sequence[Part], small: np.ndarray, keys: Sequence[Key]) -> np.ndarray | None:
    """Ids of the scenes if most names have a row and a column that fill at least half of a grid of 2 x 2 or more; None
    unless tiles are more similar to their neighbors than to others of the scene, or to these than to other scenes."""
    rng, scenes, labels = np.random.default_rng(0), [prefix for prefix, _ in parts], ids_of([key[1] for key in keys])
    near, usual, inside = [], [], []
    for rows in rows_by(scenes):
        cells = {parts[row][1]: int(row) for row in rows}
        sides = [len({cell[axis] for cell in cells}) if all(len(cell) == 2 for cell in cells) else 0 for axis in (0, 1)]
        if min(sides) < 2 or 2 * len(cells) < sides[0] * sides[1]:
            continue
        pairs = [(row, cells[r, c + 1]) for (r, c), row in cells.items() if (r, c + 1) in cells]
        drawn = rng.choice(rows, (2, 20 * len(rows)))
        near.append(distances(small, *np.array(pairs, dtype=np.int64).reshape(-1, 2).T))
        usual.append(distances(small, *drawn)[drawn[0] != drawn[1]])
        inside.append(rows)
    if not near or 2 * sum(map(len, inside)) < len(parts):
        return None
    others = rng.choice(np.concatenate(inside), (2, PAIRS))
    apart = [scenes[row] != scenes[other] and labels[row] == labels[other] for row, other in others.T.tolist()]
    typical, other = median(np.concatenate(usual)), median(distances(small, *others)[np.array(apart)])
    if not (median(np.concatenate(near)) < SCENE * typical or typical < SCENE * other):
        return None
    full = {int(row) for rows in inside for row in rows}
    return ids_of([scenes[row] if row in full else row for row in range(len(parts))])


def thumbnails_of(images: np.ndarray) -> np.ndarray:
    """Thumbnails float32 [N, 3 * SMALL * SMALL] of images uint8 [N, 3, H, W], from every few pixels."""
    step = [max(1, side // (4 * SMALL)) for side in images.shape[2:]]
    rows, columns = (np.arange(0, side, each) for side, each in zip(images.shape[2:], step, strict=True))
    cells = [np.array_split(indices, min(SMALL, len(indices))) for indices in (rows, columns)]
    few = np.asarray(images[:, :, :: step[0], :: step[1]])
    starts = [np.array([part[0] // each for part in axis]) for axis, each in zip(cells, step, strict=True)]
    sums = np.add.reduceat(np.add.reduceat(few.astype(np.float32), starts[0], axis=2), starts[1], axis=3)
    counts = [np.array([len(part) for part in axis]) for axis in cells]
    return (sums / np.outer(*counts)).reshape(len(images), -1)


def films(parts: Sequence[Part], small: np.ndarray, keys: Sequence[Key]) -> np.ndarray | None:
    """Ids of the films if images with neighboring numbers are more similar than random images of the same name; else
    None. A film is cut where neighbors are as different as random images."""
    last = np.array([numbers[-1] if numbers else -1 for _, numbers in parts])
    ids, rng, found = np.arange(len(parts)), np.random.default_rng(0), 0
    for rows in rows_by(keys):
        rows = rows[np.argsort(last[rows], kind="stable")]
        if len(rows) < FRAMES or last[rows[0]] < 0:
            continue
        near = distances(small, rows[:-1], rows[1:])
        first, second = rng.choice(rows, (2, min(PAIRS, 20 * len(rows))))
        usual = float(np.median(distances(small, first, second)[first != second]))
        if np.median(near) < FILM * usual and (near < usual).mean() >= STEADY:
            ids[rows] = rows[0] + len(parts) * np.concatenate([[0], np.cumsum(near >= usual)])
            found += len(rows)
    return ids_of(ids.tolist()) if 2 * found >= len(parts) else None


def same_names(parts: Sequence[Part], small: np.ndarray, keys: Sequence[Key]) -> np.ndarray | None:
    """Ids of the names without their last number, if images of one name are more similar than images of other names
    (of the same class); else None."""
    names = ids_of([(prefix, numbers[:-1]) if numbers else row for row, (prefix, numbers) in enumerate(parts)])
    labels = ids_of([key[1] for key in keys])
    order, rng = np.argsort(names, kind="stable"), np.random.default_rng(0)
    several = np.bincount(names)[names] > 1
    if int(names.max()) == 0 or several.sum() < 2 * FRAMES:
        return None
    row = rng.integers(0, len(order) - 1, PAIRS)
    inside = np.stack([order[row], order[row + 1]])  # neighbors in this order mostly have one name
    pairs = np.concatenate([inside, rng.integers(0, len(names), (2, PAIRS))], axis=1)
    pairs = pairs[:, (pairs[0] != pairs[1]) & (labels[pairs[0]] == labels[pairs[1]]) & several[pairs].all(0)]
    same = names[pairs[0]] == names[pairs[1]]
    if min(same.sum(), (~same).sum()) < FRAMES:
        return None
    apart = distances(small, *pairs)
    return names if np.median(apart[same]) < SCENE * np.median(apart[~same]) else None


def rows_by(keys: Sequence[object]) -> list[np.ndarray]:
    """The rows int64 [n] of each distinct key."""
    ids = ids_of(keys)
    return np.split(np.argsort(ids, kind="stable"), np.cumsum(np.bincount(ids))[:-1]) if len(ids) else []


def median(values: np.ndarray) -> float:
    """The median; NaN without values."""
    return float(np.median(values)) if len(values) else float("nan")


def distances(small: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Root mean square differences [M] of the thumbnails at the rows `first` and `second` [M]."""
    return np.sqrt(((small[first] - small[second]) ** 2).mean(1))


FINDERS: dict[str, Callable[..., np.ndarray | None]] = {
    "tiles of one scene, by name and pixels": tiles,
    "frames of one film, by name and pixels": films,
    "images of one name but for its number, by name and pixels": same_names,
}
"""What finds groups, in this order: (name parts, thumbnails, (name, class, first number) of each image) -> ids."""


def said(groups: Groups | None, facts: Mapping[str, Any]) -> str:
    """The sentence on the groups after a result; "" without groups. facts: of `Groups.facts`."""
    return f"; {groups.sentence(facts.get('effective_images', 0))}" if groups else ""


def write_groups(
    run: Path | None, split: str, decoded: Decoded, data: Data, trained: Collection[str] = ()
) -> Groups | None:
    """Find the groups of a split, and write them to predictions/SPLIT-groups.json of a run: `by`, `shared`, and
    `groups`, the file names of each group of several images. Without groups the file is removed. run: None for data
    other than the run's own, whose groups are not written. trained: names of the training images."""
    groups, names = groups_of(decoded, data), decoded.names
    if groups and groups.by in FINDERS:
        groups = replace(groups, shared=named_alike(groups, names, trained))
    if run is None:
        return groups
    path = groups_file(run, split)
    if groups is None:
        remove([path])
    else:
        members = [[names[row] for row in rows] for rows in rows_by(groups.ids.tolist()) if len(rows) > 1]
        write_json(path, {"by": groups.by, "shared": groups.shared, "groups": members})
    return groups


def named_alike(groups: Groups, names: Sequence[str], trained: Collection[str]) -> int:
    """The number of images in groups of several that have the name of a training image, but for its last numbers."""
    several = np.bincount(groups.ids)[groups.ids] > 1
    known = {prefix for name in trained for prefix in prefixes(name)}
    return sum(not known.isdisjoint(prefixes(name)) for name, more in zip(names, several, strict=True) if more)


def prefixes(name: str) -> set[str]:
    """A path without its last numbers, and the same without its first folder, which may be that of a split; empty if
    the name has no numbers, or nothing else."""
    prefix, numbers = name_parts(name)
    found = {prefix, prefix.partition("/")[2]} if numbers else set()
    return {each for each in found if PurePosixPath(each).name not in ("", "_")}


def groups_file(run: Path, split: str) -> Path:
    """The file of `write_groups`."""
    return run / "predictions" / f"{split}-groups.json"


def read_groups(run: Path, names: Sequence[str], split: str = "val") -> Groups | None:
    """Read the groups of the images `names` of a run; None without groups, or if the file is damaged."""
    path = groups_file(run, split)
    found = read_json(path) if path.is_file() else None
    if not isinstance(found, dict) or not isinstance(found.get("groups"), list):
        return None
    number = {name: index for index, members in enumerate(found["groups"]) for name in members}
    groups = grouped(ids_of([number.get(name, name) for name in names]), str(found.get("by")))
    shared = found.get("shared")
    return replace(groups, shared=shared) if groups and isinstance(shared, int) else groups
