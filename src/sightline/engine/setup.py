"""Setup before the first step: lock the folder, build the parts, write the first files, compare processes."""

import contextlib
import hashlib
import json
import time
from collections.abc import Generator
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..config.resolve import flat
from ..config.schema import Config
from ..data.loader import training_batches
from ..data.types import Decoded
from ..errors import SightlineError
from ..insight.architecture.tracing import trace
from ..insight.architecture.tree import write_architecture
from ..insight.style import png
from ..runs import run_folder
from ..runs.atomic import atomic_write, write_json
from ..runs.checkpoint import preflight
from ..runs.csv_io import csv_text
from ..runs.lock import lock_run
from ..runs.log import RunLog
from ..runs.provenance import command_line, describe_run, git_commit, installed_versions, rounding_note
from . import distributed, training_state
from .device import pick_precision, precision_name, rounding
from .memory import keep_freed_memory
from .parts import Parts, build
from .state import Training, TrainingFunctions

PREVIEWED = 48
"""Largest number of images in a preview."""


@contextlib.contextmanager
def open_run(folder: Path, quiet: bool) -> Generator[RunLog]:
    """Lock the run folder and open its log within the block; on ranks other than 0 no lock and a silent log."""
    leads = distributed.world().is_rank0
    with lock_run(folder) if leads else contextlib.nullcontext() as note, RunLog(folder, quiet, writes=leads) as log:
        if note:
            log.warn(note)
        yield log


def build_parts(
    config: Config, functions: TrainingFunctions, log: RunLog, precision: str = "", fresh: bool = True
) -> Parts:
    """Call `build` with the same precision, settings and data in all processes; one process per machine decodes."""
    keep_freed_memory()
    if distributed.world().size > 1:  # before decoding
        distributed.require_same({"recipe": settings_of(config)})
    with distributed.local_rank0_first():
        parts = build(functions.build, config, log.say, precision, fresh)
    if distributed.world().size > 1:
        if config.train.on_out_of_memory != "stop":
            cure = "--train.on_out_of_memory stop, and a smaller --train.batch_size with --optim.accumulate"
            raise SightlineError(
                "several processes cannot halve their batches", where="train.on_out_of_memory", cure=cure
            )
        chosen = distributed.broadcast_json(precision_name(parts.dtype))
        parts = replace(parts, dtype=pick_precision(chosen, parts.device))
        splits = {"train": parts.train, "val": parts.val}
        digests = {f"data of {split}": digest for split, digest in parts.facts["data"]["digest"].items()}
        made = {f"data of {split}": partial(lines_of, decoded) for split, decoded in splits.items()}
        distributed.require_same(digests, made)
    return parts


def settings_of(config: Config) -> str:
    """Every setting with its dotted key, one a line."""
    values = flat(config.model_dump(mode="json"), "the recipe", type(config))
    return "\n".join(f"{key}: {json.dumps(value)}" for key, value in values.items())


def lines_of(split: Decoded) -> list[str]:
    """The content behind the digest of a split: its classes, then for each image its name, its class, and the beginning
    of the SHA-256 of its pixels and mask (not for shards)."""
    lines = [f"classes {', '.join(split.classes)}"]
    for row, name in enumerate(split.names):
        line = name
        if split.labels is not None:
            line += f", {split.classes[int(split.labels[row])]}"
        if split.stream is None:
            seen = hashlib.sha256(split.images[row].tobytes())
            seen.update(b"" if split.masks is None else split.masks[row].tobytes())
            line += f", pixels {seen.hexdigest()[:8]}"
        lines.append(line)
    return lines


def start_run(config: Config, folder: Path, log: RunLog, parts: Parts) -> None:
    """Prepare the folder of a new run: remove the files of an earlier run and write the first files."""
    preflight(folder, training_state.needed_bytes(config, parts.model))
    run_folder.clear(folder)  # only after all checks of the new run
    log.rewind(0, 0.0)
    write_start(folder, config, parts, log.warnings)
    training_state.save_samples(folder, parts)
    log.event("start", step=0, epoch=0)


def write_start(folder: Path, config: Config, parts: Parts, warnings: list[str]) -> None:
    """Write recipe.yaml, splits.csv, provenance.json with the warnings, and architecture.json."""
    run_folder.write_config(folder, config)
    write_splits(folder / "splits.csv", parts)
    notes = [*parts.source.notes, *warnings]
    write_json(
        folder / "provenance.json",
        describe_run(
            rounding(parts.device), precision_name(parts.dtype), seed=config.train.seed, notes=notes, **parts.facts
        ),
    )
    note_architecture(folder, config, parts)


def write_splits(path: Path, parts: Parts) -> None:
    """Write a CSV of filename, label (class name, if any) and split of all training and validation images."""
    rows: list[tuple[str, str, str]] = [("filename", "label", "split")]
    for split, decoded in (("train", parts.train), ("val", parts.val)):
        labels = [""] * len(decoded.names)
        if decoded.labels is not None and decoded.labels.ndim == 1:
            labels = [decoded.classes[label] for label in decoded.labels]
        rows += [(name, label, split) for name, label in zip(decoded.names, labels, strict=True)]
    atomic_write(path, csv_text(rows))


def note_architecture(folder: Path, config: Config, parts: Parts) -> Path:
    """Write architecture.json; for a model that cannot be traced, with a note."""
    traced, name = parts.traced, config.model.name
    return write_architecture(
        folder / "architecture.json",
        lambda: trace(parts.model, traced.image, traced.run, name, traced.method),
        name,
        traced.image,
    )


def note_resume(folder: Path, old: Config, new: Config, parts: Parts, step: int) -> str:
    """Record a resume in provenance.json: command, versions, step and changed settings.

    Returns, and adds to the notes, why the run is not bit-identical to an uninterrupted one, or "". Writes
    architecture.json if it is missing.
    """
    record = run_folder.provenance(folder)
    entry = {
        "command": command_line(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "step": step,
        "changed": {
            key: [run_folder.value_of(old, key), run_folder.value_of(new, key)]
            for key in run_folder.differences(old, new)
        },
        "git_commit": git_commit(),
        "versions": installed_versions(),
        **rounding(parts.device),
    }
    record |= {key: [] for key in ("notes", "resumes") if not isinstance(record.get(key), list)}  # damaged file
    note = rounding_note(record, entry, parts.device)
    record["notes"] += [note] if note else []
    record["resumes"] += [entry]
    write_json(folder / "provenance.json", record | {"train_flops": parts.facts["train_flops"]})
    if not (folder / "architecture.json").is_file():
        note_architecture(folder, new, parts)
    return note


def check_data(folder: Path, parts: Parts) -> None:
    """Raise SightlineError if the images, labels or classes differ from those at the start of the run."""
    before, now = run_folder.provenance(folder).get("data"), parts.facts["data"]
    if not isinstance(before, dict):
        return
    changed = [key for key in ("classes", "digest") if before.get(key) != now[key]]
    if changed:
        counted = before.get("counts") if isinstance(before.get("counts"), dict) else {}
        counts = [f"{counted.get(split)} -> {now['counts'][split]} {split}" for split in ("train", "val")]
        why = f"changed since the run began: {' and '.join(changed)} (images: {', '.join(counts)})"
        cure = "put the data back as it was, or begin a new run with --model.weights RUN"
        raise SightlineError("the data is not what this run began with", where=now["path"], why=why, cure=cure)


def save_preview(training: Training) -> None:
    """Write figures/preview.png: the first batch of the first epoch, augmented."""
    config, parts = training.config, training.parts
    size = min(PREVIEWED, config.train.batch_size)
    batch = next(training_batches(parts.train, size, config.train.seed, 0, 0, parts.device))
    path = atomic_write(training.folder / "figures" / "preview.png", png(training.functions.preview(training, batch)))
    training.log.say(f"what the model sees: {path}")
