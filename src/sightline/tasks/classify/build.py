"""Open the data of a classification run, and build its parts."""

import numpy as np

from ...config.checks import check_loss_names
from ...config.schema import Config
from ...data.label_arrays import are_sets, label_texts
from ...data.sources.leakage import reject_leaks
from ...data.sources.open import open_source
from ...data.sources.pair_layouts import holds_pairs
from ...data.sources.pairs import labeled_by_folders
from ...data.sources.row_matching import table_hint
from ...data.types import Source
from ...engine.parts import Parts
from ...errors import SightlineError, some_of
from ..contract import Say
from ..opening import shared
from ..whole_image.build import build_parts, check_settings
from .config import ClassifyConfig
from .losses import LOSSES
from .task import ClassifyLearner


def check(config: Config) -> None:
    """Raise SightlineError for settings that are invalid for any data."""
    check_settings(config)
    check_loss_names(config, LOSSES)


def build(config: ClassifyConfig, say: Say, precision: str, fresh: bool) -> Parts:
    """Build all parts of a classification run; arguments and errors as of `engine.parts.build`."""
    source = open_labeled(config, say)
    return build_parts(ClassifyLearner, config, source, len(source.classes), say, precision, fresh)


@shared
def open_labeled(config: Config, say: Say) -> Source:
    """List the files, labels and splits of the data; raise SightlineError if the training split has no labels."""
    if not config.data.path:
        raise SightlineError(
            "the option --data is missing", cure="give a folder of images, a CSV file, or sklearn:digits: --data PATH"
        )
    try:
        source = open_source(config.data, config.data.split_seed)
    except SightlineError:
        reject_pairs(config)
        raise
    if not labeled_by_folders(source):
        reject_pairs(config)
    for note in source.notes:
        say(note)
    if any(are_sets(items.labels) for items in source.splits.values()):
        several = [
            f"{items.names[row]} has {label_texts(items.labels[row : row + 1], source.classes)[0]!r}"
            for items in source.splits.values()
            if are_sets(items.labels)
            for row in np.flatnonzero(items.labels.sum(1) > 1)[:3]
        ]
        why = f"{config.name} is for one label per image; {some_of(several[:3]) or 'some images have no label'}"
        cure = "use the recipe multilabel_finetune or multilabel_scratch"
        if source.layout == "csv":
            cure += "; or, if the text in each cell is the name of one class: --data.labels one"
        raise SightlineError("the data have label sets", where=source.path, why=why, cure=cure)
    source = reject_leaks(source, config.data, say)
    if "train" not in source.splits or source.splits["train"].labels is None:
        why = f"the images have no labels in the layout {source.layout!r}"
        cure = table_hint(source.path, config.data)
        cure += (
            "move the images into one folder for each class; or give a table with labels: --data FILE.csv; or read the "
            "labels from the file names: --data.layout filename --data.pattern '{id}_{label}'"
        )
        raise SightlineError("classification needs labels", where=source.path, why=why, cure=cure)
    return source


def reject_pairs(config: Config) -> None:
    """Raise SightlineError if the data consist of images with masks, which a classifier cannot use."""
    if config.data.layout == "auto" and holds_pairs(config.data.path):
        why = f"the images have masks, for segmentation, but the recipe {config.name} trains a classifier"
        cure = "use a recipe for segmentation, such as landcover_finetune; to list all: sightline recipes"
        raise SightlineError("the data are pairs of images and masks", where=config.data.path, why=why, cure=cure)
