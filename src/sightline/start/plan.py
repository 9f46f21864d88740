"""How the steps of `sightline start` fit into the time: image sides, epochs, and what is left out."""

import contextlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from ..config.checks import FITTED
from ..config.paths import absolute_or_name
from ..config.resolve import field_type, resolve, unknown_key
from ..config.schema import Config
from ..data.types import Items, Source
from ..errors import SightlineError
from ..models import build_backbone
from ..models.library import patch_side
from ..recipes.ladders import LADDERS, LadderStep
from ..repeat.several import weights_digest
from ..runs.sampling import evenly_spread
from ..tasks import TASKS, task_learning_from

OVERHEAD = 10.0
"""Seconds of a run besides its network (start, evaluation, report), before a run has shown how many it takes."""
FEWEST_STEPS, SMALLEST_BATCH = 8, 8
"""With 20 to 50 training images of 4 and 10 classes, fine-tuning by two or three large steps an epoch loses 3 points of
what the fitted head had; batches of 8 and a lower learning rate lose none, see LOG.md."""
ONLY = {"train.best_metric": "epoch", "train.patience": 0}
"""Settings of all steps, with which the validation images choose nothing."""
OF_HEADS = ("optim.weight_decay", "optim.decay_choices")
"""Settings of `optim` that heads have which are computed instead of trained."""
READ_IMAGES = 12
"""Number of images that are read to estimate how long decoding takes."""


@dataclass(frozen=True)
class Fit:
    """A step that fits into the time. seconds: the estimate. network: the part of it that is not the overhead."""

    config: Config
    seconds: float
    network: float


def require_settings(settings: Mapping[str, Any]) -> None:
    """Raise SightlineError for a setting that no task of a ladder has, or that would choose an epoch by the validation
    images, before weights are looked up and data opened."""
    for key, value in ONLY.items():
        if str(settings.get(key, value)) != str(value):
            why = "the steps are compared on the validation images, so nothing is chosen by them"
            cure = f"leave it out; or train one recipe: sightline train photos_finetune --{key} {settings[key]}"
            raise SightlineError(
                f"{key} {settings[key]} is not possible in a start", where=f"--{key}", why=why, cure=cure
            )
    kinds = [type(task_learning_from(kind).config()) for kind in LADDERS]
    for key in settings:
        if not key.startswith("model.args.") and all(field_type(key, kind) is None for kind in kinds):
            raise unknown_key(key, "the command line", kinds[0])


def ladder(kind: str, source: Source, weights: str, model: str, settings: dict[str, Any]) -> list[LadderStep]:
    """The steps for the data, with the settings of all steps and the pre-trained network that is wanted."""
    chosen = {}
    if weights != "none":  # else these steps are not trained, and the recipes are not valid without weights
        chosen |= {"model.weights": absolute_or_name(weights)} if weights else {}
        encoder = kind == "masks" and model.startswith("timm/")
        chosen |= {"model.name": model.replace("timm/", "light/", 1) if encoder else model} if model else {}
    steps = LADDERS[kind](median_side(source))
    found = [with_start_settings(step, settings | (chosen if step.pretrained else {})) for step in steps]
    return with_whole_patches(found) if weights != "none" else found


def with_whole_patches(steps: list[LadderStep]) -> list[LadderStep]:
    """The steps with image sides that the patches of the pre-trained network divide: 154 instead of 160 for patches of
    14 pixels. A network that cannot be built is left to the first step."""
    first = next((step for step in steps if step.sides), None)
    if first is None:
        return steps
    model, patch = first.config.model, 1
    with contextlib.suppress(SightlineError), torch.random.fork_rng(devices=[]), torch.device("meta"):
        patch = patch_side(build_backbone(model.name, max(first.sides), dict(model.args))[0])
    whole = tuple(side // patch * patch for side in first.sides if side >= patch)
    return [replace(step, sides=whole) if step.sides else step for step in steps]


def median_side(source: Source) -> int:
    """The median of height and width of some training images, in pixels."""
    return int(np.median([side for image in some_images(source.splits["train"], 24) for side in image.size]))


class TooLong(Exception):
    """A step does not fit into the remaining time. seconds: what it would take at least; without `timed`, what a run
    takes besides its network. share: the share of the remaining time that it may take."""

    def __init__(self, seconds: float, share: float = 1.0, timed: bool = True):
        super().__init__(seconds)
        self.seconds, self.share, self.timed = seconds, share, timed

    @property
    def needed(self) -> float:
        """The remaining seconds with which it would fit."""
        return self.seconds / self.share


@dataclass(frozen=True)
class Sizes:
    """Numbers of images of a data set, the seconds in which one is decoded, and by their names in start.json digests of
    the `data` (names, labels and sizes of files) and of the file of the `weights`."""

    train: int
    val: int
    decoding: float
    digests: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, source: Source, weights: str = "") -> "Sizes":
        train, start = source.splits["train"], time.monotonic()
        read = len(some_images(train, READ_IMAGES))
        seconds = (time.monotonic() - start) / read
        digests = {"data": source.listing_digest, "weights": weights_digest(weights)}
        return cls(len(train.names), len(source.splits["val"].names), seconds, digests)


def some_images(items: Items, count: int) -> list[Any]:
    """Up to `count` decoded images, spread over a split. Those that cannot be read are left out, which is up to the
    steps (`data.on_bad_image`); raises the SightlineError of the last one if none can be."""
    rows, found = evenly_spread(len(items.names), count).tolist(), []
    for row in rows:
        try:
            found.append(items.read(row, 0))
        except SightlineError:
            if row == rows[-1] and not found:
                raise
    return found


def fitted(step: LadderStep, source: Source, sizes: Sizes, left: float, overhead: float, side: int = 0) -> Fit:
    """Choose image side and epochs of a step for the remaining time. left, overhead: in seconds. side: that of earlier
    pre-trained steps, whose images and features are in the cache; larger ones are not tried.

    The first side is timed. Others are taken to cost as their numbers of pixels say, and are timed if they fit then.
    Raises TooLong if not even the smallest side and the fewest epochs fit; nothing is timed if less than the overhead
    is left.
    """
    if left < overhead:
        raise TooLong(overhead, timed=False)
    sides = [each for each in step.sides if each <= side or not side] or [step.config.data.size]
    measured: dict[int, tuple[float, float]] = {}

    def cost_of(each: int, exact: bool) -> tuple[float, float]:
        if exact or not measured:
            measured[each] = measured.get(each) or costs(sized(step, each), source, sizes, each == side)
        known = min(measured, key=lambda other: abs(other - each))
        once, epoch = measured[known]
        return once * (each / known) ** 2, epoch * (each / known) ** 2

    for share in step.shares:
        for each in sides:
            if not fit_of_side(step, each, share * left, overhead, cost_of(each, False)):
                continue
            if fit := fit_of_side(step, each, share * left, overhead, cost_of(each, True)):
                return fit
    fewest = min(step.epochs or 0, step.config.train.epochs)
    smallest = min(once + fewest * epoch for once, epoch in (cost_of(each, False) for each in sides))
    raise TooLong(overhead + smallest, step.shares[-1])


def fit_of_side(step: LadderStep, side: int, left: float, overhead: float, cost: tuple[float, float]) -> Fit | None:
    """The step with images of `side` pixels and as many epochs as fit into `left` seconds; None if too few fit. cost:
    as returned by `costs`."""
    config, (once, epoch) = sized(step, side), cost
    rest = left - overhead - once
    if step.epochs is None:
        return Fit(config, overhead + once, once) if rest >= 0 else None
    fewest, epochs = min(step.epochs, config.train.epochs), int(rest / epoch) if epoch and rest > 0 else 0
    epochs = min(config.train.epochs, epochs)
    if not fewest or epochs < fewest:
        return None
    network = once + epochs * epoch
    return Fit(resolve(config, {"train.epochs": epochs}), overhead + network, network)


def sized(step: LadderStep, side: int) -> Config:
    """The recipe of a step for images of `side` pixels; the sides of images for training and for random crops change by
    the same factor."""
    factor, augment = side / step.config.data.size, step.config.augment
    progressive = tuple((round(factor * each), until) for each, until in augment.progressive)
    changed = {"augment.resize": round(factor * augment.resize), "augment.progressive": progressive}
    return resolve(step.config, {"data.size": side} | changed)


def for_few_images(step: LadderStep, images: int) -> LadderStep:
    """A step of fine-tuning with smaller batches, if `images` training images would give fewer than FEWEST_STEPS steps
    an epoch, and with a learning rate in proportion to their square root."""
    size = step.config.train.batch_size
    fewer = max(SMALLEST_BATCH, 2 ** int(math.log2(max(1, images / FEWEST_STEPS))))
    if not step.pretrained or step.epochs is None or fewer >= size:
        return step
    changed = {"train.batch_size": fewer, "optim.lr": step.config.optim.lr * math.sqrt(fewer / size)}
    return replace(step, config=resolve(step.config, changed))


def costs(config: Config, source: Source, sizes: Sizes, cached: bool) -> tuple[float, float]:
    """Estimated seconds of a run without its epochs, and of an epoch. cached: whether images and features are in the
    cache."""
    measure = TASKS[config.task].seconds_per_image
    assert measure is not None, f"{config.task} has a ladder, but no seconds_per_image"
    forward, step = measure(config, source)
    every = sizes.train + sizes.val
    once = sizes.val * forward
    if not cached:
        fits = config.optim.name in FITTED or config.model.fit_head
        once += every * (sizes.decoding + (forward if fits else 0.0))
    return once, 0.0 if config.optim.name in FITTED else sizes.train * step + sizes.val * forward


def with_start_settings(step: LadderStep, settings: dict[str, object]) -> LadderStep:
    """The step with settings that hold for all steps: nothing is chosen on the validation images, and baselines, which
    are steps, are not computed again. Those of an optimizer are left out where the head is computed."""
    common = {**ONLY, "report.baselines": False}
    if step.config.optim.name in FITTED:
        settings = {key: value for key, value in settings.items() if not key.startswith("optim.") or key in OF_HEADS}
    return replace(step, config=resolve(step.config, {"name": step.name} | common | settings))
