"""Training images of a transfer grid that are copies of the target's validation or test images, by their pixels."""

from collections.abc import Callable
from pathlib import Path

from ..config.resolve import resolve
from ..config.schema import Config
from ..data.copies import Copies, copies_of, sentences
from ..data.types import Source
from ..errors import SightlineError, counted
from ..tasks.files import load_recipe_file
from .checks import attempt, needed_pretrainings, open_data, with_usable_probe
from .grid import Grid

EVALUATED = "validation or test images of the target"
ALL_COPIES = {"data.on_copies": "warn"}
"""Settings with which data are opened to be searched, so that no copies are left out before."""


def without_leaks(grid: Grid, say: Callable[[str], None]) -> Grid:
    """Search the training images of the target and of the pre-trainings for copies of the target's validation and test
    images. Returns the grid with the copies in `data.leave_out` of the stages that have `data.on_copies leave_out`.

    Raises one SightlineError for all identical images in stages that have `data.on_copies stop`; near copies cause a
    warning. This applies to pre-training without labels too: a network that was trained on the validation images, even
    without their labels, is adapted to them, so that its accuracy on them is not the accuracy on new images.
    """
    target = open_data(resolve(grid.full, ALL_COPIES))
    faults: dict[str, str] = {}
    for stage in ("full", *needed_pretrainings(grid)):
        copies = search(grid, stage, target, say)
        if copies is None:
            continue
        mode, given = getattr(grid, stage).data.on_copies, getattr(grid, f"{stage}_weights", "")
        if mode == "leave_out" and not given:
            grid = leaving_out(grid, stage, copies, say)
            continue
        identical, near = sentences(copies, whose(stage), EVALUATED, "the accuracies")
        if identical and mode != "warn":
            faults[identical] = cure(stage, given)
        elif identical:
            say(f"warning: {identical}")
        if near:
            say(f"warning: {near}" + (f"; to leave them out: {option(stage, 'leave_out')}" if not given else ""))
    if faults:
        what = "images on which the models are compared are also training images"
        raise SightlineError(
            what, why="\n" + "\n".join(f"    {fault}" for fault in faults), cure="; ".join(faults.values())
        )
    return grid


def search(grid: Grid, stage: str, target: Source, say: Callable[[str], None]) -> Copies | None:
    """Search the training images of a stage for copies of the target's validation and test images; None if the images
    cannot be compared."""
    config: Config | None = getattr(grid, stage)
    source: Source | None = target
    if given := getattr(grid, f"{stage}_weights", ""):
        path = Path(given) / "recipe.yaml"
        config = load_recipe_file(path) if path.is_file() else None
        source = attempt(lambda: open_data(config))[0] if config else None
    elif config and stage != "full":
        source = open_data(with_usable_probe(resolve(config, ALL_COPIES), grid.full, lambda text: None))
    what = f"the training images{whose(stage)} were not compared with the {EVALUATED}"
    if config is None or source is None:
        say(f"note: {what}: the images from which {given} was trained are not known or cannot be read")
    elif any(items.shards is not None for each in (source, target) for items in each.splits.values()):
        say(f"note: {what}: images in shards are not compared")
    else:
        return copies_of(source, target, config.augment.resize or config.data.size, config.data)
    return None


def leaving_out(grid: Grid, stage: str, copies: Copies, say: Callable[[str], None]) -> Grid:
    """The grid with a stage that leaves out the training images that are copies."""
    names = {*copies.identical, *copies.near, *getattr(grid, stage).data.leave_out}
    kinds = f"identical ({len(copies.identical):,}) or near ({len(copies.near):,})"
    if copies.identical or copies.near:
        number = counted(len(copies.identical) + len(copies.near), "training image")
        say(f"{number}{whose(stage)} left out: {kinds} copies of {EVALUATED}")
    stages = ("full", "frozen") if stage == "full" else (stage,)
    changes = {"data.leave_out": tuple(sorted(names))}
    return grid.model_copy(update={name: resolve(getattr(grid, name), changes) for name in stages})


def whose(stage: str) -> str:
    """Whose training images those of a stage are, for messages."""
    return " of the target" if stage == "full" else f" of --{stage}"


def option(stage: str, mode: str) -> str:
    """The options that set `data.on_copies` for the training images of a stage."""
    return " ".join(f"--{name}.data.on_copies {mode}" for name in (("full", "frozen") if stage == "full" else (stage,)))


def cure(stage: str, given: str) -> str:
    """What to do if training images of a stage are identical to images of the target. given: a path of weights."""
    images = f"pre-train again without these images: --{stage} IMAGES" if given else "train without these images:"
    return f"{images} {option(stage, 'leave_out')}; or to train anyway: {option(stage, 'warn')}"
