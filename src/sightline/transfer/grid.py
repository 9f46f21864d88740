"""The configuration of a transfer grid: one target data set, settings with and without pre-training, several seeds of
pre-training and of training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import pydantic
from pydantic import Field, SerializeAsAny

from ..config.fields import CountOrZero, Section
from ..config.resolve import resolve
from ..config.schema import Config
from ..config.strict_yaml import dump_yaml, parse_yaml
from ..errors import SightlineError, counted
from ..tasks import TASKS
from ..tasks.files import config_of, typed


class TransferSetting(NamedTuple):
    """One of the settings A to F that a transfer grid compares.

    pretraining: the stage that pre-trains the backbone, "" for none. training: the stage that trains the model on the
    target data, "full" or "frozen". compute_of: the stage whose training FLOPs are spent on longer training; "" for
    none.
    """

    pretraining: str
    training: str
    compute_of: str = ""

    @property
    def needs(self) -> str:
        """The stage that must be trained before, "" for none."""
        return self.pretraining or self.compute_of

    @property
    def description(self) -> tuple[str, str]:
        """(how the backbone is pre-trained, which part of the model is trained on the target data), as text. The head
        of a segmenter is its decoder."""
        pretraining = {"": "none", "labeled": "with labels", "unlabeled": "without labels"}
        trained = {"full": "full model", "frozen": "head only"}[self.training]
        return pretraining[self.pretraining], f"{trained}, longer" if self.compute_of else trained


SETTINGS = {
    "A": TransferSetting("", "full"),
    "B": TransferSetting("labeled", "full"),
    "C": TransferSetting("unlabeled", "full"),
    "D": TransferSetting("labeled", "frozen"),
    "E": TransferSetting("unlabeled", "frozen"),
    "F": TransferSetting("", "full", compute_of="unlabeled"),
}
"""F is A with the compute of C: its epochs are those of A and those that cost as much as the pre-training without
labels."""
SET_BY_GRID = ("model.weights", "model.head", "model.freeze", "model.fresh_head", "train.seed")
"""Settings of the stages `full` and `frozen` that a user cannot change, because the grid sets them for each run. Of the
pre-trainings, it sets only the seed."""
RECORDED_TRAIN_IMAGES = 2500
"""Number of training images whose features are recorded in the runs of setting C. The course reports, whose settings
`transfer_a` and `transfer_b` have, record the same number."""
PRETRAININGS = ("labeled", "unlabeled")
STAGES = (*PRETRAININGS, "full", "frozen")
TRAINED_WITH = {
    **{kind: f"with {kind}" for kind in ("labels", "label sets", "numbers", "masks")},
    "nothing": "without labels",
}
"""Text for each kind of annotation from which a task learns."""
SPLIT_NAMES = {"val": "validation", "test": "test"}
COMPARISONS = (("A", "C"), ("F", "C"), ("A", "B"), ("B", "C"), ("D", "E"), ("A", "E"), ("C", "E"))
"""(first, second): pairs of settings that are compared. The difference is that of second minus first."""


class Grid(Section):
    """The configuration of a transfer grid of classifiers or of segmenters.

    labeled, unlabeled: recipes of the pre-trainings with and without labels. full, frozen: recipes of the training on
    the target data, of all weights or of the head only. classifier: kind of the head in `full` and `frozen`.
    """

    name: str = "transfer"
    settings: tuple[Literal["A", "B", "C", "D", "E", "F"], ...] = ("A", "B", "C", "D", "E")
    seeds: Annotated[tuple[CountOrZero, ...], Field(min_length=1)] = (0, 1, 2)
    """Seeds of the training on the target data, from each pre-training."""
    pretrain_seeds: Annotated[tuple[CountOrZero, ...], Field(min_length=1)] = (0,)
    """Seeds of each pre-training. With one, the results are valid for this pre-training only."""
    tune: Literal["small", "none"] = "small"
    """`small`: choose learning rate and epochs, or the penalty of a logistic regression, of each setting by the same
    small grid (`transfer.tuning`) on an inner split of the training images; final runs then keep the weights of their
    last epoch. `none`: every setting has the recipe's values, and each run keeps its best epoch on the validation
    images."""
    split: Literal["val", "test"] = "val"
    """Split of the target data on which the settings are compared."""
    classifier: Literal["linear", "mlp"] = "linear"
    labeled_weights: str = ""
    """Weights that were pre-trained with labels: a run folder or a file. Empty: the grid trains the stage `labeled`."""
    unlabeled_weights: str = ""
    """Weights that were pre-trained without labels: a run folder or a file. Empty: the grid trains the stage
    `unlabeled`."""
    labeled: SerializeAsAny[Config]
    unlabeled: SerializeAsAny[Config]
    full: SerializeAsAny[Config]
    frozen: SerializeAsAny[Config]
    reported: dict[str, float] = {}
    """Accuracies (0 to 1) of the settings in a published report, measured on its own data; shown for reference."""

    @pydantic.field_validator("labeled", "unlabeled", "full", "frozen", mode="before")
    @classmethod
    def _stages_are_of_their_task(cls, value: Any) -> Any:
        return typed(value) if isinstance(value, Config) else value

    @pydantic.field_validator("settings")
    @classmethod
    def _in_alphabetical_order(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(value))  # F needs a finished run of A

    @pydantic.model_validator(mode="after")
    def _stages_fit(self) -> Self:
        tasks = {stage: TASKS[getattr(self, stage).task] for stage in STAGES}
        faults = [
            f"the stage {stage} must be trained {TRAINED_WITH[self.learns_from(stage)]}, but its task is {task.name}"
            for stage, task in tasks.items()
            if task.learns_from != self.learns_from(stage)
        ]
        if any(len(set(values)) < len(values) for values in (self.settings, self.seeds, self.pretrain_seeds)):
            faults.append("a letter in --settings, or a number in --seeds or --pretrain-seeds, is given twice")
        if "F" in self.settings and "A" not in self.settings:
            faults.append("setting F continues A: give --settings with both letters")
        if self.classifier != "linear" and not self.classifies:
            faults.append("--classifier is the head of classifiers; segmenters have a decoder")
        if self.frozen.optim.name == "lbfgs" and self.classifier != "linear":
            other = "--frozen.optim.name adamw --frozen.optim.lr 0.01 --frozen.train.epochs 100"
            faults.append(f"frozen.optim.name lbfgs needs --classifier linear; for another head, add {other}")
        shapes = {
            stage: (c.model.name, repr(c.model.args), c.data.size if self.classifies else 0)
            for stage in STAGES
            if not getattr(self, f"{stage}_weights", "") and (c := getattr(self, stage))
        }
        if len(set(shapes.values())) > 1:
            faults.append(f"{', '.join(shapes)} need the same model.name, model.args and data.size")
        if self.full.data != self.frozen.data:
            faults.append("full and frozen need the same settings of data.*")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def classifies(self) -> bool:
        """Whether the models are classifiers, whose networks are built for `data.size` and have a kind of head."""
        return self.learns_from("full") == "labels"

    def learns_from(self, stage: str) -> str:
        """The annotation from which a stage learns: "nothing" for the pre-training without labels, else that of `full`
        if the runs of its task can be compared, "labels" or "masks"."""
        full = TASKS[self.full.task]
        return "nothing" if stage == "unlabeled" else full.learns_from if full.image_scores else "labels"

    @property
    def metric(self) -> tuple[str, str]:
        """(the key of the metric by which the settings are compared, its name in a sentence)."""
        key, metric = next(iter(TASKS[self.full.task].metrics.items()))
        return key, metric.title[0].lower() + metric.title[1:]

    def trained(self, setting: str) -> Config:
        """The stage that trains a setting on the target data, before tuning."""
        return {"full": self.full, "frozen": self.frozen}[SETTINGS[setting].training]

    def pretrainings(self, stage: str) -> tuple[int | None, ...]:
        """Seeds of the pre-trainings of a stage: (0,) for given weights, (None,) for the stage ""."""
        return (None,) if not stage else (0,) if getattr(self, f"{stage}_weights") else self.pretrain_seeds

    def training_text(self, setting: str, chosen: Mapping[str, Any] | None) -> str:
        """How the runs of a setting are trained on the target data. chosen: as of `config_of`."""
        config = self.config_of(setting, 0, "", chosen)
        if config.optim.name == "lbfgs":
            return f"logistic regression by L-BFGS, penalty {config.optim.weight_decay:g}"
        return f"{config.optim.name}, learning rate {config.optim.lr:g}, {counted(config.train.epochs, 'epoch')}"

    def config_of(self, setting: str, seed: int, weights: str, chosen: Mapping[str, Any] | None = None) -> Config:
        """The recipe of one run on the target data. weights: path of the initial weights of its backbone; "" for
        random weights. chosen: settings that tuning has chosen."""
        stage = self.trained(setting)
        changes = {
            "train.seed": seed,
            "model.weights": weights or "none",
            "model.freeze": SETTINGS[setting].training == "frozen",
            "model.fresh_head": True,
        }
        if self.classifies:
            recorded = RECORDED_TRAIN_IMAGES if setting == "C" and stage.report.samples else 0
            changes |= {"model.head": self.classifier, "report.train_samples": recorded}
        last_epoch = {"train.best_metric": "epoch"} if self.tune != "none" else {}
        return resolve(stage, changes | last_epoch | dict(chosen or {}))


def resolve_grid(base: Grid, overrides: Mapping[str, Any]) -> Grid:
    """Return `base` with overrides: the key `STAGE.section.key` changes a stage, any other key a field of the grid.

    Raises SightlineError for unknown keys and invalid values.
    """
    values = {name: getattr(base, name) for name in Grid.model_fields}
    stages: dict[str, dict[str, Any]] = {stage: {} for stage in STAGES}
    for key, value in overrides.items():
        stage, dot, rest = key.partition(".")
        if (stage in ("full", "frozen") and rest in SET_BY_GRID) or (stage in PRETRAININGS and rest == "train.seed"):
            cure = (
                "remove this option; use instead --classifier for the head, --seeds or --pretrain-seeds for the seeds, "
                "and --labeled WEIGHTS or --unlabeled WEIGHTS for initial weights"
            )
            raise SightlineError(
                f"{rest} cannot be set in a transfer grid, which chooses it for each run", where=f"--{key}", cure=cure
            )
        if not dot and stage in stages and isinstance(value, Mapping):
            stages[stage] |= value
        elif dot and stage in stages:
            stages[stage][rest] = value
        elif key in values and not dot:
            values[key] = value
        else:
            cure = f"write the stage ({', '.join(STAGES)}) before the setting, for example --full.{key}"
            raise SightlineError(f"a transfer grid has no setting {key!r}", where="the command line", cure=cure)
    for stage, settings in stages.items():
        values[stage] = resolve(values[stage], settings, f"the stage {stage}")
    return validated_grid(values, "the command line")


def validated_grid(values: Mapping[str, Any], where: str) -> Grid:
    """Create a Grid from plain values. where: origin of the values, for messages.

    Raises one SightlineError with all errors.
    """
    try:
        return Grid.model_validate(dict(values))
    except pydantic.ValidationError as error:
        faults = [(".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")) for one in error.errors()]
        lines = [f"{key}: {text}" if key else text for key, text in faults]
        cure = (
            "give --settings as letters of ABCDEF, --seeds and --pretrain-seeds as whole numbers, --tune small or "
            "none, --split val or test, and --classifier linear or mlp"
        )
        raise SightlineError("the transfer grid is invalid", where=where, why="; ".join(lines), cure=cure) from error


def load_grid_file(path: Path) -> Grid:
    """Read a Grid from a grid.yaml. Raises SightlineError if it cannot be read, is invalid, or is of an earlier
    version."""
    try:
        values = parse_yaml(path.read_text(encoding="utf-8-sig"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise SightlineError(
            "cannot read the grid", where=str(path), why=str(error), cure="check that this is the path of a grid.yaml"
        ) from error
    if not isinstance(values, dict) or not set(STAGES) <= values.keys():
        why, cure = f"it must have the stages {', '.join(STAGES)}", "for an example: sightline recipes transfer_fast"
        raise SightlineError("this file is not a transfer grid", where=str(path), why=why, cure=cure)
    if "tune" not in values:
        why = "since then, grids have several pre-trainings of a kind and choose the settings of each run by tuning"
        cure = (
            "start a new grid with --out FOLDER; its options --labeled and --unlabeled accept the pre-trainings of "
            "this one, such as pretrain-unlabeled; to use the recipes in this file, add `tune: none` to a copy of it"
        )
        raise SightlineError("this grid is of an earlier version of Sightline", where=str(path), why=why, cure=cure)
    stages = {stage: config_of(values[stage], f"{path}, {stage}") for stage in STAGES}
    return validated_grid(values | stages, str(path))


def grid_yaml(grid: Grid) -> str:
    """Write a grid as YAML that `load_grid_file` reads back to an equal Grid."""
    return dump_yaml(grid.model_dump(mode="json"))
