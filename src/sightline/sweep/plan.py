"""The definition of a sweep: recipe, fixed settings, search space, metric and search method."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ..config.resolve import flat, resolve
from ..config.schema import Config
from ..data.sources.splits import OUTER
from ..data.types import Source
from ..errors import SightlineError
from ..recipes import load_recipe
from ..repeat.several import weights_digest
from ..runs import run_folder
from ..runs.code_file import loaded_code
from ..tasks import TASKS
from ..tasks.files import typed
from .space import GRID_POINTS, WHERE, Space, format_value, grid, read_space

Direction: TypeAlias = Literal["minimize", "maximize"]
SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("median", "halving", "none")
TRIALS = 20
"""Default number of trials, except for a grid."""
INNER_FRACTION = 0.2
"""Default share of the training images on which the trials are chosen, instead of the validation images."""
MAY_DIFFER = {*run_folder.CHANGEABLE, "name", "train.best_metric"} - {*run_folder.DECIDES_RESULT}
"""Settings that a command may change when it resumes a sweep."""


@dataclass(frozen=True)
class SweepPlan:
    """The definition of a sweep.

    base: the recipe. fixed: settings that are equal in all trials. space: settings that are searched, with their ranges
    or choices. first: the recipe with one valid combination of the searched settings. data: see `data_identity`.
    report_split: the split on which the best trial is
    reported, OUTER or test; "" if the trials are chosen on the validation images and there is nothing to report on.
    """

    base: Config
    fixed: dict[str, Any]
    space: Space
    metric: str
    sampler: str
    pruner: str
    seed: int
    first: Config
    data: dict[str, Any]
    report_split: str = ""

    @property
    def direction(self) -> Direction:
        return "minimize" if TASKS[self.first.task].metrics[self.metric].lower_is_better else "maximize"

    def config_of(self, values: Mapping[str, Any], name: str) -> Config:
        """The recipe of one trial. values: its values of the searched settings. name: of its run."""
        return run_folder.with_absolute_paths(resolve(self.base, {**self.fixed, **values, "name": name}))

    def identity(self) -> dict[str, str]:
        """The settings that identify the sweep, as text. A command in which one of them differs defines another
        sweep."""
        settings = flat(self.first.model_dump(mode="json"), WHERE, type(self.first))
        return {
            **{key: str(getattr(self, key)) for key in ("metric", "sampler", "pruner", "seed")},
            **{key: format_value(value) for key, value in settings.items() if key not in MAY_DIFFER},
            **{key: str(spec) for key, spec in self.space.items()},
            **{f"data, {key}": format_value(value) for key, value in self.data.items() if key != "path"},
            **({"code": code.digest} if (code := loaded_code()) else {}),
        }

    def trial_count(self, trials: int | None) -> tuple[int, bool]:
        """(number of trials, whether they are combinations of a grid; otherwise their settings are sampled).

        trials: the requested number; None for the default.
        """
        if self.sampler == "grid":
            size = math.prod(len(spec.values()) for spec in self.space.values())
            return min(size, trials or size), True
        size = math.prod(spec.count for spec in self.space.values())
        return (int(size), True) if size <= (trials or TRIALS) else (trials or TRIALS, False)

    def grid(self) -> list[dict[str, Any]]:
        """Every combination of the searched settings.

        An integer range has all of its integers; with the sampler "grid", a range of more than GRID_POINTS values has
        GRID_POINTS of them.
        """
        limit = GRID_POINTS if self.sampler == "grid" else math.inf
        return grid({key: spec.values(limit) for key, spec in self.space.items()})


def make_plan(
    recipe: str | Config,
    settings: dict[str, Any],
    metric: str | None,
    sampler: str,
    pruner: str,
    seed: int,
    split: str = "",
) -> SweepPlan:
    """Create the plan of a sweep from settings of the command line. Lists files and reads labels, but decodes no image.

    split: "test" to choose the trials on the validation images and report the best on the test split. By default, the
    trials are chosen on an inner split of the training images, if the data can have one. Raises SightlineError for
    invalid settings, unknown models and missing data.
    """
    base = load_recipe(recipe) if not isinstance(recipe, Config) else typed(recipe)
    fixed, space, values = read_space(base, settings)
    if not space:
        cure = "give a setting several values: --optim.lr 1e-3..1e-1 or --train.batch_size 32,64"
        raise SightlineError(
            "there is nothing to search, because no setting has several values", where=WHERE, cure=cure
        )
    first = resolve(base, {**fixed, **values})
    task, best_metric = TASKS[first.task], first.train.best_metric
    metrics = task.metrics
    metric = metric or (best_metric if best_metric in metrics else next(iter(metrics)))
    options = (("metric", metric, metrics), ("sampler", sampler, SAMPLERS), ("pruner", pruner, PRUNERS))
    for name, value, choices in options:
        if value not in choices:
            cure = "use " + " or ".join(f"--{name} {choice}" for choice in choices)
            raise SightlineError(f"unknown {name} {value!r} for the task {first.task}", where=f"--{name}", cure=cure)
    if task.selects_epochs:
        if fixed.get("train.best_metric", metric) != metric:
            what = f"a trial keeps the epoch with the best {metric}, not train.best_metric {fixed['train.best_metric']}"
            cure = "leave it out; to choose by another metric: --metric " + "|".join(metrics)
            raise SightlineError(what, where="train.best_metric", cure=cure)
        fixed["train.best_metric"] = metric
    first = run_folder.with_absolute_paths(resolve(base, {**fixed, **values}))
    task.check(first)
    for key, spec in space.items():
        for name in spec.candidates:
            if isinstance(name, str):  # such as names of models and losses, which the configuration does not check
                task.check(resolve(first, {key: name}))
    source, evaluated = opened(first)
    if split not in ("", *source.splits.keys() & {"test"}):
        why = f"its splits are: {', '.join(source.splits)}" if split == "test" else ""
        cure = "leave out --split: the best trial is then reported on the validation images, on which nothing is chosen"
        raise SightlineError(
            f"the best trial cannot be reported on a split {split!r}", where=source.path, why=why, cure=cure
        )
    chosen = "data.inner_fraction" in fixed or first.data.inner_fraction
    if not split and not chosen and evaluated is source and has_inner(source):
        fixed["data.inner_fraction"] = INNER_FRACTION
        first = resolve(first, {"data.inner_fraction": INNER_FRACTION})
        source, evaluated = opened(first)
    report_split = split or (OUTER if OUTER in evaluated.splits else "")
    data = data_identity(source, evaluated) | initial_weights(first, space)
    return SweepPlan(base, fixed, space, metric, sampler, pruner, seed, first, data, report_split)


def opened(config: Config) -> tuple[Source, Source]:
    """(the data of a recipe, the data whose split `val` ranks the trials: the same, or the probe data of a
    pre-training)."""
    task = TASKS[config.task]
    source = task.open(config, lambda text: None)
    return source, task.evaluated(config, source) if task.evaluated else source


def has_inner(source: Source) -> bool:
    """Whether the training images of a data set can be divided, and validation images remain to report on."""
    train = source.splits["train"]
    return "val" in source.splits and train.shards is None and bool(train.read_mask or train.labels is not None)


def initial_weights(first: Config, space: Space) -> dict[str, str]:
    """{key of the identity: digests of the files of the initial weights}; {} if no trial begins with a file."""
    searched = space["model.weights"].candidates if "model.weights" in space else ()
    digests = [weights_digest(str(name)) for name in (first.model.weights, *searched)]
    return {"weights": " ".join(digests)} if any(digests) else {}


def data_identity(source: Source, evaluated: Source) -> dict[str, Any]:
    """Path, classes and number of images of the data, and a digest of image names and labels. evaluated: the data whose
    validation images rank the trials.

    The contents of the images are compared later, when trials run, see `RunningTrial.check_image_digest`.
    """
    splits = {split: items for split, items in evaluated.splits.items() if split in ("train", "val", OUTER)}
    if evaluated is not source:
        splits |= {"train": source.splits["train"], "labeled": splits["train"]}
    listed = {
        split: [items.names, None if items.labels is None else items.labels.tolist()] for split, items in splits.items()
    }
    counts = {split: len(items.names) for split, items in splits.items()}
    digest = hashlib.sha256(json.dumps(listed).encode("ascii")).hexdigest()
    return {"path": source.path, "classes": list(evaluated.classes), "images": counts, "listing": digest}
