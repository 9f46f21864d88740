"""Section on the features over the epochs: PCA and t-SNE maps, with the thumbnails of their points."""

from collections.abc import Sequence

import numpy as np

from ..insight.figures import HIGHLIGHTED, MAX_NAMED
from ..insight.projection import EpochMap, static_maps, why_not_separable
from .drawing import maps_text
from .findings import Findings
from .formatting import epochs_text, percent
from .html import Child, Html, element, missing_note, table
from .live import items, live, map_block, with_live_views
from .run import RunFiles, Snapshot
from .sections import Figures, figure

MAPS = (
    "A map alone is no evidence: the numbers below are computed from the features, not from a map. The k-NN accuracy "
    "is leave-one-out: each image is classified by its nearest neighbors among these images, not among training images."
)
GROUPS = (
    "The images have no labels, so the colors are k-means clusters of the features of the last epoch. The clusters say "
    "nothing about the quality of the features; set --pretrain.probe to labeled images to measure it."
)
TSNE = (
    "t-SNE of the first 50 principal components.{epochs} Neighborhoods are meaningful; distances between clusters and "
    "their sizes are not."
)
TSNE_EPOCHS = " Each epoch is initialized with the map of the epoch before and rotated to match it, with shared axes."
PCA = (
    "PCA: the two largest principal components{epochs}. Distances are meaningful, but only for the share of the "
    "variance that is shown."
)
PCA_EPOCHS = (
    " of each epoch's own features, in units of that epoch's spread, then rotated or mirrored (never scaled) to match "
    "the last epoch"
)


def thumbnails(files: RunFiles) -> Html | None:
    """The JSON block of the thumbnails of the sample images; None if these have neither labels nor predictions."""
    if files.samples is None or (files.samples.labels is None and files.predictions is None):
        return None
    return items("items-data", files, files.samples, files.mistakes)


def maps(files: RunFiles, figures: Figures, findings: Findings) -> list[Child]:
    """Section: PCA and t-SNE maps at the stored epochs, with measures of the features."""
    parts: list[Child] = [missing_note(note[0].upper() + note[1:] + ".") for note in findings.notes]
    recall = f"The {HIGHLIGHTED} classes with the lowest recall"
    named = f"The first {HIGHLIGHTED} classes" if findings.summary is None else recall
    if findings.maps:
        labels, clustered = findings.map_labels, files.clustered
        parts.append(sampled_note(len(labels), files.stored))
        parts += maps_of(figures, findings.maps, files.snapshots, labels, files.classes, "", named, clustered)
    if findings.training_maps:
        assert files.train_samples is not None
        parts.append(element("h3", "Training images"))
        parts.append(items("items-training", files, files.train_samples, None))
        labels = findings.training_labels
        parts.append(sampled_note(len(labels), files.train_stored))
        parts += maps_of(
            figures, findings.training_maps, files.train_snapshots, labels, files.classes, "-training", named
        )
    return parts


def map_notes(epochs: int, with_tsne: bool) -> list[Html]:
    """How to read the maps. epochs: number of maps of each kind."""
    several = epochs > 1
    notes = [TSNE.format(epochs=TSNE_EPOCHS * several)] * with_tsne + [PCA.format(epochs=PCA_EPOCHS * several)]
    return [element("p", note, class_="small") for note in notes]


def sampled_note(shown: int, stored: int) -> Html | None:
    """A paragraph on the images that are not on the maps; None if all images with stored features are."""
    if stored <= shown:
        return None
    text = (
        f"The features of {stored:,} images are stored. This section has a random {shown:,} of them (seed 0), so that "
        "the page is written and opened quickly: the maps, k-NN accuracy and silhouette are of these. "
        "The metrics, intervals and tables of the other sections are of all images."
    )
    return element("p", text, class_="small")


def maps_of(
    figures: Figures,
    maps: Sequence[EpochMap],
    snapshots: Sequence[Snapshot],
    labels: np.ndarray,
    classes: Sequence[str],
    ending: str,
    named: str,
    clustered: bool = False,
) -> list[Child]:
    """The maps of one split, as figures and interactive views, with a table of measures of the features.

    labels: class of each image, or its cluster if `clustered`. ending: suffix of the figures' names, "" for validation
    images, "-training" for training images. named: which classes the figures name if there are many.
    """
    images = "training" if ending else "evaluated" if clustered else "validation"
    only = " Only one epoch was stored." if len(maps) == 1 else ""
    crowd = f"{named} are named and in full color; all others are faint."
    plain = " (without augmentation)" if images == "training" else ""
    why = "" if clustered else why_not_separable(labels)
    shown = static_maps(maps)
    still = [
        element("p", crowd, class_="small") if len(classes) > MAX_NAMED else None,
        element("h3", "Neighborhoods: t-SNE") if f"tsne{ending}" in figures else None,
        figure(figures, f"tsne{ending}", maps_text("t-SNE", shown, labels, images), wide=True),
        element("h3", "Directions of largest variance: PCA"),
        figure(figures, f"pca{ending}", maps_text("PCA", shown, labels, images), wide=True),
    ]
    name, items_name = f"map-data{ending}", f"items{ending or '-data'}"
    return [
        element("p", f"Penultimate features of the same {len(labels):,} {images} images{plain} after "
                     f"{epochs_text([one.epoch for one in maps])}.{only} {GROUPS if clustered else MAPS}"),
        with_live_views(still, map_block(name, maps, snapshots, len(classes)), live("map", name, items_name)),
        features_table(maps, maps[0].knn is not None),
        element("p", f"No k-NN accuracy and no silhouette: {why}.", class_="small") if why else None,
        *map_notes(len(maps), f"tsne{ending}" in figures),
    ]  # fmt: skip


def features_table(maps: Sequence[EpochMap], labeled: bool) -> Html:
    """Table of the measures of the features at each stored epoch."""
    head = ["Epoch", f"k-NN accuracy (k = {maps[0].neighbors}), %", "Silhouette, -1 to 1", "Variance on the PCA map, %"]
    rows: list[list[Child]] = []
    for one in maps:
        knn = "none" if one.knn is None else percent(one.knn)
        silhouette = "none" if one.silhouette is None else f"{one.silhouette:.3f}"
        rows.append([str(one.epoch), *([knn, silhouette] if labeled else []), percent(one.explained)])
    return table(head if labeled else [head[0], head[-1]], rows, "Features in numbers", numeric=1)
