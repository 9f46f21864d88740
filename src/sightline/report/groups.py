"""Groups of pictures that have no labels, by what the features say: something to color a map by."""

from dataclasses import replace

import numpy as np

from ..insight.projection import FEWEST
from .run import RunFiles

MOST, MEMBERS = 10, 20
"""The most groups, and how many pictures each has on average at least."""


def with_groups(files: RunFiles) -> RunFiles:
    """The run with groups for classes, where its kept pictures have no labels; else the run as it is.

    k-means of the last kept epoch's features, each of length 1, so that near means near by cosine, as everywhere in the
    report. Groups are numbered by size. They are of one epoch: nothing may be measured by them.
    """
    samples, snapshots = files.samples, files.snapshots
    if samples is None or samples.labels is not None or not snapshots:
        return files
    features = snapshots[-1].features
    if len(features) != len(samples.rows) or len(features) < FEWEST or not np.isfinite(features).all():
        return files
    labels = groups_of(features)
    names = tuple(f"group {number}" for number in range(1, int(labels.max()) + 2))
    return replace(files, samples=replace(samples, labels=labels), classes=names, grouped=True)


def groups_of(features: np.ndarray) -> np.ndarray:
    """Group int64 [N] of features [N, D], from 0, the largest first; the same features give the same groups."""
    from sklearn.cluster import KMeans

    wide = features.astype(np.float64)
    wide /= np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    count = min(max(2, min(MOST, len(wide) // MEMBERS)), len(np.unique(wide, axis=0)))
    found = KMeans(count, n_init=4, random_state=0).fit(wide).labels_
    order = np.argsort(-np.bincount(found, minlength=count), kind="stable")
    return np.argsort(order, kind="stable")[found].astype(np.int64)
