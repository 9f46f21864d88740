"""Likely wrong labels: confident learning (Northcutt et al., arXiv 1911.00068) on a run's validation predictions.

By cleanlab, which is Apache-2.0 from 2.9 on; it comes with the extra `doctor`.
"""

import csv
import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from ..config.files import load_recipe_file
from ..config.schema import Config
from ..data.sources.open import open_source
from ..errors import ENVIRONMENT, SightlineError
from ..runs import run_folder
from ..runs.csv_io import RUN_COLUMNS, classes_of
from .findings import Finding, Group


def label_checks(folder: Path) -> tuple[list[Finding], tuple[str, ...], int, Config]:
    """(findings, classes, images, recipe) of a run's predictions/val.csv."""
    config = load_recipe_file(run_folder.existing(folder) / "recipe.yaml")
    if config.task != "classify":
        cure = "give the run of a classifier, or the data themselves: sightline doctor DATA"
        raise SightlineError(f"labels are checked of a classifier, and this run is of {config.task}", cure=cure)
    names, labels, classes, probabilities = read_probabilities(folder / "predictions" / "val.csv")
    rows = likely_wrong(labels, probabilities)
    if not len(rows):
        return [], classes, len(names), config
    groups = []
    for row in rows:
        said = int(probabilities[row].argmax())
        sure, own = probabilities[row, said], probabilities[row, labels[row]]
        note = f"labeled {classes[labels[row]]} ({own:.0%}), looks like {classes[said]} ({sure:.0%})"
        groups.append(Group((names[row],), note))
    what = f"{len(rows):,} of {len(names):,} validation labels are likely wrong"
    why = "the model never saw these images and is surer of another class than it usually is where that class is right"
    cure = "look at them; move a picture to the class that it shows, or correct its row, and train again"
    return [Finding("wrong_label", "warning", what, why, cure, tuple(groups))], classes, len(names), config


def likely_wrong(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Rows whose label is likely wrong, the worst first. labels: int64 [N]. probabilities: float64 [N, K], of images
    that were not trained on."""
    if importlib.util.find_spec("cleanlab") is None:
        cure = "pip install 'sightline-vision[doctor]'"
        raise SightlineError("checking labels needs cleanlab", cure=cure, status=ENVIRONMENT)
    from cleanlab.filter import find_label_issues

    with warnings.catch_warnings():  # of classes of few images it says that it may miss some, which docs/doctor.md says
        warnings.simplefilter("ignore", UserWarning)
        ranked = find_label_issues(labels, probabilities, return_indices_ranked_by="normalized_margin", n_jobs=1)
    return np.asarray(ranked, np.int64)


def read_probabilities(path: Path) -> tuple[list[str], np.ndarray, tuple[str, ...], np.ndarray]:
    """(names, true labels int64 [N], classes, probabilities float64 [N, K]) of a predictions CSV."""
    cure = "sightline evaluate RUN writes it"
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            header, *rows = csv.reader(file)
        if tuple(header[: len(RUN_COLUMNS)]) != RUN_COLUMNS or not rows:
            raise ValueError(f"it does not begin with the columns {', '.join(RUN_COLUMNS)} and a row")
        classes = classes_of(header[len(RUN_COLUMNS) :])
        place = {name: index for index, name in enumerate(classes)}
        labels = np.array([place[row[2]] for row in rows], np.int64)
        probabilities = np.array([row[len(RUN_COLUMNS) :] for row in rows], np.float64)
    except (OSError, ValueError, LookupError, csv.Error) as error:
        why = f"no class is called {error}" if isinstance(error, KeyError) else str(error)
        raise SightlineError("there are no usable predictions", where=str(path), why=why, cure=cure) from error
    return [row[0] for row in rows], labels, classes, probabilities


def pictures_of(config: Config) -> Callable[[str], Image.Image]:
    """What opens a validation image by its name; it raises SightlineError where the data are no longer there."""
    source = open_source(config.data, config.data.split_seed)
    places = {name: (items, index) for items in source.splits.values() for index, name in enumerate(items.names)}

    def read(name: str) -> Image.Image:
        if name not in places:
            raise SightlineError("it is no longer in the data", where=name)
        items, index = places[name]
        return items.read(index, 128)

    return read
