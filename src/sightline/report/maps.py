"""The maps of what a model has learned, and the pictures that stand under their points."""

from collections.abc import Sequence

import numpy as np

from ..insight.projection import EpochMap, still_maps
from . import alt
from .findings import Findings
from .html import Child, Html, element, missing_note, table
from .live import items, live, map_block, with_lives
from .run import RunFiles, Snapshot
from .sections import Figures, figure
from .words import in_words, percent

MAPS = (
    "A pretty map proves nothing: the numbers below are of the features themselves, not of a map. Their k-NN accuracy "
    "is by a vote of each image's nearest others among these same images, not among training images."
)
GROUPS = (
    "The images have no labels, so the colors are groups that k-means found among the features of the last epoch: they "
    "say what looks alike to the model, and prove nothing. --pretrain.probe names labeled images, and with these it is "
    "measured what the features are worth."
)
TSNE = (
    "t-SNE of the first 50 principal components. Each epoch starts from the map of the epoch before and is turned to "
    "lie on it, with shared axes. Who is whose neighbor means something; distances between clusters and their sizes do "
    "not."
)
PCA = (
    "The two largest principal components of each epoch's own features, in units of that epoch's spread, then turned "
    "or mirrored (never stretched) towards the last epoch. Distances mean something here, but only for the share of "
    "the variance that is shown."
)


def pictures(files: RunFiles) -> Html | None:
    """The pictures that the page's scripts show; None where the run kept none, or none with labels."""
    if files.samples is None or (files.samples.labels is None and files.predictions is None):
        return None
    return items("items-data", files, files.samples, files.mistakes)


def maps(files: RunFiles, figures: Figures, found: Findings) -> list[Child]:
    """PCA and t-SNE over the epochs, with the numbers that they cannot prove."""
    parts: list[Child] = [missing_note(note[0].upper() + note[1:] + ".") for note in found.notes]
    if found.maps:
        parts += maps_of(figures, found.maps, files.snapshots, found.map_labels, files.classes, "")
    if found.training_maps:
        assert files.train_samples is not None
        parts.append(element("h3", "The images that it was trained on"))
        parts.append(items("items-training", files, files.train_samples, None))
        taught = found.training_labels
        parts += maps_of(figures, found.training_maps, files.train_snapshots, taught, files.classes, "-training")
    return parts


def maps_of(
    figures: Figures,
    maps: Sequence[EpochMap],
    snapshots: Sequence[Snapshot],
    labels: np.ndarray,
    classes: Sequence[str],
    ending: str,
) -> list[Child]:
    """The maps of one kind of images. ending: of the figures' names, "" for validation or "-training"."""
    labeled = maps[0].knn is not None
    images = "training" if ending else "validation" if labeled else "evaluated"
    only = " Only one epoch was kept." if len(maps) == 1 else ""
    crowd = (
        " The twelve classes with the lowest recall are named and in full color; all others are faint."
        if np.unique(labels).size > 20
        else ""
    )
    plain = " (without augmentation)" if images == "training" else ""
    shown = still_maps(maps)
    still = [
        element("h3", "Who is near whom: t-SNE") if f"tsne{ending}" in figures else None,
        figure(figures, f"tsne{ending}", alt.maps("t-SNE", shown, labels, images), wide=True),
        element("h3", "The directions of most variance: PCA"),
        figure(figures, f"pca{ending}", alt.maps("PCA", shown, labels, images), wide=True),
    ]
    name, pictured = f"map-data{ending}", f"items{ending or '-data'}"
    return [
        element("p", f"Penultimate features of the same {len(labels):,} {images} images{plain} after "
                     f"{in_words([one.epoch for one in maps])}.{only}{crowd} {MAPS if labeled else GROUPS}"),
        with_lives(still, map_block(name, maps, snapshots, len(classes)), live("map", name, pictured)),
        features_table(maps, labeled),
        element("p", TSNE, class_="small") if f"tsne{ending}" in figures else None,
        element("p", PCA, class_="small"),
    ]  # fmt: skip


def features_table(maps: Sequence[EpochMap], labeled: bool) -> Html:
    """What the features of each kept epoch say themselves."""
    shown = "Variance on the PCA map, %"
    if not labeled:
        rows: list[list[Child]] = [[str(one.epoch), percent(one.explained)] for one in maps]
        return table(["Epoch", shown], rows, "Features in numbers", numeric=1)
    head = ["Epoch", f"k-NN accuracy (k = {maps[0].neighbors}), %", "Silhouette, -1 to 1", shown]
    rows = [
        [
            str(one.epoch),
            "none" if one.knn is None else percent(one.knn),
            "none" if one.silhouette is None else f"{one.silhouette:.3f}",
            percent(one.explained),
        ]
        for one in maps
    ]
    return table(head, rows, "Features in numbers", numeric=1)
