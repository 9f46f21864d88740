"""Open the data of a multi-label run, hold out images for its thresholds, and build its parts."""

from dataclasses import replace

import numpy as np

from ...config.checks import check_loss_names
from ...config.schema import Data
from ...data.label_arrays import SEPARATOR, are_sets, strata
from ...data.sources.leakage import groups_of, held_out_share, reject_leaks, validation_mask
from ...data.sources.open import open_source
from ...data.sources.row_matching import table_hint
from ...data.types import Source
from ...engine.parts import Parts
from ...errors import SightlineError, counted, some_of
from ..contract import Say
from ..opening import shared
from ..whole_image.build import build_parts, check_settings
from .config import MultilabelConfig
from .losses import LOSSES
from .task import MultilabelLearner

THRESHOLDS = "thresholds"
"""Name of the split of training images on which the thresholds are chosen."""


def check(config: MultilabelConfig) -> None:
    """Raise SightlineError for settings that are invalid for any data."""
    check_settings(config)
    check_loss_names(config, LOSSES)
    own, keys = type(config.multilabel)(), ("positive_gamma", "negative_gamma", "margin")
    idle = [key for key in keys if getattr(config.multilabel, key) != getattr(own, key)]
    if idle and config.loss.name != "asymmetric":
        where = ", ".join(f"multilabel.{key}" for key in idle)
        raise SightlineError("only the asymmetric loss has these settings", where=where, cure="--loss.name asymmetric")


def build(config: MultilabelConfig, say: Say, precision: str, fresh: bool) -> Parts:
    """Build all parts of a multi-label run; arguments and errors as of `engine.parts.build`."""
    source = open_label_sets(config, say)
    return build_parts(MultilabelLearner, config, source, len(source.classes), say, precision, fresh)


@shared
def open_label_sets(config: MultilabelConfig, say: Say) -> Source:
    """List the files, label sets and splits of the data, with the split THRESHOLDS held out of the training images.

    Raises SightlineError if images have one label each, or no validation image has a label.
    """
    if not config.data.path:
        raise SightlineError("data.path is missing", cure="add --data PATH: a CSV with the labels of each image")
    source = open_source(config.data, config.data.split_seed)
    for note in source.notes:
        say(note)
    check_label_sets(source, config.data)
    source = reject_leaks(source, config.data, say)
    val = source.splits.get("val")
    if val and val.labels is not None and not val.labels.any():
        cure = "add validation images with labels; or remove the split val, so that training images are held out"
        raise SightlineError(
            "no validation image has a label, so nothing can be measured", where=source.path, cure=cure
        )
    for split, items in source.splits.items():
        if items.labels is not None and (bare := int((~items.labels.any(1)).sum())):
            say(f"{counted(bare, 'image')} of {split} without a label")
    return with_threshold_split(source, config.data, config.multilabel.threshold_fraction, say)


def check_label_sets(source: Source, data: Data) -> None:
    """Raise SightlineError unless the data have label sets, whose class names do not contain SEPARATOR."""
    train = source.splits.get("train") or next(iter(source.splits.values()))
    if are_sets(train.labels):
        if joined := [name for name in source.classes if SEPARATOR in name]:
            what = f"class names must not contain {SEPARATOR!r}: {some_of([repr(name) for name in joined])}"
            cure = f"rename these classes; or, if each is several labels: --data.separator {SEPARATOR!r}"
            why = f"tables of predictions have {SEPARATOR!r} between the labels of an image"
            raise SightlineError(what, where=source.path, why=why, cure=cure)
        return
    if train.labels is None:
        cure = table_hint(source.path, data)
        cure += "give a CSV with the columns filename and label, and labels such as cat;dog"
        raise SightlineError("the images have no labels", where=source.path, cure=cure)
    why, cure = f"the layout is {source.layout!r}", "use a recipe for one label per image, such as photos_finetune"
    if source.layout == "csv":
        why = "no label has a separator, as in cat;dog, and no image has several rows"
        cure += "; or give the separator of the labels, for example: --data.separator ' '"
    what = "every image has one label, and this recipe is for several"
    raise SightlineError(what, where=source.path, why=why, cure=cure)


def with_threshold_split(source: Source, data: Data, fraction: float, say: Say) -> Source:
    """Move a share of the training images to the split THRESHOLDS; groups and identical files stay together.

    Training images of shards are not moved; the thresholds are then 0.5.
    """
    train = source.splits["train"]
    if not fraction or train.shards is not None:
        say(f"thresholds: 0.5 for every class{'' if fraction == 0 else ', because the data are shards'}")
        return source
    assert train.labels is not None
    share, groups = held_out_share(data, fraction), groups_of(source.path, train, data)
    mask, _ = validation_mask(source.path, train, strata(train.labels), groups, share, data.split_seed + 1)
    if not mask.any():
        say("thresholds: 0.5 for every class, because there are too few training images to hold some out")
        return source
    parts = {"train": train.subset(np.flatnonzero(~mask)), THRESHOLDS: train.subset(np.flatnonzero(mask))}
    say(f"thresholds: chosen on {counted(int(mask.sum()), 'training image')} that are held out from training")
    return replace(source, splits=parts | {name: items for name, items in source.splits.items() if name != "train"})
