"""The labeled data of `pretrain.probe`, on which the k-NN accuracy of a pre-training is measured."""

from ...config.schema import NO_GROUPS, Data
from ...data.channels import Channels
from ...data.copies import copies_of, sentences
from ...data.image_cache import decode, subset
from ...data.label_arrays import are_sets
from ...data.sources.leakage import reject_leaks, source_without
from ...data.sources.open import open_source
from ...data.types import Decoded, Source
from ...errors import SightlineError
from ...inference.evaluation import as_trained
from ...runs.sampling import sample_rows
from ..contract import Say
from .config import PretrainConfig

BANKED = 5000
"""Maximum number of labeled images among which the nearest neighbors are searched (the k-NN bank)."""


def open_probe(config: PretrainConfig, say: Say) -> tuple[Source, Data]:
    """List the labeled data of `pretrain.probe`; returns (the listing, the data settings for reading it).

    Raises SightlineError if the data have no training labels.
    """
    data = evaluated_data(config)
    probe = open_source(data, data.split_seed)
    for note in probe.notes:
        say(f"    {note}")
    labels = probe.splits["train"].labels if "train" in probe.splits else None
    if labels is None or are_sets(labels):
        cure = "give images with one label each: --pretrain.probe PATH; or remove this option"
        what = f"the images of pretrain.probe have {'no' if labels is None else 'several'} labels"
        raise SightlineError(what, where=data.path, cure=cure)
    return reject_leaks(probe, data, say), data


def evaluated_data(config: PretrainConfig) -> Data:
    """The settings by which the evaluated images are read and grouped. For those of `pretrain.probe` they do not
    contain what describes the files of the training images, such as a pattern for their groups."""
    if not config.pretrain.probe:
        return config.data
    group = NO_GROUPS if config.data.group == NO_GROUPS else ""
    changes = {"path": config.pretrain.probe, "layout": "auto", "classes": (), "group": group, "leave_out": ()}
    return config.data.model_copy(update=changes)


def evaluated_source(config: PretrainConfig, source: Source) -> Source:
    """The data on whose split `val` the k-NN accuracy is measured: those of `pretrain.probe`, else `source`.

    Raises SightlineError if it cannot be measured, because these have no labels.
    """
    if config.pretrain.probe:
        return open_probe(config, lambda text: None)[0]
    if source.splits["train"].labels is None or "val" not in source.splits:
        why = "they are compared by k-NN accuracy, and these images have no labels for it"
        cure = "measure it on labeled images: --pretrain.probe LABELED"
        raise SightlineError("pre-trainings on these images cannot be compared", where=source.path, why=why, cure=cure)
    return source


def without_probe_images(config: PretrainConfig, source: Source, say: Say) -> Source:
    """The source without the training images that are copies of validation images of `pretrain.probe`, if
    `data.on_copies` is leave_out.

    Raises SightlineError for identical images if it is stop; otherwise, and for near copies, a warning is printed.
    """
    if not config.pretrain.probe:
        return source
    probe, _ = open_probe(config, lambda text: None)
    if any(items.shards is not None for each in (source, probe) for items in each.splits.values()):
        say("images in shards are not compared with the validation images of pretrain.probe: there may be copies")
        return source
    copies = copies_of(source, probe, config.augment.resize or config.data.size, config.data)
    mode, evaluated = config.data.on_copies, "validation or test images of pretrain.probe"
    if mode == "leave_out":
        return source_without(source, {*copies.identical, *copies.near}, say)
    identical, near = sentences(copies, "", evaluated, "the k-NN accuracy")
    if identical and mode == "stop":
        cure = "train without them: --data.on_copies leave_out; or to train anyway: --data.on_copies warn"
        raise SightlineError(
            "images of pretrain.probe are also training images", where=source.path, why=identical, cure=cure
        )
    for sentence in filter(None, (identical, near)):
        say(f"warning: {sentence}")
    return source


def probe_images(config: PretrainConfig, say: Say, channels: Channels) -> tuple[Decoded, Decoded]:
    """Decode the data of `pretrain.probe`; returns (the images to evaluate, the labeled images of the k-NN bank).
    channels: of the network."""
    say(f"k-NN accuracy is measured on {config.pretrain.probe}:")
    probe, data = open_probe(config, say)
    probe = as_trained(probe, channels, data.max_pixels, say)
    bank, val = (decode(probe, split, config.data.size, data, say) for split in ("train", "val"))
    return val, subset(bank, sample_rows(len(bank.names), BANKED, config.train.seed))
