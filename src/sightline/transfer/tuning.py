"""Tuning in a transfer grid: the same small grid for every setting, on an inner split of the training images.

A try is an ordinary run in the folder `tune` of the grid, with the first seed and pre-training. It is trained on a part
of the target's training images and evaluated on the rest of them, once, after its last epoch: the schedule depends on
the number of epochs, so each number has a run of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from ..config.resolve import resolve
from ..config.schema import Config
from ..runs.run_folder import NOT_FINITE, final_record
from .grid import SETTINGS, Grid
from .plan import longer_epochs

RATES = (0.3, 1.0, 3.0)
"""The learning rates that are tried, as multiples of the recipe's."""
BUDGETS = (1.0, 2.5)
"""The numbers of epochs that are tried, as multiples of the recipe's."""
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""The penalties that are tried for a logistic regression (`optim.name lbfgs`): as many as pairs of rate and epochs."""
INNER_FRACTION = 0.2
"""Share of the training images on which the tries are evaluated."""
TRY_SEED = 0
SHORT = {"optim.lr": "lr", "train.epochs": "e", "optim.weight_decay": "wd"}
"""Settings in the names of tries."""
WORDS = {"optim.lr": "learning rate {}", "train.epochs": "{} epochs", "optim.weight_decay": "penalty {}"}


@dataclass(frozen=True)
class Choice:
    """The result of tuning a setting.

    chosen: the settings with the highest score. tried: (settings, score on the inner split) of each try, by the
    metric of the grid; NaN if the training diverged.
    """

    chosen: Mapping[str, float]
    tried: tuple[tuple[Mapping[str, float], float], ...]

    @property
    def at_edge(self) -> list[str]:
        """The chosen settings whose value is the smallest or largest of three or more that were tried; the number of
        epochs, if it is the largest."""
        values = {key: sorted({settings[key] for settings, _ in self.tried}) for key in self.chosen}
        most = {key: key == "train.epochs" and len(tried) > 1 for key, tried in values.items()}
        edges = {key: tried[-1:] if most[key] else (tried[0], tried[-1]) for key, tried in values.items()}
        return [key for key in values if (most[key] or len(values[key]) > 2) and self.chosen[key] in edges[key]]


def candidates(grid: Grid, setting: str, longer: int | None = None) -> list[dict[str, float]]:
    """The settings to try for one of the settings A to F. longer: the number of epochs of setting F, which is not
    tuned."""
    stage = grid.trained(setting)
    if grid.tune == "none":
        return []
    if stage.optim.name == "lbfgs":
        return [{"optim.weight_decay": penalty} for penalty in PENALTIES]
    epochs = [round(factor * stage.train.epochs) for factor in BUDGETS]
    if SETTINGS[setting].compute_of:
        epochs = [longer or 0]
    rates = [float(f"{factor * stage.optim.lr:.3g}") for factor in RATES]
    return [{"optim.lr": rate, "train.epochs": count} for rate, count in product(rates, epochs)]


def name_of_try(setting: str, settings: Mapping[str, float]) -> str:
    """The name of the folder of a try, such as C-lr0.001-e40."""
    return "-".join([setting, *(f"{SHORT[key]}{value:g}" for key, value in settings.items())])


def settings_text(settings: Mapping[str, float]) -> str:
    """The settings of a try as words, such as "learning rate 0.001, 40 epochs"."""
    return ", ".join(WORDS[key].format(f"{value:g}") for key, value in settings.items())


def config_of_try(grid: Grid, setting: str, settings: Mapping[str, Any], weights: str) -> Config:
    """The recipe of a try: that of a final run with these settings, but trained on a part of the training images and
    evaluated on the others. The validation and test images are not read."""
    config = grid.config_of(setting, TRY_SEED, weights, settings)
    report = {"report.samples": 0, "report.train_samples": 0, "report.baselines": False}
    changes = {"data.inner_fraction": INNER_FRACTION, "train.evaluate_every": config.train.epochs}
    return resolve(config, {"name": name_of_try(setting, settings)} | changes | report)


def read_choice(folder: Path, grid: Grid, setting: str) -> Choice | None:
    """The choice for a setting by its tries, which are runs in folder/tune; None without tuning, or if a try is not
    finished. Of equal scores, the lower loss decides; tries that diverged are not chosen."""
    settings = candidates(grid, setting, longer_epochs(folder, grid) if SETTINGS[setting].compute_of else None)
    runs = [folder / "tune" / name_of_try(setting, values) for values in settings]
    found = [(values, final_record(run)) for values, run in zip(settings, runs, strict=True)]
    finished = [(values, record) for values, record in found if record]
    if not finished or len(finished) + sum(map(has_diverged, runs)) < len(settings):
        return None
    metric, _ = grid.metric
    best, _ = max(finished, key=lambda pair: (pair[1][metric], -pair[1]["loss"]))
    return Choice(best, tuple((values, float(record[metric] if record else "nan")) for values, record in found))


def has_diverged(run: Path) -> bool:
    """Whether a run ended because its loss or gradient was not finite."""
    return (run / NOT_FINITE).is_file() and not final_record(run)


def chosen_settings(folder: Path, grid: Grid, setting: str) -> dict[str, Any] | None:
    """The settings of the final runs of a setting that are not those of the recipe; None if they are not known yet."""
    if grid.tune == "none":
        if not SETTINGS[setting].compute_of:
            return {}
        longer = longer_epochs(folder, grid)
        return {"train.epochs": longer} if longer else None
    choice = read_choice(folder, grid, setting)
    return dict(choice.chosen) if choice else None
