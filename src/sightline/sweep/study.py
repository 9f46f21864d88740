"""The trials of a sweep, stored in an Optuna study.

The settings of a trial depend only on the seed, the number of the trial and the trials before it, so that a resumed
sweep has the same trials as an uninterrupted one.
"""

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ENVIRONMENT, SightlineError
from .plan import SweepPlan
from .space import Choices, format_value

if TYPE_CHECKING:
    import optuna

JOURNAL = "trials.journal"
STARTUP_TRIALS = 5
"""The median pruner stops no trial before this number of trials is complete."""


@dataclass(frozen=True)
class TrialOutcome:
    """The result of a trial.

    state: complete, pruned or failed. value: the metric at the best epoch, None without an evaluated epoch. same_as:
    number of the earlier trial with the same settings, from which the result was copied; else None.
    """

    state: str
    value: float | None = None
    best_epoch: int = 0
    epochs: float = 0.0
    seconds: float = 0.0
    flops: float | None = None
    message: str = ""
    same_as: int | None = None


class SweepStudy:
    """The trials of one sweep.

    name: of the Optuna study. trials: total number of trials, None for the default; at least as many as have started,
    and without those that repeat a combination if all combinations are tried. storage: URL of a database; "": a
    journal file in the folder.
    """

    def __init__(self, folder: Path, plan: SweepPlan, name: str, trials: int | None, storage: str = ""):
        import optuna

        self.folder, self.plan = folder, plan
        self.trials, self.is_grid = plan.trial_count(trials)
        self.storage = open_storage(folder, storage)
        self.study = optuna.create_study(
            storage=self.storage,
            study_name=name,
            direction=plan.direction,
            pruner=pruner_of(plan),
            load_if_exists=True,
        )
        known = self.all()
        if not known and any(folder.glob("trial-[0-9]*")):
            why, cure = (
                "it has none of the trials in this folder",
                "use the same --storage as before, or start again with --overwrite",
            )
            raise SightlineError("the storage belongs to another sweep", where=storage or JOURNAL, why=why, cure=cure)
        started = self.started()
        repeated = len(started) - len(distinct(started))
        for row in plan.grid() if self.is_grid else ():
            if len(distinct(self.all())) >= self.trials:
                break
            choices = {key: format_value(row[key]) for key, spec in plan.space.items() if isinstance(spec, Choices)}
            self.study.enqueue_trial(row | choices, skip_if_exists=True)
        # Sampled trials may repeat a combination; a sweep that was extended has more trials than this call wants.
        self.trials = max(self.trials + repeated * self.is_grid, len(started))

    def all(self) -> "list[optuna.trial.FrozenTrial]":
        """All trials in order, including trials of a grid that have not started."""
        return self.study.get_trials(deepcopy=False)

    def started(self) -> "list[optuna.trial.FrozenTrial]":
        """Trials that have started, in order."""
        return [trial for trial in self.all() if trial.state.name != "WAITING"]

    def finished(self) -> "list[optuna.trial.FrozenTrial]":
        """Trials that have an outcome, in order."""
        return [trial for trial in self.all() if trial.state.is_finished()]

    def interrupted(self) -> "list[optuna.Trial]":
        """Trials that an earlier command started and that have not ended."""
        import optuna

        study_id = self.storage.get_study_id_from_name(self.study.study_name)
        numbers = [trial.number for trial in self.started() if not trial.state.is_finished()]
        ids = [self.storage.get_trial_id_from_study_id_trial_number(study_id, number) for number in numbers]
        return [self.sample(optuna.Trial(self.study, trial_id)) for trial_id in ids]

    def ask(self) -> "optuna.Trial | None":
        """Start a new trial with a value for each setting; None if all trials have started."""
        count = len(self.started())
        return self.sample(self.study.ask()) if count < self.trials else None

    def sample(self, trial: "optuna.Trial") -> "optuna.Trial":
        """Sample a value for each searched setting that has none in this trial, with a sampler whose seed depends on
        the number of the trial."""
        import optuna

        sampler = optuna.samplers.TPESampler if self.plan.sampler == "tpe" else optuna.samplers.RandomSampler
        self.study.sampler = sampler(seed=(self.plan.seed * 1_000_003 + trial.number) % 2**31)
        for key, spec in self.plan.space.items():
            spec.suggest(trial, key)
        return trial

    def values(self, trial: "optuna.Trial | optuna.trial.FrozenTrial") -> dict[str, Any]:
        """The settings of a trial as values of a recipe: dotted key -> value."""
        return {
            key: spec.from_text(trial.params[key]) if isinstance(spec, Choices) else trial.params[key]
            for key, spec in self.plan.space.items()
            if key in trial.params
        }

    def equal_trial(self, trial: "optuna.Trial") -> "optuna.trial.FrozenTrial | None":
        """The first complete trial with the same settings as `trial`, None if there is none. Training `trial` would
        give the same result."""
        complete = [other for other in self.finished() if other.state.name == "COMPLETE"]
        return next((other for other in complete if other.params == trial.params), None)

    def tell(self, trial: "optuna.Trial", outcome: TrialOutcome) -> None:
        """Record the outcome of a trial."""
        import optuna

        trial.set_user_attr("outcome", asdict(outcome))
        states = {"complete": optuna.trial.TrialState.COMPLETE, "pruned": optuna.trial.TrialState.PRUNED}
        state = states.get(outcome.state, optuna.trial.TrialState.FAIL)
        self.study.tell(trial, outcome.value if outcome.state == "complete" else None, state=state)

    def rows(self) -> list[dict[str, Any]]:
        """The trials that have started, as elements of `trials` in sweep.json: number, outcome, settings."""
        return [
            {"trial": trial.number, **asdict(outcome_of(trial)), "values": self.values(trial)}
            for trial in self.started()
        ]


def distinct(trials: "Iterable[optuna.trial.FrozenTrial]") -> set[tuple[tuple[str, Any], ...]]:
    """The different combinations of values of trials, also of those that have not started."""
    return {tuple(sorted(trial.system_attrs.get("fixed_params", trial.params).items())) for trial in trials}


def outcome_of(trial: "optuna.trial.FrozenTrial") -> TrialOutcome:
    """The recorded outcome of a trial; without one, an outcome with the state `running`."""
    return TrialOutcome(**trial.user_attrs["outcome"]) if trial.state.is_finished() else TrialOutcome("running")


def pruner_of(plan: SweepPlan) -> "optuna.pruners.BasePruner":
    """The Optuna pruner of a sweep.

    median: after a fifth of its own epochs (see `RunningTrial.report`), stop a trial whose best value so far is worse
    than the median of the complete trials at the same epoch. halving: at the epochs e and 3 e, where e is just above a
    ninth of all epochs, stop a trial that is not among the best third of those that have reached this epoch. none: stop
    no trial.
    """
    import optuna

    epochs = plan.first.train.epochs
    if plan.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS)
    if plan.pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=epochs // 9 + 1, reduction_factor=3)
    return optuna.pruners.NopPruner()


def require(package: str) -> None:
    """Raise SightlineError if a package of the extra `sweep` is not installed."""
    import importlib

    try:
        importlib.import_module(package)
    except ImportError as error:
        why, cure = f"{error.name} is not installed", "pip install 'sightline-vision[sweep]'"
        raise SightlineError(f"a sweep needs {package}", why=why, cure=cure, status=ENVIRONMENT) from error


def open_storage(folder: Path, url: str) -> Any:
    """Open the storage of the trials: the journal file in the folder or, if `url` is not empty, a database.

    Raises SightlineError if that fails.
    """
    import optuna
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if url:
        try:
            return RDBStorage(url)
        except Exception as error:  # the exception classes depend on the database driver
            what, why = "cannot open the database of --storage", f"{type(error).__name__}: {error}".partition("\n")[0]
            cure = (
                "use --storage sqlite:///FILE or --storage postgresql://USER@HOST/DATABASE, whose Python driver must "
                "be installed"
            )
            raise SightlineError(what, why=why, cure=cure, status=ENVIRONMENT) from error
    path = folder / JOURNAL
    content = path.read_bytes() if path.is_file() else b"\n"
    if not content.endswith(b"\n"):  # cut an incomplete last line, as after a power loss: Optuna would append to it
        os.truncate(path, content.rfind(b"\n") + 1)
    path.with_name(f"{JOURNAL}.lock").unlink(missing_ok=True)  # left by `kill -9`; the folder itself is locked
    lock = JournalFileOpenLock(str(path))  # the default creates a symbolic link, which needs a privilege on Windows
    return JournalStorage(JournalFileBackend(str(path), lock))
