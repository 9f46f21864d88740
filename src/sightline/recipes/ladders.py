"""The steps of `sightline start`: recipes from baselines to training from scratch, cheapest first."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..config.schema import Config, Data, Optim
from .classify import objects_fast
from .masks import landcover_colors, landcover_constant, landcover_finetune, landcover_frozen
from .multilabel import multilabel_finetune, multilabel_knn, multilabel_probe, multilabel_scratch
from .photos import photos_finetune, photos_knn, photos_probe, photos_scratch
from .segment import landcover_scratch

SIDES = (224, 160, 128, 96, 64)
"""Sides in pixels of the images of the pre-trained steps: the largest one that fits into the time is used."""
SMALLER = ((0.75, 0.65),)
"""Sides of the training images of the fine-tuning, as shares of that of the evaluation, each until a share of the
epochs. Random crops enlarge what they show, so that smaller images suit the training, and take half the time (arXiv
1906.06423). The last epochs, at least one of three, have the full side; without them the probabilities are too low, see
LOG.md."""
SMALL = 48
"""Photographs whose median side is at most this are trained from scratch by `objects_fast`, at 32 pixels."""


@dataclass(frozen=True)
class LadderStep:
    """A step of a ladder.

    name: of the run's folder. title: of the step in sentences. pretrained: whether it needs pre-trained weights. sides:
    image sides to choose from, () for that of the recipe. epochs: the fewest epochs that are worth a run; None for a
    step that does not depend on them. shares: the share of the remaining time that it may take; a later one is used if
    it does not fit into the one before. begins_with: the name of the step with whose weights this one begins, if that
    one is trained.
    """

    name: str
    title: str
    config: Config
    pretrained: bool = False
    sides: tuple[int, ...] = ()
    epochs: int | None = None
    shares: tuple[float, ...] = (1.0,)
    begins_with: str = ""


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
        LadderStep("knn", "k-NN on frozen features", knn, pretrained=True, sides=SIDES, shares=(0.3, 1.0)),
        LadderStep(
            "probe", "logistic regression on frozen features", probe, pretrained=True, sides=SIDES, shares=(0.3, 1.0)
        ),
        LadderStep("finetune", "fine-tuning", tuned, pretrained=True, sides=SIDES, epochs=3, shares=(0.65, 1.0)),
        LadderStep("scratch", "training from scratch", scratch, epochs=8),
    )


def of_labels(side: int) -> tuple[LadderStep, ...]:
    """The ladder of photographs with one label each. side: median of their height and width in pixels."""
    tuned = photos_finetune()
    smaller = tuned.augment.replace(progressive=tuple((round(share * tuned.data.size), end) for share, end in SMALLER))
    scratch = objects_fast() if side <= SMALL else photos_scratch()
    return images(photos_knn(), photos_probe(), tuned.replace(augment=smaller), scratch)


def of_label_sets(side: int) -> tuple[LadderStep, ...]:
    """The ladder of photographs with any number of labels."""
    return images(multilabel_knn(), multilabel_probe(), multilabel_finetune(), multilabel_scratch())


FIRST = ("probe", "frozen"), "scratch"
"""The steps whose recipe `sightline train` takes if none is named, with pre-trained weights and without."""


def of_masks(side: int) -> tuple[LadderStep, ...]:
    """The ladder of images with masks. The palette is that of the data's settings, not of the recipes."""
    steps = (
        LadderStep("most-frequent", "the most frequent class", landcover_constant()),
        LadderStep("colors", "logistic regression on colors", landcover_colors(), epochs=1, shares=(0.2,)),
        LadderStep("frozen", "a light decoder on a frozen encoder", landcover_frozen(), True, (), 4, (0.4, 1.0)),
        LadderStep("finetune", "fine-tuning", landcover_finetune(), True, (), 4, (0.65, 1.0), "frozen"),
        LadderStep("scratch", "training from scratch", landcover_scratch(), epochs=20),
    )
    return tuple(replace(step, config=step.config.replace(data=Data())) for step in steps)


LADDERS: dict[str, Callable[[int], tuple[LadderStep, ...]]] = {
    "labels": of_labels,
    "label sets": of_label_sets,
    "masks": of_masks,
}
"""What a task learns from (`tasks.contract.Task.learns_from`) -> its ladder."""
