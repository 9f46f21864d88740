"""The run folder: claiming a new one, finding an existing one, and what a resumed run may change."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.paths import absolute, is_address, paths_in
from ..config.resolve import resolve, to_yaml
from ..config.schema import Config
from ..errors import INTERRUPTED, SightlineError, listing
from .atomic import atomic_write, read_json, read_json_lines, remove, sha256

WRITTEN = (
    "recipe.yaml",
    "provenance.json",
    "architecture.json",
    "splits.csv",
    "metrics.jsonl",
    "report.html",
    "not-finite-batch.txt",
    "checkpoints",
    "snapshots",
    "predictions",
    "figures",
    "export",
)
CHANGEABLE = (
    "data.path",
    "data.cache_dir",
    "data.resident",
    "data.on_copies",
    "report.snapshots",
    "schedule.total_epochs",
    "train.epochs",
    "train.max_minutes",
    "train.patience",
    "train.evaluate_every",
    "train.checkpoint_minutes",
    "train.eval_batch_size",
    "train.threads",
    "train.rank_timeout_seconds",
    "train.on_out_of_memory",
)
LONGEST_NAME = 200
"""Bytes of the name of a run folder; file systems take 255, and temporary files beside it need some."""


@dataclass(frozen=True)
class Run:
    """A run folder. `metrics` are the final numbers, empty while the run is unfinished."""

    path: Path

    @property
    def metrics(self) -> dict[str, Any]:
        done = [record for record in read_json_lines(self.path / "metrics.jsonl") if record.get("event") == "done"]
        return done[-1] if done and is_finished(self.path) else {}

    @property
    def report(self) -> Path:
        return self.path / "report.html"


def with_whole_paths(config: Config) -> Config:
    """The configuration with absolute paths, so that recipe.yaml holds wherever one stands when it is used again."""
    named = {key: absolute(path) for key, path in paths_in(config).items() if not is_address(path)}
    return resolve(config, {key: path for key, path in named.items() if leads(path)})


def leads(path: str) -> bool:
    """Whether something lies at an absolute path; that may be a pattern of shards, and then is no file."""
    return os.path.exists(path) or path.endswith(".tar")


def default_folder(name: str) -> Path:
    """runs/NAME; SightlineError where the name, which a stranger may have chosen, would lead elsewhere or is none."""
    marks = [mark for mark in ("/", "\\", "\0") if mark in name]
    if marks or name in ("", ".", "..") or len(name.encode("utf-8", "surrogatepass")) > LONGEST_NAME:
        why = f"it holds {marks[0]!r}" if marks else "it is no name" if len(name) < 3 else "it is too long"
        cure = "name the folder with --out, or mend `name` in the recipe"
        raise SightlineError(f"a run folder cannot be called {name[:80]!r}", where="name", why=why, cure=cure)
    return Path("runs") / name


def refuse_inside(folder: Path, data: str) -> None:
    """SightlineError where the run would lie within its own data: its figures would be taken for images next time."""
    place = Path(absolute(data)).resolve()
    if data and place.is_dir() and folder.resolve().is_relative_to(place):
        cure = f"choose a place beside it: --out {shlex.quote(str(place.parent / 'runs' / folder.name))}"
        raise SightlineError("the run folder lies inside the data", where=str(folder), cure=cure)


def refuse_taken(folder: Path, overwrite: bool) -> None:
    """SightlineError where a new run must not go: into another run unless told, and never among a stranger's files."""
    if folder.exists() and not folder.is_dir():
        raise SightlineError("the run folder is a file", where=str(folder), cure="choose another with --out")
    holds_run = (folder / "recipe.yaml").is_file()
    if holds_run and not overwrite:
        cure = f"`sightline resume {shlex.quote(str(folder))}`, another --out, or --overwrite to replace it"
        raise SightlineError("there is a run in this folder already", where=str(folder), cure=cure)
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
    if visible and not holds_run:
        why = f"it holds {visible[0].name!r} and no run"
        raise SightlineError("this folder is not empty", where=str(folder), why=why, cure="choose another with --out")


def is_of(folder: Path, config: Config) -> bool:
    """Whether the folder holds a run of exactly this configuration."""
    path = folder / "recipe.yaml"
    return path.is_file() and path.read_text(encoding="utf-8") == to_yaml(config)


def clear(folder: Path) -> None:
    """Remove what an earlier run wrote into the folder, and nothing else.

    recipe.yaml goes last: while it is there the folder can be taken again by whoever comes after a crash.
    """
    remove(folder / name for name in reversed(WRITTEN))


def write_config(folder: Path, config: Config) -> None:
    """recipe.yaml, fully resolved: `sightline train FOLDER/recipe.yaml` repeats the run."""
    atomic_write(folder / "recipe.yaml", to_yaml(config))


def existing(run: str | Any) -> Path:
    """The folder of a run; SightlineError that lists the runs nearby where `run` is none."""
    folder = Path(run)
    if (folder / "recipe.yaml").is_file():
        return folder
    near = sorted(path.parent for path in (folder if folder.is_dir() else Path("runs")).glob("*/recipe.yaml"))
    cure = "runs that are here:\n" + listing([str(path) for path in near]) if near else "`sightline train` makes one"
    why = (
        "it has no recipe.yaml" if folder.is_dir() else "it is a file" if folder.exists() else "there is nothing there"
    )
    owner = next((parent for parent in folder.absolute().parents if (parent / "recipe.yaml").is_file()), None)
    if owner:
        why, cure = "it is a part of a run", f"name the run itself: {shlex.quote(str(owner))}"
    raise SightlineError("this is not a run", where=str(run), why=why, cure=cure)


def shipped_checkpoints(folder: Path) -> list[Path]:
    """The checkpoint folders that make the run's model: the k epochs of an ensemble, else checkpoints/best."""
    members = sorted((folder / "checkpoints").glob("epoch-*"))
    return members or [folder / "checkpoints" / "best"]


def weights_of(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of weights that the run ships, by the name of its checkpoint."""
    return {place.name: sha256(place / "model.safetensors") for place in shipped_checkpoints(folder)}


def require_weights(folder: Path) -> None:
    """SightlineError where a run has no weights to use yet."""
    missing = [place for place in shipped_checkpoints(folder) if not (place / "model.safetensors").is_file()]
    if missing:
        why = f"there is no {missing[0].relative_to(folder)}: no epoch was finished and evaluated"
        cure = f"sightline resume {shlex.quote(str(folder))}"
        raise SightlineError("this run has no weights yet", where=str(folder), why=why, cure=cure)


def is_finished(folder: Path) -> bool:
    """Whether the run reached its end: the last start, resume or done event is `done`."""
    events = [r["event"] for r in read_json_lines(folder / "metrics.jsonl") if r.get("event") in ("resume", "done")]
    return bool(events) and events[-1] == "done"


def provenance(folder: Path) -> dict[str, Any]:
    """provenance.json of a run; empty where it is missing or torn."""
    record = read_json(folder / "provenance.json")
    return record if isinstance(record, dict) else {}


def precision_of(folder: Path, otherwise: str = "auto") -> str:
    """fp32 or bf16, whichever a run was made in; `otherwise` where provenance.json does not tell. SightlineError where
    it says anything else, as a damaged one or a stranger's may."""
    name = provenance(folder).get("precision", otherwise)
    if name not in (otherwise, "fp32", "bf16"):
        why, cure = "it is no record of a run, or has been damaged", 'put "fp32" or "bf16" there, as the run was made'
        where = str(folder / "provenance.json")
        raise SightlineError(f"there is no precision {str(name)[:80]!r}", where=where, why=why, cure=cure)
    return name


def check_changes(old: Config, new: Config) -> None:
    """Refuse changes that would make the steps already done those of another run."""
    changed = [key for key in differences(old, new) if key not in CHANGEABLE]
    if changed:
        shown = [f"{key}: {value_of(old, key)!r} -> {value_of(new, key)!r}" for key in changed]
        cure = "resume without them (and with recipe.yaml as the run wrote it), or begin a new run from these weights: "
        cure += "sightline train ... --model.weights RUN"
        why = "these settings shaped the steps already done, or what was kept of them:\n" + listing(shown)
        raise SightlineError("a resumed run cannot change this", why=why, cure=cure)
    if new.train.epochs < old.train.epochs:
        why = f"{old.train.epochs} -> {new.train.epochs}"
        raise SightlineError("a run cannot be shortened", where="train.epochs", why=why, cure="give a larger number")


def differences(old: Config, new: Config) -> list[str]:
    """Dotted keys in which two configurations differ, in order."""
    before, after = old.model_dump(), new.model_dump()
    keys = []
    for section, value in after.items():
        if isinstance(value, dict):
            keys += [f"{section}.{key}" for key in value if value[key] != before[section][key]]
        elif value != before[section]:
            keys.append(section)
    return keys


def value_of(config: Config, key: str) -> Any:
    """The value at a dotted key."""
    value: Any = config.model_dump()
    for part in key.split("."):
        value = value[part]
    return value


def interrupted(folder: Path, step: int, total_steps: int) -> SightlineError:
    """The polite end after a signal: everything is saved."""
    return SightlineError(
        f"interrupted at step {step:,} of {total_steps:,}; saved",
        where=str(folder),
        cure=f"sightline resume {shlex.quote(str(folder))}",
        status=INTERRUPTED,
    )
