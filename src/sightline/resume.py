"""Going on with a run: after an interruption, or beyond its end."""

import os
import shlex
from pathlib import Path
from typing import Any

from .config.resolve import load_recipe_file, resolve, validated
from .config.schema import Config
from .engine import distributed, training_state
from .engine.memory import explained_memory
from .engine.schedules import ends_at_zero, schedule_epochs
from .engine.setup import built, claimed
from .errors import SightlineError
from .report.page import write_report
from .runs import run_folder
from .runs.atomic import sweep_temporaries
from .runs.log import RunLog
from .runs.run_folder import Run
from .runs.signals import stoppable
from .train import Progress, assemble, run_epochs


def resume(run: str | os.PathLike[str], *, extend: str = "stretch", quiet: bool = False, **settings: Any) -> Run:
    """Go on with an interrupted run, or lengthen a finished one with `**{"train.epochs": 60}`.

    extend: "stretch" lays the schedule over the new length; "continue" keeps the old one and holds its last rate.
    Only settings that leave the mathematics of the past steps alone may change; others raise SightlineError.
    """
    folder = run_folder.existing(run)
    if extend not in ("stretch", "continue"):
        raise SightlineError(f"--extend {extend!r} is unknown", cure="--extend stretch, or --extend continue")
    written = load_recipe_file(folder / "recipe.yaml")
    with (
        distributed.joined(written.train.rank_timeout_seconds) as world,
        claimed(folder, quiet) as log,
        explained_memory(written),
        stoppable(folder),
    ):
        if world.leads:
            sweep_temporaries(folder)
        distributed.told(None)  # no process reads the folder before the first has locked and swept it
        tensors, values = training_state.load_state(folder, log)
        # The state knows by which settings its steps were made; recipe.yaml may have been edited since, or be ahead of
        # the state where a lengthening was cut off between the two. Both mean: these changes are wanted.
        old = validated(values["config"], str(folder))
        config = run_folder.with_whole_paths(lengthened(written, resolve(written, settings), extend))
        run_folder.check_changes(old, config)
        progress = Progress(**values["progress"])
        if run_folder.is_finished(folder) and config == old:
            return finished(folder, old, progress, log)
        parts = built(config, log, run_folder.precision_of(folder, ""), fresh=False)
        run_folder.check_data(folder, parts)
        training = assemble(config, folder, log, parts, progress)
        training_state.restore(training, tensors, values)
        distributed.require_same({"step": str(progress.step)})
        log.rewind(progress.step, progress.seconds)
        log.event("resume", step=progress.step, epoch=progress.step / training.epoch_steps)
        note = run_folder.note_resume(folder, old, config, parts, progress.step) if world.leads else ""
        if note:
            log.say(note)
        if config != old:
            changes = (
                f"{key} {run_folder.value_of(old, key)} -> {run_folder.value_of(config, key)}"
                for key in run_folder.differences(old, config)
            )
            log.say(f"changed since the run was saved: {', '.join(changes)}")
            progress.stopped = ""
            if world.leads:
                run_folder.write_config(folder, config)
            training_state.save_state(training)
        return run_epochs(training)


def lengthened(old: Config, new: Config, extend: str) -> Config:
    """`new` with the length of its schedule, where it has more epochs than `old`: theirs, or kept as it was."""
    if new.train.epochs <= old.train.epochs or new.schedule.total_epochs != old.schedule.total_epochs:
        return new
    if extend == "continue" and ends_at_zero(old):
        why = f"the schedule {old.schedule.name} ends at a learning rate of 0, which would be held"
        cure = "--extend stretch, which lays the schedule over the new length"
        raise SightlineError("more epochs would learn nothing", where="--extend continue", why=why, cure=cure)
    return resolve(new, {"schedule.total_epochs": schedule_epochs(old) if extend == "continue" else 0})


def finished(folder: Path, config: Config, progress: Progress, log: RunLog) -> Run:
    """Say that there is nothing to do and how to go on all the same; draw the report if it is missing."""
    epochs = config.train.epochs
    done = "1 epoch is done" if epochs == 1 else f"{epochs} epochs are done"
    name, why = shlex.quote(str(folder)), progress.stopped or done
    if "minutes" in progress.stopped:
        more = f"--train.max_minutes {2 * config.train.max_minutes:g}"
    elif progress.stopped:
        more = f"--train.patience {2 * config.train.patience}"
    else:
        more = f"--train.epochs {2 * epochs}"
    log.say(f"{folder} is finished ({why}); to go on: sightline resume {name} {more}")
    run = Run(folder)
    if not run.report.is_file():
        log.say(f"report: {write_report(folder)}")
    return run
