"""The transfer grid's settings: one target, five ways to come to a classifier, several seeds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import pydantic
from pydantic import Field, SerializeAsAny

from ..config.fields import CountOrZero, Section
from ..config.resolve import resolve
from ..config.schema import Config
from ..config.strict_yaml import dump_yaml, parse_yaml
from ..errors import SightlineError
from ..tasks import TASKS
from ..tasks.files import config_of, typed


class Way(NamedTuple):
    """How a setting comes to its classifier. start: the stage that pre-trains it, if any; tune: the one that trains."""

    start: str
    tune: str

    @property
    def words(self) -> tuple[str, str]:
        """How it is pre-trained, and what is trained on the target."""
        begins = {"": "none", "labeled": "with labels", "unlabeled": "without labels"}
        return begins[self.start], {"full": "full model", "frozen": "head only"}[self.tune]


WAYS = {
    "A": Way("", "full"),
    "B": Way("labeled", "full"),
    "C": Way("unlabeled", "full"),
    "D": Way("labeled", "frozen"),
    "E": Way("unlabeled", "frozen"),
}
OWN = ("model.weights", "model.head", "model.freeze", "model.fresh_head", "train.seed")
"""Settings of `full` and `frozen` that the grid gives each run itself."""
FOLLOWED = 2500
"""Training images of setting C whose maps its report shows, as the course reports do."""
PRETRAININGS = ("labeled", "unlabeled")
STAGES = (*PRETRAININGS, "full", "frozen")
LEARNS_FROM = {"labeled": "labels", "unlabeled": "nothing", "full": "labels", "frozen": "labels"}
"""What the training images of a stage come with, see `Task.learns_from`."""
TRAINED = {"labels": "with labels", "nothing": "without labels", "masks": "with masks"}
"""`Task.learns_from` in words."""
COMPARISONS = (("A", "C"), ("A", "B"), ("B", "C"), ("D", "E"), ("A", "E"), ("C", "E"))
"""(first, second) of the sentences of the page: did the second beat the first?"""


class Grid(Section):
    """Everything that makes a transfer grid. Each of the four stages is the recipe of an ordinary run.

    labeled, unlabeled: the pre-trainings. full, frozen: the trainings on the target. The head is `classifier` in both.
    """

    name: str = "transfer"
    settings: tuple[Literal["A", "B", "C", "D", "E"], ...] = ("A", "B", "C", "D", "E")
    seeds: Annotated[tuple[CountOrZero, ...], Field(min_length=1)] = (0, 1, 2)
    classifier: Literal["linear", "mlp"] = "linear"
    labeled_weights: str = ""
    """A run or a file with weights that were pre-trained with labels; empty: the stage `labeled` makes them."""
    unlabeled_weights: str = ""
    labeled: SerializeAsAny[Config]
    unlabeled: SerializeAsAny[Config]
    full: SerializeAsAny[Config]
    frozen: SerializeAsAny[Config]
    reported: dict[str, float] = {}
    """Accuracies that somebody else reports for the settings, on other data."""

    @pydantic.field_validator("labeled", "unlabeled", "full", "frozen", mode="before")
    @classmethod
    def _stages_are_of_their_task(cls, value: Any) -> Any:
        return typed(value) if isinstance(value, Config) else value

    @pydantic.model_validator(mode="after")
    def _stages_fit(self) -> Self:
        tasks = {stage: TASKS[getattr(self, stage).task] for stage in STAGES}
        faults = [
            f"{stage} must be a training {TRAINED[LEARNS_FROM[stage]]}, found the task {task.name}"
            for stage, task in tasks.items()
            if task.learns_from != LEARNS_FROM[stage]
        ]
        if len(set(self.settings)) < len(self.settings) or len(set(self.seeds)) < len(self.seeds):
            faults.append("settings and seeds are named once each")
        shapes = {
            stage: (c.model.name, repr(c.model.args), c.data.size)
            for stage in STAGES
            if not getattr(self, f"{stage}_weights", "") and (c := getattr(self, stage))
        }
        if len(set(shapes.values())) > 1:
            faults.append(f"{', '.join(shapes)} need the same model.name, model.args and data.size")
        if self.full.data != self.frozen.data:
            faults.append("full and frozen need the same data.* to be compared")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def config_of(self, setting: str, seed: int, weights: str) -> Config:
        """The recipe of one run of the grid, from these weights (empty: none)."""
        way = WAYS[setting]
        stage: Config = {"full": self.full, "frozen": self.frozen}[way.tune]
        changes = {
            "name": f"{setting}-{seed}",
            "train.seed": seed,
            "model.weights": weights or "none",
            "model.fresh_head": True,
            "model.head": self.classifier,
            "model.freeze": way.tune == "frozen",
            "report.train_samples": FOLLOWED if setting == "C" and stage.report.samples else 0,
        }
        return resolve(stage, changes)


def resolve_grid(base: Grid, overrides: Mapping[str, Any]) -> Grid:
    """`base` with overrides: `STAGE.section.key` goes to a stage, anything else must be a setting of the grid.

    Raises SightlineError for what no stage has.
    """
    values = {name: getattr(base, name) for name in Grid.model_fields}
    stages: dict[str, dict[str, Any]] = {stage: {} for stage in STAGES}
    for key, value in overrides.items():
        stage, dot, rest = key.partition(".")
        if stage in ("full", "frozen") and rest in OWN:
            cure = "--classifier, --seeds, --labeled WEIGHTS and --unlabeled WEIGHTS are the grid's settings for these"
            raise SightlineError(f"the grid sets {rest} of its runs itself", where=f"--{key}", cure=cure)
        if not dot and stage in stages and isinstance(value, Mapping):
            stages[stage] |= value
        elif dot and stage in stages:
            stages[stage][rest] = value
        elif key in values and not dot:
            values[key] = value
        else:
            cure = f"--STAGE.section.key, where STAGE is {', '.join(STAGES)}: --full.{key}"
            raise SightlineError(f"a grid has no setting {key!r}", where="the command line", cure=cure)
    for stage, settings in stages.items():
        values[stage] = resolve(values[stage], settings, f"the stage {stage}")
    return validated_grid(values, "the command line")


def validated_grid(values: Mapping[str, Any], where: str) -> Grid:
    """A Grid out of plain values, or one SightlineError that lists what is wrong with them."""
    try:
        return Grid.model_validate(dict(values))
    except pydantic.ValidationError as error:
        lines = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}".strip(": ") for fault in error.errors()]
        cure = "settings are letters of ABCDE, seeds whole numbers, the classifier linear or mlp"
        raise SightlineError("the grid's settings are wrong", where=where, why="; ".join(lines), cure=cure) from error


def load_grid_file(path: Path) -> Grid:
    """A Grid out of a grid.yaml."""
    try:
        values = parse_yaml(path.read_text(encoding="utf-8-sig"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise SightlineError("cannot read the grid", where=str(path), why=str(error), cure="check the path") from error
    if not isinstance(values, dict) or not set(STAGES) <= values.keys():
        why = f"it needs the stages {', '.join(STAGES)}"
        raise SightlineError(
            "this is no transfer grid", where=str(path), why=why, cure="`sightline recipes transfer_fast`"
        )
    stages = {stage: config_of(values[stage], f"{path}, {stage}") for stage in STAGES}
    return validated_grid(values | stages, str(path))


def grid_yaml(grid: Grid) -> str:
    """The resolved grid as YAML that `load_grid_file` reads back to an equal Grid."""
    return dump_yaml(grid.model_dump(mode="json"))
