"""Build the parts of a segmentation run: pairs of images and masks, palette, model, learner, precision."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ...config.checks import check_effects, check_loss_names
from ...config.schema import Config, Data
from ...data.augment.batch import check_augment, check_colors, normalize
from ...data.augment.geometry import scaled
from ...data.augment.statistics import channel_statistics
from ...data.augment.windows import Anchors, check_window, find_anchors, pair_augmentation
from ...data.channels import RGB, Channels
from ...data.decode.decoding import FEW
from ...data.decode.palettes import Palette, to_dict
from ...data.pair_cache import decode_all, decode_pairs
from ...data.shards.stream import reject_remote_stream, sampled, stream_pairs
from ...data.sources.leakage import reject_leaks
from ...data.sources.pairs import open_pairs
from ...data.types import Decoded, Source
from ...doctor.quick import quick_line
from ...engine.device import pick_device, pick_precision, use_threads
from ...engine.optim import check_optimizer
from ...engine.parts import (
    Parts,
    TraceSpec,
    channel_entry,
    describe_data,
    normalization,
    stream_line,
    training_flops,
    weights_of_classes,
)
from ...errors import SightlineError
from ...models import PartialForward, forward_flops, parameter_count
from ...models.encoder_weights import load_encoder
from ...models.folding import fold_norms
from ...models.segmentation.colors import PixelClassifier
from ...models.segmenters import Segmenter, build_segmenter, freeze_encoder, padded
from ...runs.sampling import rows_by_name, sample_rows
from ..contract import Say
from ..opening import shared
from ..whole_image.cost import measured
from .config import SegmentConfig
from .losses import LOSSES
from .task import SegmentLearner

STRIPS = 24
"""Maximum number of validation images whose predicted masks are stored after each epoch, for the report."""

STATISTICS_IMAGES = 256
"""Number of streamed training images from which the channel statistics are computed."""


def check(config: SegmentConfig) -> None:
    """Raise SightlineError for invalid augmentation, training windows or losses, before any data are read."""
    check_augment(config.augment, config.data.size)
    check_loss_names(config, LOSSES)
    check_optimizer(config.optim)
    check_effects(config)
    check_window(config.augment)


def open_source(config: SegmentConfig, say: Say) -> Source:
    """List the pairs of images and masks and their splits."""
    return open_masked(config, say)[0]


def build(config: SegmentConfig, say: Say, precision: str = "", fresh: bool = True) -> Parts:
    """Build all parts of a segmentation run.

    say: is called with each line to print. precision: "fp32", "bf16", "fp16", or "" for that of the recipe. fresh:
    whether to load the weights in `model.weights`; False for a run that is resumed. Raises SightlineError for invalid
    settings and data.
    """
    use_threads(config.train.threads)
    device = pick_device(config.train.device)
    if config.data.size != Data().size:  # recipes of earlier versions set it, so it is not an error
        say("note: data.size has no effect on segmentation; augment.window is the size of training images")
    source, palette = open_masked(config, say)
    rows = sampled_rows(config, source)
    torch.manual_seed(config.train.seed)
    names = source.channels.names
    model = build_segmenter(config.model.name, len(palette.classes), dict(config.model.args), len(names))
    loaded = None
    if fresh and config.model.weights != "none":
        loaded = load_encoder(model, config.model.weights, palette.classes, names, say, config.model.fresh_head)
        say(str(loaded))
    train, val = training_pairs(config, source, palette, say)
    say(quick_line(config.data, {"train": train, "val": val}))
    if fresh and isinstance(model.network, PixelClassifier):
        model.network.begin_with(torch.from_numpy(train.counts.sum(0)))
    window = tuple(config.augment.window) or one_size(train)
    if note := enlargement_note(train, (window[0], window[1])):
        say(note)
    mean, std = normalization(config, train, say)
    if config.augment.normalize == "dataset" and train.channels.plain and not config.augment.mean:
        mean, std = channel_statistics_of(train)
    flops = {config.data.size: step_flops(config, model, (window[0], window[1]))}
    facts = {
        "parameters": parameter_count(model),
        "train_flops": training_flops(config, flops, len(train.names), config.train.epochs),
        "weights": loaded.as_dict() if loaded else None,
        "data": describe_data(source, train, val),
        "pixels": {"train": train.counts.sum(0).tolist(), "val": val.counts.sum(0).tolist()},
    }
    if config.model.freeze:
        freeze_encoder(model)
    model.to(device).to(memory_format=torch.channels_last)
    fold_norms(model, (len(names), *window), Segmenter.outputs)
    kept = np.zeros(len(val.names), bool)
    kept[rows] = True
    learner = SegmentLearner(
        config=config,
        model=model,
        classes=len(palette.classes),
        augment=pair_augmentation(config.augment, mean, std, train.channels),
        normalize=normalizer(mean, std, train.channels),
        sizes=torch.from_numpy(train.sizes).to(device),
        anchors=anchors_of(config, train, device),
        class_weights=weights_of_classes(config, train.counts.sum(0), device),
        forward=torch.compile(model.outputs, dynamic=False) if config.train.compile else None,
        kept=kept if len(rows) else None,
        padded_size=val.images.shape[2:],
    )
    description = describe_segmenter(config, palette, train, mean, std)
    shape = (config.train.batch_size, len(names), *window)
    trace_spec = TraceSpec((len(train.channels), window[0], window[1]), lambda net, images: net.outputs(images))
    dtype = pick_precision(precision or config.train.precision, device, model, shape, trace_spec.run)
    return Parts(
        *(device, dtype, source, train, val, model, learner, description, rows, (mean, std), flops, facts),
        trace_spec=trace_spec,
    )


def seconds_per_image(config: SegmentConfig, source: Source) -> tuple[float, float]:
    """Seconds of the forward pass for an image of the size of the first validation image, and of a training step for
    an `augment.window`."""
    width, height = source.splits["val"].read(0, 0).size
    window, channels = tuple(config.augment.window) or (height, width), len(source.channels)

    def build() -> Any:
        model = build_segmenter(config.model.name, max(2, len(source.classes)), dict(config.model.args), channels)
        if config.model.freeze:
            freeze_encoder(model)
        return model

    forward, step = measured(config, build, (4, channels, *window))
    return forward * height * width / (window[0] * window[1]), step


@shared
def open_masked(config: Config, say: Say) -> tuple[Source, Palette]:
    """(the pairs of images and masks by split, the palette of the masks), without decoding images."""
    if not config.data.path:
        raise SightlineError(
            "the option --data is missing", cure="give the folder of the images and their masks: --data PATH"
        )
    source, palette = open_pairs(config.data, config.data.split_seed)
    for note in source.notes:
        say(note)
    return reject_leaks(source, config.data, say), palette


def training_pairs(config: Config, source: Source, palette: Palette, say: Say) -> tuple[Decoded, Decoded]:
    """(the training split, the validation split) with decoded images and masks, stored in the cache.

    If the training pairs are in shards, they are streamed from there during training instead.
    """
    check_colors(config.augment, source.channels)
    if source.splits["train"].shards is None:
        return decode_all(source, palette, config.data, say)
    train = stream_pairs(source, "train", palette, config.data)
    say(stream_line(train))
    return train, decode_pairs(source, "val", palette, config.data, say)


def sampled_rows(config: Config, source: Source) -> np.ndarray:
    """Sorted indices of the validation images whose predicted masks are stored after each epoch."""
    wanted, names = config.report.samples, source.splits["val"].names
    if isinstance(wanted, int):
        return sample_rows(len(names), min(wanted, STRIPS), config.train.seed)
    if len(wanted) > STRIPS:
        cure = f"list at most {STRIPS} images in --report.samples"
        raise SightlineError(f"report.samples lists {len(wanted)} images, more than a figure can show", cure=cure)
    return np.sort(rows_by_name(names, wanted, source.splits["train"].names))


def one_size(train: Decoded) -> tuple[int, int]:
    """(height, width) of all training images.

    Raises SightlineError if their sizes differ, because all images of a batch need the same size.
    """
    if (train.sizes != train.sizes[0]).any():
        low, high = train.sizes.min(0), train.sizes.max(0)
        why = f"the sizes of the training images are {low[1]} x {low[0]} to {high[1]} x {high[0]} pixels"
        cure = "train on windows of one size: --augment.window '[256,256]'"
        raise SightlineError(
            "the training images have different sizes and cannot be combined into batches", why=why, cure=cure
        )
    return int(train.sizes[0, 0]), int(train.sizes[0, 1])


def enlargement_note(train: Decoded, window: tuple[int, int]) -> str:
    """A sentence on the training images that are smaller than the window (height, width); "" if there are none."""
    rows = np.flatnonzero((train.sizes < window).any(1))
    if not len(rows):
        return ""
    few = rows[np.argsort(train.sizes[rows].min(1), kind="stable")][:FEW]
    some = ", ".join(f"{train.names[row]} ({train.sizes[row][1]} x {train.sizes[row][0]})" for row in few)
    what = f"{len(rows):,} of {len(train.names):,} training images are smaller than augment.window"
    some += ", ..." * (len(rows) > len(few))
    least = train.sizes[rows].min(0).tolist()
    cure = f"to train at the scale of the evaluation: --augment.window '{least}'"
    return f"{what}, {window[1]} x {window[0]}, and are enlarged to it: {some}; {cure}"


def anchors_of(config: Config, train: Decoded, device: torch.device) -> Anchors | None:
    """Positions of pixels of each class, around which `augment.rare_crops` places windows; None without that
    setting."""
    if not config.augment.rare_crops:
        return None
    cure = "use --augment.rare_crops 0, or copy the shards to this machine"
    reject_remote_stream(train, "windows around rare classes", "augment.rare_crops", cure)
    assert train.masks is not None
    found = find_anchors(train.masks, train.sizes, len(train.classes), config.train.seed)
    return Anchors(found.points.to(device), found.chances.to(device))


def channel_statistics_of(train: Decoded) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, standard deviation) of each channel of the training images, without their padding.

    If the images are streamed, only STATISTICS_IMAGES of them are used.
    """
    images, sizes = train.images, train.sizes
    if train.stream is not None:
        rows = sampled(train, STATISTICS_IMAGES, 0)
        images, sizes = images[rows], sizes[rows]
    if (sizes == images.shape[2:]).all():
        return channel_statistics(images)
    pixels = [image[:, :h, :w].reshape(len(image), -1) for image, (h, w) in zip(images, sizes, strict=True)]
    return channel_statistics(np.concatenate(pixels, 1)[None, :, None])


def step_flops(config: Config, model: Segmenter, window: tuple[int, int]) -> float:
    """Floating-point operations of one training step per window (height, width), including an auxiliary head.

    The forward pass takes 2 x multiply-adds; forward and backward pass together take 3 times as many. A frozen encoder
    has no backward pass.
    """
    forward = forward_flops(PartialForward(model, model.outputs), window, model.channels)
    if config.model.freeze:
        encoder = PartialForward(model, lambda images: model.encoder(padded(images, model.stride, model.smallest)))
        return 3 * forward - 2 * forward_flops(encoder, window, model.channels)
    return 3 * forward


def normalizer(
    mean: tuple[float, ...], std: tuple[float, ...], channels: Channels = RGB
) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function that normalizes images [N, C, H, W] as in the cache to float32 of the same shape, in channels_last
    order."""

    def transform(images: torch.Tensor) -> torch.Tensor:
        return normalize(scaled(images, channels), mean, std).contiguous(memory_format=torch.channels_last)

    return transform


def describe_segmenter(
    config: Config, palette: Palette, train: Decoded, mean: tuple[float, ...], std: tuple[float, ...]
) -> dict[str, Any]:
    """The content of a checkpoint's config.json: what is needed to use the weights without the other files of the
    run."""
    return {
        "format": 1,
        "task": config.task,
        "model": {"name": config.model.name, "args": config.model.args},
        "classes": list(palette.classes),
        "preprocessing": {"mean": list(mean), "std": list(std), **channel_entry(train)},
        "palette": to_dict(palette),
    }
