"""Folders of several runs, such as a transfer grid: train each run, resume it, or leave it if it is finished."""

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..config.paths import path_of
from ..config.resolve import resolve
from ..config.schema import Config
from ..errors import INTERRUPTED, SightlineError
from ..models.pretrained.preprocessing import with_own_preprocessing
from ..models.weights import weights_folder
from ..runs import run_folder
from ..runs.atomic import read_json, sha256, write_json
from ..runs.run_folder import value_of
from ..runs.signals import StopRequest
from ..tasks.files import load_recipe_file
from ..train import resume, train

INPUTS = "inputs.json"
"""File in the folder with a digest of each input of the runs, such as their data."""


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
    config = trained_as(several, name, config)
    changed = require_same_recipe(several, name, config)
    started = run_folder.is_started(run)
    if started and run_folder.is_finished(run):
        several.say(f"{name}: done")
        return False
    several.say(f"\n{name}: {'resuming' if started else 'training'}")
    try:
        if started:
            resume(run, quiet=several.quiet, **{key: value_of(config, key) for key in changed})
        else:
            train(config, out=run, overwrite=True, quiet=several.quiet)
    except SightlineError as error:
        if error.status != INTERRUPTED:
            raise
        raise several.interrupted(error.what, run, error.why) from error
    return True


def trained_as(several: Several, name: str, config: Config) -> Config:
    """The configuration with which the run with this path in the folder is trained."""
    named = resolve(config, {"name": (several.folder / name).name})
    return with_own_preprocessing(run_folder.with_absolute_paths(named))[0]


def require_same_recipe(several: Several, name: str, config: Config) -> list[str]:
    """Raise SightlineError if a started run was trained with settings that make it another run than that of `config`,
    as returned by `trained_as`. Returns the keys of those that differ and that a resumed run may change."""
    run = several.folder / name
    if not run_folder.is_started(run):
        return []
    old, new = load_recipe_file(run / "recipe.yaml"), run_folder.built_in(run, config)
    if changed := recipe_changes(old, new):
        differing = [f"{key} was {value_of(old, key)}, is {value_of(config, key)} now" for key in changed]
        what = f"this run has other settings than the {several.whole} now"
        cure = "choose another folder: --out FOLDER"
        cure += "; or delete the runs in this one: --overwrite" * several.replaces
        raise SightlineError(what, where=str(run), why="; ".join(differing), cure=cure)
    return run_folder.differences(old, new)


def changed_inputs(folder: Path, now: Mapping[str, str]) -> list[str]:
    """The names of the inputs whose digest is not the one that an earlier command has stored in the folder."""
    before = read_json(folder / INPUTS)
    return [name for name, digest in now.items() if isinstance(before, dict) and before.get(name, digest) != digest]


def store_inputs(folder: Path, now: Mapping[str, str]) -> None:
    """Add the digests of inputs to those that are stored in the folder."""
    before = read_json(folder / INPUTS)
    write_json(folder / INPUTS, (before if isinstance(before, dict) else {}) | dict(now))


def weights_file(given: str) -> Path | None:
    """The weight file at a path: the file itself, or that of a run or checkpoint folder. None for other values of
    `model.weights`."""
    path = path_of(given)
    folder = weights_folder(path)
    file = folder / "model.safetensors" if folder else path
    return file if given and file.is_file() else None


def weights_digest(given: str) -> str:
    """SHA-256 of the weight file at a path, in hexadecimal; "" for other values of `model.weights`."""
    file = weights_file(given)
    return sha256(file) if file else ""


def recipe_changes(old: Config, new: Config) -> list[str]:
    """Dotted keys with different values in two recipes, without those that a resumed run may change.

    The exceptions are `data.path` and the keys in DECIDES_RESULT: they are included, because runs with other values are
    not comparable.
    """
    harmless = {*run_folder.CHANGEABLE} - {"data.path", *run_folder.DECIDES_RESULT}
    return [key for key in run_folder.differences(old, new) if key not in harmless]


def parse_seeds(text: str | int | Iterable[int], option: str) -> tuple[int, ...]:
    """Parse `0,1,2`, a number or several numbers into integers. option: the name of the option, for messages."""
    if not isinstance(text, str):
        text = ",".join(map(str, text)) if isinstance(text, Iterable) else str(text)
    parts = text.replace(" ", "").split(",")
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise SightlineError(
            f"{option} must be whole numbers, found {text!r}", cure=f"separate whole numbers by commas: {option} 0,1,2"
        )
    return tuple(map(int, parts))
