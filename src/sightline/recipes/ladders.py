"""The steps of `sightline start`: recipes from baselines to training from scratch, cheapest first."""

from collections.abc import Callable
from dataclasses import dataclass

from ..config.schema import Config, Optim
from .classify import objects_fast
from .multilabel import multilabel_finetune, multilabel_knn, multilabel_probe, multilabel_scratch
from .photos import photos_finetune, photos_knn, photos_probe, photos_scratch

SIDES = (224, 160, 128, 96, 64)
"""Sides in pixels of the images of the pre-trained steps: the largest one that fits into the time is used."""
SMALL = 48
"""Photographs whose median side is at most this are trained from scratch by `objects_fast`, at 32 pixels."""


@dataclass(frozen=True)
class LadderStep:
    """A step of a ladder.

    name: of the run's folder. title: of the step in sentences. pretrained: whether it needs pre-trained weights. sides:
    image sides to choose from, () for that of the recipe. epochs: the fewest epochs that are worth a run; None for a
    step that does not depend on them.
    """

    name: str
    title: str
    config: Config
    pretrained: bool = False
    sides: tuple[int, ...] = ()
    epochs: int | None = None


def constant(config: Config) -> Config:
    """The recipe of `config` for a network that gives every image the frequencies of the classes."""
    return on_pixels(config).replace(
        model=config.model.replace(name="constant", args={}, weights="none", head="linear"), optim=Optim(name="lbfgs")
    )


def on_pixels(config: Config) -> Config:
    """The recipe of `config`, a k-NN on frozen features, for raw pixels instead."""
    return config.replace(
        data=config.data.replace(size=32, filter="bilinear"),
        model=config.model.replace(name="pixels", args={}, weights="none"),
        augment=config.augment.replace(normalize="dataset"),
    )


def images(knn: Config, probe: Config, tuned: Config, scratch: Config) -> tuple[LadderStep, ...]:
    """The ladder of tasks that predict classes of whole images, from their recipes."""
    return (
        LadderStep("most-frequent", "the frequencies of the classes", constant(knn)),
        LadderStep("knn-pixels", "k-NN on raw pixels", on_pixels(knn)),
        LadderStep("knn", "k-NN on frozen features", knn, pretrained=True, sides=SIDES),
        LadderStep("probe", "logistic regression on frozen features", probe, pretrained=True, sides=SIDES),
        LadderStep("finetune", "fine-tuning", tuned, pretrained=True, sides=SIDES, epochs=3),
        LadderStep("scratch", "training from scratch", scratch, epochs=8),
    )


def of_labels(side: int) -> tuple[LadderStep, ...]:
    """The ladder of photographs with one label each. side: median of their height and width in pixels."""
    return images(
        photos_knn(), photos_probe(), photos_finetune(), objects_fast() if side <= SMALL else photos_scratch()
    )


def of_label_sets(side: int) -> tuple[LadderStep, ...]:
    """The ladder of photographs with any number of labels."""
    return images(multilabel_knn(), multilabel_probe(), multilabel_finetune(), multilabel_scratch())


FIRST = ("probe", "scratch")
"""The step whose recipe `sightline train` takes if none is named, with pre-trained weights and without."""

LADDERS: dict[str, Callable[[int], tuple[LadderStep, ...]]] = {"labels": of_labels, "label sets": of_label_sets}
"""What a task learns from (`tasks.contract.Task.learns_from`) -> its ladder."""
