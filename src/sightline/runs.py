"""The run folder: claiming a new one, finding an existing one, and what a resumed run may change."""

import json
import shlex
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .config import Config, to_yaml
from .errors import INTERRUPTED, SightlineError, listing
from .files import atomic_write, read_json_lines, write_json

if TYPE_CHECKING:
    from .build import Parts
    from .data.cache import Decoded

WRITTEN = (
    "recipe.yaml",
    "provenance.json",
    "metrics.jsonl",
    "report.html",
    "not-finite-batch.txt",
    "checkpoints",
    "snapshots",
    "predictions",
    "figures",
)
CHANGEABLE = ("train.epochs", "train.max_minutes", "train.patience", "train.checkpoint_minutes", "train.threads")


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


def clear(folder: Path) -> None:
    """Remove what an earlier run wrote into the folder, and nothing else."""
    for path in (folder / name for name in WRITTEN):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def start(folder: Path, config: Config, parts: "Parts", warnings: list[str]) -> None:
    """Write what is known before the first step: recipe.yaml and provenance.json with the warnings so far."""
    from .provenance import describe_run

    write_config(folder, config)
    notes = [*parts.source.notes, *warnings]
    write_json(
        folder / "provenance.json",
        describe_run(parts.device, parts.dtype, seed=config.train.seed, notes=notes, **parts.facts),
    )


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
    why = "it has no recipe.yaml" if folder.is_dir() else "there is no such folder"
    raise SightlineError("this is not a run", where=str(run), why=why, cure=cure)


def shipped_checkpoints(folder: Path) -> list[Path]:
    """The checkpoint folders that make the run's model: the k epochs of an ensemble, else checkpoints/best."""
    members = sorted((folder / "checkpoints").glob("epoch-*"))
    return members or [folder / "checkpoints" / "best"]


def is_finished(folder: Path) -> bool:
    """Whether the run reached its end: the last start, resume or done event is `done`."""
    events = [r["event"] for r in read_json_lines(folder / "metrics.jsonl") if r.get("event") in ("resume", "done")]
    return bool(events) and events[-1] == "done"


def provenance(folder: Path) -> dict[str, Any]:
    """provenance.json of a run; empty where it is missing or torn."""
    try:
        return json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def check_changes(old: Config, new: Config, extend: str) -> None:
    """Refuse changes that would make the steps already done those of another run."""
    if extend not in ("stretch", "continue"):
        raise SightlineError(f"--extend {extend!r} is unknown", cure="--extend stretch, or --extend continue")
    changed = [key for key in differences(old, new) if key not in CHANGEABLE and not key.startswith("report.")]
    if changed:
        shown = [f"{key}: {value_of(old, key)!r} -> {value_of(new, key)!r}" for key in changed]
        cure = "resume without them, or begin a new run from these weights: sightline train ... --model.weights RUN"
        why = "these settings shaped the steps already done:\n" + listing(shown)
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


def check_data(folder: Path, parts: "Parts") -> None:
    """Refuse to go on with other images, labels or classes than the run began with."""
    before, now = provenance(folder).get("data"), parts.facts["data"]
    if not before:
        return
    changed = [key for key in ("classes", "counts", "digest") if before.get(key) != now[key]]
    if changed:
        why = f"changed since the run began: {', '.join(changed)}"
        cure = "put the data back as it was, or begin a new run with --model.weights RUN"
        raise SightlineError("the data is not what this run began with", where=now["path"], why=why, cure=cure)


def interrupted(folder: Path, step: int, total_steps: int) -> SightlineError:
    """The polite end after a signal: everything is saved."""
    return SightlineError(
        f"interrupted at step {step:,} of {total_steps:,}; saved",
        where=str(folder),
        cure=f"sightline resume {shlex.quote(str(folder))}",
        status=INTERRUPTED,
    )


def with_classes(decoded: "Decoded", classes: tuple[str, ...], where: str) -> "Decoded":
    """Data of other origin with its labels in the order of a run's classes, matched by name."""
    unknown = [name for name in decoded.classes if name not in classes]
    if unknown:
        why = "the run was not trained on: " + ", ".join(unknown[:10])
        cure = f"rename or remove those classes; the run knows: {', '.join(classes[:10])}{' ...' * (len(classes) > 10)}"
        raise SightlineError("the data has other classes than the run", where=where, why=why, cure=cure)
    if decoded.labels is None:
        cure = "`sightline predict` needs no labels"
        raise SightlineError("evaluation needs labels", where=where, cure=cure)
    order = np.array([classes.index(name) for name in decoded.classes])
    return replace(decoded, labels=order[decoded.labels], classes=classes)
