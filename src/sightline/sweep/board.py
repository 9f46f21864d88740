"""The trials of a sweep in Optuna's storage: the next one, what became of each. Sampling is a function of (seed, trial
number, trials before it), so that a sweep that was killed goes on as if it had not been."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SightlineError
from . import claims
from .plan import Plan, as_values, first_config
from .space import Choices, grid_of
from .storage import decoded, encoded, open_storage, walker

if TYPE_CHECKING:
    import optuna

STARTUP_TRIALS = 5
"""Finished trials before the median prunes."""


@dataclass(frozen=True)
class Outcome:
    """What became of a trial. state: complete, pruned or failed. value: the metric at the best epoch, if any."""

    state: str
    value: float | None = None
    best_epoch: int = 0
    epochs: float = 0.0
    seconds: float = 0.0
    flops: float | None = None
    message: str = ""
    same_as: int | None = None


class Board:
    """The sweep's trials, shared with every process that works on them.

    trials: how many there are to be. walk: go through all combinations. storage: the address of a database; empty: a
    journal in the folder.
    """

    def __init__(self, folder: Path, plan: Plan, trials: int, walk: bool, storage: str = ""):
        self.folder, self.plan, self.trials, self.walk = folder, plan, trials, walk
        with claims.turn(folder):  # two processes that make a database's tables at once disturb each other
            self.storage = open_storage(folder, storage)
        self.grid = grid_of(plan.space, whole=plan.sampler != "grid") if walk else []
        self.epochs = first_config(plan).train.epochs
        self.open_study()

    def open_study(self) -> None:
        """Make the study or find it; SightlineError where the database has one of another sweep under its name."""
        import optuna

        direction = "minimize" if self.plan.lowest else "maximize"
        with claims.turn(self.folder), warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study = optuna.create_study(
                storage=self.storage, study_name=self.name, direction=direction, load_if_exists=True
            )
            known = {key: value for key, value in as_values(self.plan).items() if key in ("space", "metric", "data")}
            mine = json.dumps(known, sort_keys=True)
            if study.user_attrs.setdefault("plan", mine) != mine:
                why, cure = f"it has a study {self.name!r} with another space or data", "another --out, or --storage"
                raise SightlineError("the database holds another sweep", why=why, cure=cure)
            study.set_user_attr("plan", mine)

    @property
    def name(self) -> str:
        """The study's name in a database: that of the folder."""
        return self.folder.resolve().name

    def study(self, number: int = 0, before: Sequence[Any] = ()) -> "optuna.Study":
        """The study with the sampler of one trial, which comes after `before`, and the pruner."""
        import optuna

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler, pruner = self.sampler(number, before), self.pruner()
            return optuna.load_study(study_name=self.name, storage=self.storage, sampler=sampler, pruner=pruner)

    def sampler(self, number: int, before: Sequence[Any] = ()) -> "optuna.samplers.BaseSampler":
        """The sampler of one trial, fresh: nothing hidden in it goes from trial to trial."""
        import optuna

        if self.walk:
            visited = {label_of(self.values(other)) for other in before}
            return walker(next((row for row in self.grid if label_of(row) not in visited), self.grid[0]))
        seed = (self.plan.seed * 1_000_003 + number) % 2**31
        return {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}[self.plan.sampler](
            seed=seed
        )

    def pruner(self) -> "optuna.pruners.BasePruner":
        """Median: worse than that of the others at the same epoch, after a fifth of the epochs. Halving: not among the
        best third of those that came as far, after a ninth, a third and all of the epochs."""
        import optuna

        if self.plan.pruner == "median":
            first = 1 + max(1, self.epochs // 5)
            return optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=first)
        if self.plan.pruner == "halving":
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=max(1, self.epochs // 9), reduction_factor=3)
        return optuna.pruners.NopPruner()

    def next(self) -> "tuple[optuna.Trial, claims.Claim] | None":
        """A trial to work on, claimed: one that was interrupted, else a new one; None where there is none left."""
        import optuna

        with claims.turn(self.folder):
            known = self.study().get_trials(deepcopy=False)
            for trial in known:
                if not trial.state.is_finished() and (claim := claims.take(self.folder, trial.number)):
                    study = self.study(trial.number, known[: trial.number])
                    return self.suggested(optuna.Trial(study, trial._trial_id)), claim
            claim = claims.take(self.folder, len(known)) if len(known) < self.trials else None
            return (self.suggested(self.study(len(known), known).ask()), claim) if claim else None

    def suggested(self, trial: "optuna.Trial") -> "optuna.Trial":
        """The trial with a value for each setting; those that it has already stay."""
        for key, spec in self.plan.space.items():
            if isinstance(spec, Choices):
                trial.suggest_categorical(key, [encoded(value) for value in spec.values])
            elif spec.whole:
                trial.suggest_int(key, int(spec.low), int(spec.high), log=spec.log)
            else:
                trial.suggest_float(key, spec.low, spec.high, log=spec.log)
        return trial

    def values(self, trial: Any) -> dict[str, Any]:
        """The settings of a trial, as a recipe takes them."""
        return {key: decoded(trial.params[key]) for key in self.plan.space if key in trial.params}

    def finished(self) -> list[Any]:
        """Trials that have an outcome, by number."""
        return [trial for trial in self.study().get_trials(deepcopy=False) if trial.state.is_finished()]

    def twin(self, trial: Any) -> Any:
        """An earlier whole trial of the same settings, whose result another training would only repeat; or None."""
        mine = label_of(self.values(trial))
        whole = [other for other in self.finished() if other.number < trial.number and other.state.name == "COMPLETE"]
        return next((other for other in whole if label_of(self.values(other)) == mine), None)

    def tell(self, trial: "optuna.Trial", outcome: Outcome) -> None:
        """Write down what became of a trial."""
        import optuna

        trial.set_user_attr("outcome", vars(outcome))
        states = {"complete": optuna.trial.TrialState.COMPLETE, "pruned": optuna.trial.TrialState.PRUNED}
        state = states.get(outcome.state, optuna.trial.TrialState.FAIL)
        self.study(trial.number).tell(trial, outcome.value if outcome.state == "complete" else None, state=state)

    def rows(self) -> list[dict[str, Any]]:
        """All trials as plain values, for sweep.json: number, state, values, what became of each."""
        rows = []
        for trial in self.study().get_trials(deepcopy=False):
            outcome: Mapping[str, Any] = trial.user_attrs.get("outcome", {})
            state = outcome.get("state", "failed") if trial.state.is_finished() else "running"
            blank = vars(Outcome(state))
            rows.append({"trial": trial.number, **blank, **outcome, "state": state, "values": self.values(trial)})
        return rows


def label_of(values: Mapping[str, Any]) -> str:
    """Settings as one text, by which equal ones are known."""
    return json.dumps(values, sort_keys=True)
