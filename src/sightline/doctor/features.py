"""Checks with the features of a pre-trained network: labels that may be wrong, and crops and mirror images."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..config.resolve import resolve
from ..config.schema import Config
from ..data.near import ALIKE, DETAIL, LEAST_SIDE, SIDE, Searched, best_crop, connected
from ..data.types import Decoded, Source
from ..errors import SightlineError
from ..insight.features import unit_rows
from ..models.weights import weights_folder
from ..runs.atomic import read_json
from ..tasks.contract import Say, Task
from .copies import described, identical
from .facts import Facts
from .findings import Finding, Group, finding
from .labels import likely_wrong
from .opened import OpenedData

MODEL = "timm/tf_efficientnet_lite0"
"""The network whose features are used, unless another one is given."""
OF_FEATURES = ("altered_leak", "altered_duplicate", "suspicious_label")
"""The kinds of findings that need features."""
NEIGHBORS, SIMILAR = 5, 0.4
"""For each image, this number of images with the most similar features are compared with it, if the cosine similarity
of the centered features is at least this. Chosen by benchmarks/doctor_features.py."""
BLOCK = 1024
"""Number of images whose features are compared with those of all images at once."""
KEPT, SEARCHED = 8192, 128
"""Number of images that are kept, resized (12 kB each) and prepared for the search of crops (1.2 MB each)."""
MOST = 20_000
"""Maximum number of pairs of images that are compared, the most similar first."""
FEWEST = 5
"""Labels of classes with fewer images are not checked."""


class Network(NamedTuple):
    """A configuration with a network and weights, and the functions of its task; see `tasks.contract.Task`.
    probabilities: None if labels are not checked."""

    config: Config
    features: Callable[[Config, Source, Say], dict[str, tuple[Decoded, np.ndarray]]]
    probabilities: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] | None


def network_of(task: Task, data: dict[str, object], weights: str, model: str) -> Network:
    """A network with weights: `pretrained`, a file, or a run, whose model is used unless one is
    given. data: settings by dotted key. Preprocessing that is not set is that of the weights."""
    settings: dict[str, object] = {"data.size": 0, "data.filter": "pretrained", "augment.normalize": "pretrained"}
    folder = weights_folder(Path(weights)) if Path(weights).is_dir() else None
    about = read_json(folder / "config.json") if folder and not model else None
    if about:
        settings |= {"data.fit": "pretrained", "data.eval_crop": 0, "model.args": about["model"]["args"]}
        model = about["model"]["name"]
    if task.features is None:
        why = f"these data are for the task {task.name}, which has no features of complete images"
        where, cure = str(data["data.path"]), "omit --weights"
        raise SightlineError("--weights does not apply to these data", where=where, why=why, cure=cure)
    config = resolve(task.config(), settings | data | {"model.name": model or MODEL, "model.weights": weights})
    return Network(config, task.features, task.held_out_probabilities)


def feature_checks(
    opened: OpenedData,
    facts: Sequence[Facts],
    known: Sequence[Finding],
    network: Network,
    read: Callable[[Facts], Image.Image],
    say: Say,
) -> tuple[list[Finding], list[str]]:
    """Find labels that may be wrong, and near copies whose pixels are not similar: (findings, notes).

    opened: data with at most one label for each image. known: near copies that were found already, which are not
    listed again. read: function that opens an image.
    """
    good = {(fact.split, fact.name): fact for fact in facts if not fact.why}
    splits = {
        split: items.subset(np.array([row for row, name in enumerate(items.names) if (split, name) in good], np.int64))
        for split, items in opened.splits.items()
    }
    splits = {split: items for split, items in splits.items() if items.names}
    if not splits:
        return [], []
    parts = network.features(network.config, Source(opened.root, "", opened.classes, splits, (), opened.channels), say)
    rows = [good[split, name] for split, (decoded, _) in parts.items() for name in decoded.names]
    vectors = np.concatenate([vectors for _, vectors in parts.values()])
    links, notes = altered_copies(rows, vectors, read)
    sets = [{*group.files} for finding in known for group in finding.groups]
    new = [link for link in links if not any({rows[row].name for row in link[:2]} <= each for each in sets)]
    kinds: dict[str, list[Group]] = {"altered_leak": [], "altered_duplicate": []}
    for members in connected(new):
        best = max(alike for *pair, alike in new if {*pair} & {*members})
        group, _, leak = described(f"similarity {best:.3f}", [rows[row] for row in members], opened.classes)
        kinds["altered_leak" if leak else "altered_duplicate"].append(group)
    found = [one for kind, groups in kinds.items() for one in finding(kind, groups)]
    labels = np.array([fact.label for fact in rows])
    if network.probabilities and opened.regular:
        together = groups_of(rows, [*sets, *({rows[row].name for row in link[:2]} for link in links)])
        groups = suspicious(rows, labels, network.probabilities, vectors, together, opened.classes)
        found += finding("suspicious_label", groups, model=network.config.model.name)
    return found, notes


def altered_copies(
    rows: Sequence[Facts], vectors: np.ndarray, read: Callable[[Facts], Image.Image]
) -> tuple[list[tuple[int, int, float]], list[str]]:
    """Pairs of images of which one is a crop of the other or of its mirror image: (indices and correlation, notes).
    vectors: features float32 [N, D] of the images."""
    usable = {fact.pixels: row for row, fact in reversed([*enumerate(rows)]) if not fact.plain}
    some = np.array(sorted(row for row in usable.values() if min(rows[row].size) >= LEAST_SIDE), np.int64)
    pairs = similar_pairs(vectors[some], NEIGHBORS, SIMILAR)
    left = len(pairs) - MOST
    notes = [f"{left:,} pairs of images with similar features were not compared in detail"] * (left > 0)

    @lru_cache(KEPT)
    def small(row: int) -> np.ndarray:
        return np.asarray(read(rows[row]).resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0))

    @lru_cache(SEARCHED)
    def searched(row: int) -> Searched:
        return Searched.of(small(row))

    found = []
    compared = pairs[:MOST]
    for first, second in some[compared[np.lexsort(compared.T[::-1])]].tolist():  # by index, for the cache
        one, two = searched(first), searched(second)
        alike, fine = max(best_crop(one, two), best_crop(two, one))
        if alike >= ALIKE and fine >= DETAIL:
            found.append((first, second, alike))
    return found, notes


def similar_pairs(vectors: np.ndarray, count: int, least: float) -> np.ndarray:
    """Pairs of images with similar features float32 [N, D], the most similar first: int64 [P, 2], the smaller index
    first. For each image, up to `count` with a cosine similarity of at least `least` after centering."""
    if len(vectors) < 2:
        return np.empty((0, 2), np.int64)
    unit, pairs, values = unit_rows(vectors - vectors.mean(0)).astype(np.float32), [], []
    count = min(count, len(unit) - 1)
    for start in range(0, len(unit), BLOCK):
        products = unit[start : start + BLOCK] @ unit.T
        own = np.arange(len(products))
        products[own, own + start] = -1
        near = np.argpartition(-products, count - 1, axis=1)[:, :count]
        similar = np.take_along_axis(products, near, 1)
        first, column = np.nonzero(similar >= least)
        pairs.append(np.sort(np.stack([first + start, near[first, column]], 1), axis=1))
        values.append(similar[first, column])
    distinct, index = np.unique(np.concatenate(pairs), axis=0, return_index=True)
    return distinct[np.argsort(-np.concatenate(values)[index], kind="stable")]


def groups_of(rows: Sequence[Facts], sets: Sequence[set[str]]) -> np.ndarray:
    """The index of the group of each image, int64 [N]: identical images, and sets of names, are together."""
    index = {fact.name: row for row, fact in enumerate(rows)}
    together = [[index[fact.name] for fact in group] for group in identical(rows)]
    together += [[index[name] for name in each if name in index] for each in sets]
    groups = np.arange(len(rows))
    for members in connected([(each[0], row, 1.0) for each in together for row in each[1:]]):
        groups[members] = members[0]
    return groups


def suspicious(
    rows: Sequence[Facts],
    labels: np.ndarray,
    probabilities_of: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    vectors: np.ndarray,
    groups: np.ndarray,
    classes: Sequence[str],
) -> list[Group]:
    """The images whose label is more likely wrong than right by the features of other images, see `likely_wrong`."""
    counts = np.bincount(labels[labels >= 0], minlength=len(classes))
    some = np.flatnonzero((labels >= 0) & (counts[labels] >= FEWEST))
    present, own = np.unique(labels[some], return_inverse=True)
    if len(present) < 2:
        return []
    chances = probabilities_of(vectors[some], own, groups[some])
    found = []
    for row in likely_wrong(own, chances).tolist():
        best, given = int(chances[row].argmax()), int(own[row])
        note = f"labeled {classes[present[given]]} ({chances[row, given]:.0%}), "
        note += f"looks like {classes[present[best]]} ({chances[row, best]:.0%})"
        found.append(Group((rows[some[row]].name,), note))
    return found
