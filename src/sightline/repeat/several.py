"""Folders of several runs, such as a transfer grid: train each run, resume it, or leave it if it is finished."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..config.resolve import resolve
from ..config.schema import Config
from ..errors import INTERRUPTED, SightlineError
from ..models.pretrained.preprocessing import with_own_preprocessing
from ..runs import run_folder
from ..runs.run_folder import value_of
from ..runs.signals import StopRequest
from ..tasks.files import load_recipe_file
from ..train import resume, train


@dataclass(frozen=True)
class Several:
    """A folder of several runs and the command that trains them.

    whole: what the runs are together, for messages: "grid". signals: the number of signals that the process had
    received before. replaces: whether --overwrite deletes all runs.
    """

    whole: str
    replaces: bool
    folder: Path
    say: Callable[[str], None]
    quiet: bool
    signals: int

    def interrupted(self, what: str, where: Path, why: str = "") -> SightlineError:
        """The error of an interrupted command, with the way to resume it."""
        cure = f"run the same command again to resume the {self.whole} in {shlex.quote(str(self.folder))}"
        return SightlineError(what, where=str(where), why=why, cure=cure, status=INTERRUPTED)


def train_or_resume(several: Several, name: str, config: Config) -> bool:
    """Train the run with this path in the folder, resume it, or do nothing if it is finished; returns whether it was
    trained.

    Raises SightlineError if the run has a checkpoint that was trained with different settings, and if a signal has
    arrived since the run before.
    """
    if StopRequest.received > several.signals:  # after the last step of a run, too late to interrupt that run
        raise several.interrupted(f"the {several.whole} was interrupted between two runs", several.folder)
    run = several.folder / name
    config, _ = with_own_preprocessing(run_folder.with_absolute_paths(resolve(config, {"name": run.name})))
    started = run_folder.is_started(run)
    old = load_recipe_file(run / "recipe.yaml") if started else config
    changed = recipe_changes(old, run_folder.built_in(run, config)) if started else []
    if changed:
        differing = [f"{key} was {value_of(old, key)}, is {value_of(config, key)} now" for key in changed]
        what = f"this run has other settings than the {several.whole} now"
        cure = "choose another folder: --out FOLDER"
        cure += "; or delete the runs in this one: --overwrite" * several.replaces
        raise SightlineError(what, where=str(run), why="; ".join(differing), cure=cure)
    if started and run_folder.is_finished(run):
        several.say(f"{name}: done")
        return False
    several.say(f"\n{name}: {'resuming' if started else 'training'}")
    try:
        if started:
            resume(run, quiet=several.quiet)
        else:
            train(config, out=run, overwrite=True, quiet=several.quiet)
    except SightlineError as error:
        if error.status != INTERRUPTED:
            raise
        raise several.interrupted(error.what, run, error.why) from error
    return True


def recipe_changes(old: Config, new: Config) -> list[str]:
    """Dotted keys with different values in two recipes, without those that a resumed run may change.

    The exceptions are `data.path` and the keys in DECIDES_RESULT: they are included, because runs with other values are
    not comparable.
    """
    harmless = {*run_folder.CHANGEABLE} - {"data.path", *run_folder.DECIDES_RESULT}
    return [key for key in run_folder.differences(old, new) if key not in harmless]


def parse_seeds(text: str, option: str) -> tuple[int, ...]:
    """Parse `0,1,2` into integers. option: the name of the option, for messages."""
    parts = text.replace(" ", "").split(",")
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise SightlineError(
            f"{option} must be whole numbers, found {text!r}", cure=f"separate whole numbers by commas: {option} 0,1,2"
        )
    return tuple(map(int, parts))
