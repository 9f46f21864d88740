"""What makes a sweep: recipe, fixed settings, what varies, the metric, how it searches. It lies in sweep.yaml."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..config.resolve import combined, flat, resolve
from ..config.schema import Config
from ..config.strict_yaml import dump_yaml, parse_yaml
from ..data.sources.open import Source
from ..errors import SightlineError, listing
from ..recipes import load_recipe
from ..runs import run_folder
from ..runs.atomic import atomic_write
from .space import Choices, Space, grid_of, plain, range_of, read_space, size_of

FILE = "sweep.yaml"
METRICS = {
    "classify": ("accuracy", "accuracy_top5", "loss"),
    "segment": ("mean_iou", "pixel_accuracy", "loss"),
    "byol": ("knn_accuracy",),
}
SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("median", "halving", "none")
TRIALS = 20
"""Trials of a sweep for which no number was given, unless it is a grid."""
MAY_DIFFER = {*run_folder.CHANGEABLE} - {"data.path", "train.epochs", "train.evaluate_every", "train.patience"}
"""Settings of the recipe that change no trial's result."""


@dataclass(frozen=True)
class Plan:
    """A sweep. base: the recipe; fixed: what was typed besides the space; data: what identifies them."""

    name: str
    base: Config
    fixed: dict[str, Any]
    space: Space
    metric: str
    sampler: str
    pruner: str
    seed: int
    data: dict[str, Any]

    @property
    def lowest(self) -> bool:
        """Whether the best value is the lowest."""
        return self.metric == "loss"

    def config_of(self, values: Mapping[str, Any], name: str, threads: int = 0) -> Config:
        """The recipe of one trial. threads: those that it may use, where the recipe does not say."""
        config = resolve(self.base, {**self.fixed, **values, "name": name})
        return resolve(config, {"train.threads": threads}) if threads and not config.train.threads else config

    def better(self, value: float, than: float | None) -> bool:
        """Whether a value of the metric beats another, if there is one."""
        return than is None or (value < than if self.lowest else value > than)


def make_plan(
    recipe: str | Config, settings: dict[str, Any], metric: str | None, sampler: str, pruner: str, seed: int
) -> Plan:
    """The plan for settings as they were typed, with whole paths; SightlineError for all that is wrong with them."""
    base = load_recipe(recipe) if not isinstance(recipe, Config) else recipe
    for word, choices, option in ((sampler, SAMPLERS, "sampler"), (pruner, PRUNERS, "pruner")):
        if word not in choices:
            cure = " or ".join(f"--{option} {choice}" for choice in choices)
            raise SightlineError(f"there is no {option} {word!r}", cure=cure)
    task = str(settings.get("task", base.task))
    chosen = metric or str(settings.get("train.best_metric", base.train.best_metric))
    if task == "byol" and chosen == "epoch":
        chosen = "knn_accuracy"
    allowed = METRICS.get(task, ())
    if chosen not in allowed:
        cure = " or ".join(f"--metric {name}" for name in allowed)
        raise SightlineError(f"trials of the task {task} cannot be ranked by {chosen!r}", where="--metric", cure=cure)
    if task != "byol":
        settings = settings | {"train.best_metric": chosen}
    fixed, space = read_space(base, settings)
    if not space:
        cure = "give a setting several values: --optim.lr 1e-3..1e-1, --train.batch_size 32,64"
        raise SightlineError("there is nothing to search: no setting varies", cure=f"{cure}; one run is `train`")
    whole = run_folder.with_whole_paths(resolve(base, path_of(fixed)))
    if "data.path" in fixed:
        fixed["data.path"] = whole.data.path
    base = resolve(base, {"data.path": whole.data.path, "model.weights": whole.model.weights})
    return Plan(base.name, base, fixed, space, chosen, sampler, pruner, seed, {})


def path_of(fixed: Mapping[str, Any]) -> dict[str, Any]:
    """The path of the data among fixed settings."""
    return {key: value for key, value in fixed.items() if key == "data.path"}


def first_config(plan: Plan) -> Config:
    """A recipe of the sweep: the first combination of ends and choices that is one."""
    from .space import combinations

    for places in combinations(plan.space):
        try:
            return plan.config_of({key: plan.space[key].candidates[at] for key, at in places.items()}, plan.name)
        except SightlineError:
            continue
    raise AssertionError("read_space has found one")


def checked(plan: Plan) -> Plan:
    """The plan with what identifies its data; SightlineError where data or models are missing, before anything starts.

    Files are listed and labels read; no picture is opened.
    """
    from ..data.augment.batch import check_augment

    config = first_config(plan)
    names = [plain(one) for one in getattr(plan.space.get("model.name"), "candidates", (config.model.name,))]
    for name in names:
        check_model(config, name)
    if config.task != "segment":
        check_augment(config.augment, config.data.size)
    return replace(plan, data=identified(opened(config)))


def opened(config: Config) -> Source:
    """The data of a recipe, with their splits listed."""
    if config.task == "segment":
        from ..tasks.segment.build import open_masked

        return open_masked(config, lambda text: None)[0]
    if config.task == "byol":
        from ..data.sources.leakage import without_leaks
        from ..tasks.pretrain.build import open_images

        return without_leaks(open_images(config, lambda text: None), config.data, lambda text: None)
    from ..tasks.classify.build import open_labeled

    return open_labeled(config, lambda text: None)


def identified(source: Source) -> dict[str, Any]:
    """What a sweep remembers of its data: place, classes, how many images, and a sum over names and labels.

    Contents are compared as well, trial by trial, once they are decoded.
    """
    import hashlib
    import json

    splits = {split: items for split, items in source.splits.items() if split in ("train", "val")}
    listed = {
        split: [items.names, None if items.labels is None else items.labels.tolist()] for split, items in splits.items()
    }
    counts = {split: len(items.names) for split, items in splits.items()}
    digest = hashlib.sha256(json.dumps(listed).encode("ascii")).hexdigest()
    return {"path": source.path, "classes": list(source.classes), "images": counts, "listing": digest}


def check_model(config: Config, name: str) -> None:
    """SightlineError for the name of a model that does not exist; of the libraries' models only the build tells."""
    from ..models import MODELS, unknown_model

    if config.task != "segment" and "/" not in name and name not in MODELS:
        raise unknown_model(name)


def as_values(plan: Plan) -> dict[str, Any]:
    """The plan as plain values, as they stand in sweep.yaml."""
    space = {key: list(s.values) if isinstance(s, Choices) else str(s) for key, s in plan.space.items()}
    own = {key: getattr(plan, key) for key in ("name", "metric", "sampler", "pruner", "seed")}
    return {**own, "space": space, "fixed": dict(plan.fixed), "data": plan.data,
            "recipe": plan.base.model_dump(mode="json")}  # fmt: skip


def write_plan(folder: Path, plan: Plan) -> None:
    """sweep.yaml, from which workers and resumptions know what to do."""
    atomic_write(folder / FILE, dump_yaml(as_values(plan)))


def load_plan(folder: Path) -> Plan:
    """The plan of a sweep's folder; SightlineError where it cannot be read."""
    path = folder / FILE
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"), str(path))
        base = combined(Config(), flat(values["recipe"], str(path)), str(path))
        space = {key: spec_of(value) for key, value in values["space"].items()}
        own = {key: values[key] for key in ("name", "metric", "sampler", "pruner", "seed", "fixed", "data")}
        return Plan(base=base, space=space, **own)
    except (OSError, UnicodeDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
        why = f"{type(error).__name__}: {error}"
        raise SightlineError(
            "this sweep cannot be read", where=str(path), why=why, cure="choose another --out"
        ) from error


def spec_of(value: Any) -> Any:
    """A range or choices out of sweep.yaml."""
    if isinstance(value, list):
        return Choices(tuple(value))
    scale, _, edges = value.partition(":")
    first, last = edges.split("..")
    whole = all(edge.lstrip("+-").isdigit() for edge in (first, last))
    return range_of(int if whole else float, scale, first, last)


def differences(old: Plan, new: Plan) -> list[str]:
    """What makes two sweeps different ones, a line each."""
    before, after = as_values(old), as_values(new)
    lines = [
        f"{key}: {plain(before[key])} -> {plain(after[key])}"
        for key in ("metric", "sampler", "pruner", "seed")
        if before[key] != after[key]
    ]
    was, now = ({key: str(spec) for key, spec in plan.space.items()} for plan in (old, new))
    lines += [f"{key}: {was.get(key, 'not searched')} -> {now.get(key, 'not searched')}"
              for key in dict.fromkeys([*was, *now]) if was.get(key) != now.get(key)]  # fmt: skip
    changed = [key for key in run_folder.differences(old.base, new.base) if key not in MAY_DIFFER]
    lines += [
        f"{key}: {plain(run_folder.value_of(old.base, key))} -> {plain(run_folder.value_of(new.base, key))}"
        for key in changed
        if key not in (*new.fixed, *now, "name")
    ]
    keys = [key for key in dict.fromkeys([*before["fixed"], *after["fixed"]]) if key not in MAY_DIFFER | {"data.path"}]
    lines += [
        f"{key}: {plain(before['fixed'].get(key, 'the recipe'))} -> {plain(after['fixed'].get(key, 'the recipe'))}"
        for key in keys
        if before["fixed"].get(key) != after["fixed"].get(key) and key not in (*was, *now)
    ]
    lines += [
        f"data, {key}: {plain(before['data'].get(key))[:60]} -> {plain(after['data'].get(key))[:60]}"
        for key in ("classes", "images", "listing")
        if before["data"].get(key) != after["data"].get(key)
    ]
    return lines


def refuse_other(folder: Path, old: Plan, new: Plan) -> None:
    """SightlineError with the differences where another sweep lies in the folder."""
    if lines := differences(old, new):
        cure = "the same command as before, another --out, or --overwrite to remove that sweep"
        raise SightlineError("another sweep lies here", where=str(folder), why="\n" + listing(lines), cure=cure)


def budget(plan: Plan, trials: int | None) -> tuple[int, bool, str]:
    """(how many trials, whether they go through a grid, what to say of it or "").

    A space with no more combinations than trials is gone through, whatever sampler was asked for.
    """
    if plan.sampler == "grid":
        size = len(grid_of(plan.space))
        return min(size, trials or size), True, ""
    size, wanted = size_of(plan.space), trials or TRIALS
    if size is not None and size <= wanted:
        return size, True, f"there are {size} combinations: each is tried once"
    return wanted, False, ""
