"""The run folder: creation, lookup, and the settings that a resumed run may change."""

import os
import shlex
import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.paths import absolute, is_url, path_of, paths_in
from ..config.resolve import resolve, to_yaml
from ..config.schema import Config
from ..errors import ENVIRONMENT, INTERRUPTED, SightlineError, listing
from .atomic import atomic_write, read_json, read_json_lines, remove, sha256
from .code_file import FOLDER, require_code
from .terminal import run_html

THRESHOLDS_FILE = "thresholds.json"
"""The threshold of each class, of a classifier of label sets."""
NOT_FINITE = "not-finite-batch.txt"
"""The names of the images of the batch whose loss was not finite, with which the run ended."""
TENSORBOARD_FOLDER = "tensorboard"
RUN_FILES = (
    "recipe.yaml",
    "provenance.json",
    "architecture.json",
    "splits.csv",
    "metrics.jsonl",
    "report.html",
    NOT_FINITE,
    THRESHOLDS_FILE,
    "checkpoints",
    "snapshots",
    "predictions",
    "figures",
    "export",
    TENSORBOARD_FOLDER,
    FOLDER,
)
DECIDES_RESULT = (
    "schedule.total_epochs",
    "train.epochs",
    "train.evaluate_every",
    "train.max_minutes",
    "train.patience",
)
"""Those of the CHANGEABLE settings that affect the final numbers. Runs can only be compared if these are equal."""
CHANGEABLE = (
    "data.path",
    "data.cache_dir",
    "data.resident",
    "data.on_copies",
    "report.snapshots",
    "report.baselines",
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
    "train.log",
    "train.preview",
)
MAX_NAME_BYTES = 200
"""Maximum length of a run folder's name in bytes: file systems allow 255, and temporary files add a suffix."""


@dataclass(frozen=True, init=False)
class Run:
    """A run folder, from its path or name. report: the path of report.html. Other functions accept a Run in place of
    its path. A notebook shows a run as its summary, curves and mistakes."""

    path: Path

    def __init__(self, path: str | os.PathLike[str]):
        object.__setattr__(self, "path", path_of(path))

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def metrics(self) -> dict[str, Any]:
        """The final numbers, {} while the run is unfinished. Raises SightlineError if the folder is not a run."""
        if (record := final_record(self.path)) is None and not (self.path / "recipe.yaml").is_file():
            existing(self.path)  # raises the error; it would also ask for the user's code, which numbers do not need
        return record or {}

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def open_report(self) -> bool:
        """Open the report in the browser of this machine; returns whether a browser was found."""
        return webbrowser.open(self.report.resolve().as_uri())

    def _repr_html_(self) -> str:
        return run_html(self.path, final_record(self.path) or {})


def with_absolute_paths(config: Config) -> Config:
    """The configuration with absolute paths, so that recipe.yaml is valid in every working directory."""
    named = {key: absolute(path) for key, path in paths_in(config).items() if not is_url(path)}
    # A pattern of shards (.tar) is not the path of a file.
    return resolve(config, {key: path for key, path in named.items() if os.path.exists(path) or path.endswith(".tar")})


def as_built(config: Config, precision: str, switched_off: Mapping[str, Any] | None = None) -> Config:
    """The configuration with which a run was built, so that recipe.yaml repeats it: with its precision in the
    place of `auto`. switched_off: settings that do not apply to its data, with the values for that."""
    changes = {"train.precision": precision} if config.train.precision == "auto" else {}
    changes |= switched_off or {}
    return resolve(config, changes) if changes else config


def built_in(folder: Path, config: Config) -> Config:
    """The configuration as it would have been built in an existing run folder, for comparisons with its recipe.yaml."""
    return as_built(config, precision_of(folder), provenance(folder).get("switched_off"))


def default_folder(name: str) -> Path:
    """runs/NAME. Raises SightlineError if the name is empty, too long, or contains a path separator."""
    marks = [mark for mark in ("/", "\\", "\0") if mark in name]
    if marks or name in ("", ".", "..") or len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        why = f"it contains {marks[0]!r}" if marks else "it is not a valid name" if len(name) < 3 else "it is too long"
        cure = "choose the run folder: --out FOLDER; or correct `name` in the recipe"
        raise SightlineError(f"a run folder cannot have the name {name[:80]!r}", where="name", why=why, cure=cure)
    return Path("runs") / name


def require_outside_data(folder: Path, data: str) -> None:
    """Raise SightlineError if the run folder is inside its data folder: its figures would later be read as images."""
    source = Path(absolute(data)).resolve()
    if data and source.is_dir() and folder.resolve().is_relative_to(source):
        why = "the figures of the run would later be read as images of the data"
        cure = f"choose a folder outside the data: --out {shlex.quote(str(source.parent / 'runs' / folder.name))}"
        raise SightlineError("the run folder is inside the data folder", where=str(folder), why=why, cure=cure)


def require_free_folder(folder: Path, overwrite: bool) -> None:
    """Raise SightlineError if a new run cannot be written to `folder`. This is the case if the path is a file, if
    the folder has files but no run, or if it has a run and `overwrite` is False."""
    if folder.exists() and not folder.is_dir():
        raise SightlineError(
            "the path of the run folder is a file", where=str(folder), cure="choose another folder: --out FOLDER"
        )
    holds_run = (folder / "recipe.yaml").is_file()
    if holds_run and not overwrite:
        cure = (
            f"resume that run: sightline resume {shlex.quote(str(folder))}; or choose another folder: --out FOLDER; "
            "or replace "
            "the run with --overwrite"
        )
        raise SightlineError("this folder already contains a run", where=str(folder), cure=cure)
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
    if visible and not holds_run:
        why = f"it contains {visible[0].name!r}, but no run"
        raise SightlineError(
            "this folder is not empty", where=str(folder), why=why, cure="choose another folder: --out FOLDER"
        )


def holds_run_of(folder: Path, config: Config) -> bool:
    """Whether the folder holds a run of exactly this configuration; `auto` is the precision that was chosen then."""
    path = folder / "recipe.yaml"
    return path.is_file() and path.read_text(encoding="utf-8") == to_yaml(built_in(folder, config))


def clear(folder: Path) -> None:
    """Remove the files of an earlier run from the folder; other files stay.

    recipe.yaml is removed last. As long as it exists, the folder counts as a run, which can be overwritten. Thus a
    crash during the removal leaves a folder that can still be overwritten.
    """
    remove(folder / name for name in reversed(RUN_FILES))


def write_config(folder: Path, config: Config) -> None:
    """Write recipe.yaml, fully resolved: `sightline train FOLDER/recipe.yaml` repeats the run."""
    atomic_write(folder / "recipe.yaml", to_yaml(config))


def existing(run: str | Any) -> Path:
    """The path of an existing run folder; if `run` is not one, SightlineError with the runs nearby.

    Also raises SightlineError if the run was trained with code of the user's that is not loaded.
    """
    folder = path_of(run)
    if (folder / "recipe.yaml").is_file():
        require_code(folder)
        return folder
    places = [folder, *folder.parents[:1], Path("runs")] if folder.is_dir() else [*folder.parents[:1], Path("runs")]
    near = next(
        (found for place in places if (found := sorted(file.parent for file in place.glob("*/recipe.yaml")))), []
    )
    cure = (
        "pass one of these runs:\n" + listing([str(path) for path in near])
        if near
        else "list the runs below a folder: sightline runs FOLDER; or train one: sightline start DATA"
    )
    why = (
        "it has no recipe.yaml" if folder.is_dir() else "it is a file" if folder.exists() else "there is no such folder"
    )
    owner = next((parent for parent in folder.absolute().parents if (parent / "recipe.yaml").is_file()), None)
    if owner:
        why, cure = "it is a subfolder of a run", f"pass the run folder: {shlex.quote(str(owner))}"
    raise SightlineError("this is not a run folder", where=str(run), why=why, cure=cure)


def unfinished_note(folder: Path) -> str:
    """A note for those who use a run whose training is not finished, or "" if it is."""
    try:
        events = [record.get("event") for record in read_json_lines(folder / "metrics.jsonl")]
    except SightlineError:  # weights can be used without a log
        return ""
    last = next((event for event in reversed(events) if event in ("done", "eval", "resume")), "done")
    return "" if last == "done" else "note: this run's training is not finished; its best weights so far are used"


def shipped_checkpoints(folder: Path) -> list[Path]:
    """The checkpoint folders of the run's final model: the epochs of an ensemble, else checkpoints/best."""
    members = sorted((folder / "checkpoints").glob("epoch-*"))
    return members or [folder / "checkpoints" / "best"]


def weight_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each weights file of the run's final model, by the name of its checkpoint folder (such as `best`)."""
    return {path.name: sha256(path / "model.safetensors") for path in shipped_checkpoints(folder)}


def require_writable(folder: Path, command: str) -> None:
    """Raise SightlineError if a run folder cannot be written to, before its results are computed."""
    if folder.is_dir() and not os.access(folder, os.W_OK):
        name = shlex.quote(str(folder))
        why, cure = "the results are written into the run", f"copy the run: cp -r {name} NEW; sightline {command} NEW"
        raise SightlineError("this run cannot be written to", where=str(folder), why=why, cure=cure, status=ENVIRONMENT)


def require_weights(folder: Path) -> None:
    """Raise SightlineError if a run has no weights yet."""
    missing = [path for path in shipped_checkpoints(folder) if not (path / "model.safetensors").is_file()]
    if missing:
        name, absent = shlex.quote(str(folder)), missing[0].relative_to(folder)
        records = read_json_lines(folder / "metrics.jsonl")
        losses = [each.get("loss") for each in records if each.get("event") == "eval"]
        why = f"{absent} is missing, because no epoch has been evaluated yet"
        cure = f"train the run further: sightline resume {name}"
        if losses and not any(losses):  # a loss that is not finite is null there
            why = f"{absent} is missing, because the validation loss was not finite in any evaluated epoch"
            cure = (
                f"train with a lower learning rate: sightline train {name}/recipe.yaml --out {name}-2 --optim.lr RATE"
            )
        raise SightlineError("this run has no weights yet", where=str(folder), why=why, cure=cure)


def is_started(folder: Path) -> bool:
    """Whether a run has a state from which it can be resumed."""
    states = (folder / "checkpoints" / "last").glob("state-*.safetensors")
    return any(states) and (folder / "recipe.yaml").is_file()


def is_finished(folder: Path) -> bool:
    """Whether the run is complete: in metrics.jsonl there is a `done` event, and no `resume` event after it."""
    events = [r["event"] for r in read_json_lines(folder / "metrics.jsonl") if r.get("event") in ("resume", "done")]
    return bool(events) and events[-1] == "done"


def final_record(folder: Path) -> dict[str, Any] | None:
    """The final numbers of a finished run, from its metrics.jsonl; None if it is not finished, or no run."""
    if not folder.is_dir() or not is_finished(folder):
        return None
    return [record for record in read_json_lines(folder / "metrics.jsonl") if record.get("event") == "done"][-1]


def provenance(folder: Path) -> dict[str, Any]:
    """The content of a run's provenance.json; {} if the file is missing or damaged."""
    record = read_json(folder / "provenance.json")
    return record if isinstance(record, dict) else {}


def precision_of(folder: Path, otherwise: str = "auto") -> str:
    """The run's precision in provenance.json, fp32, bf16 or fp16; `otherwise` if it is not recorded there. Raises
    SightlineError for any other value."""
    name = provenance(folder).get("precision", otherwise)
    if name not in (otherwise, "fp32", "bf16", "fp16"):
        why, cure = (
            "the file is damaged or was edited",
            'set "precision" in this file to "fp32", "bf16" or "fp16", whichever the run used',
        )
        where = str(folder / "provenance.json")
        raise SightlineError(f"unknown precision {str(name)[:80]!r}", where=where, why=why, cure=cure)
    return name


def check_changes(old: Config, new: Config) -> None:
    """Raise SightlineError if a resumed run has other settings than before, apart from the settings in CHANGEABLE,
    or has fewer epochs. Other settings would contradict the steps already done."""
    changed = [key for key in differences(old, new) if key not in CHANGEABLE]
    if changed:
        shown = [f"{key}: {value_of(old, key)!r} -> {value_of(new, key)!r}" for key in changed]
        cure = (
            "resume without these options and with the original recipe.yaml, or start a new run from the weights of "
            "this one: "
            "sightline train RECIPE --data DATA --model.weights RUN"
        )
        why = "these settings determined the steps or the files that are already done:\n" + listing(shown)
        raise SightlineError("a resumed run cannot change these settings", why=why, cure=cure)
    if new.train.epochs < old.train.epochs:
        why = f"it was started with {old.train.epochs} epochs, and {new.train.epochs} are set now"
        raise SightlineError(
            "a run cannot be shortened",
            where="train.epochs",
            why=why,
            cure="set at least this number: --train.epochs NUMBER; or use its best weights so far: predict, export",
        )


def differences(old: Config, new: Config) -> list[str]:
    """The dotted keys of the settings that differ between two configurations, in order. The precision `auto` in `new`
    stands for that of `old`."""
    before, after = old.model_dump(), as_built(new, old.train.precision).model_dump()
    keys = []
    for section, value in after.items():
        if isinstance(value, dict):
            keys += [f"{section}.{key}" for key in value if value[key] != before[section][key]]
        elif value != before[section]:
            keys.append(section)
    return keys


def value_of(config: Config, key: str) -> Any:
    """The value of the setting with a dotted key, such as `optim.lr`."""
    value: Any = config.model_dump()
    for part in key.split("."):
        value = value[part]
    return value


def interrupted_error(folder: Path, step: int, total_steps: int) -> SightlineError:
    """The error (status INTERRUPTED) for a run that a signal stopped, after its state was saved."""
    return SightlineError(
        f"interrupted at step {step:,} of {total_steps:,}; the state is saved",
        where=str(folder),
        cure=f"sightline resume {shlex.quote(str(folder))}",
        status=INTERRUPTED,
    )
