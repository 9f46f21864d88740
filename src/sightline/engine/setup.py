"""Setup of a run before its first step: lock the run folder, build the parts of the run, compare the processes, and
write the first files."""

import contextlib
import hashlib
import json
import shlex
import time
from collections.abc import Generator
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..config.checks import warm_up_note
from ..config.resolve import flat
from ..config.schema import Config
from ..data.label_arrays import label_texts
from ..data.loader import training_batches
from ..data.sources.splits import OUTER
from ..data.test_ledger import register
from ..data.types import Decoded
from ..errors import SightlineError
from ..insight.architecture.tracing import trace
from ..insight.architecture.tree import write_architecture
from ..insight.style import png
from ..insight.tensorboard import TensorBoardLog
from ..models.folding import unfold_norms
from ..runs import run_folder
from ..runs.atomic import atomic_write, read_json_lines, remove, write_json
from ..runs.checkpoint import preflight
from ..runs.code_file import keep_copy, loaded_code
from ..runs.csv_io import csv_text
from ..runs.lock import lock_run
from ..runs.log import RunLog, once
from ..runs.provenance import command_line, describe_run, git_commit, installed_versions, rounding_note
from . import distributed, training_state
from .device import pick_precision, precision_name, rounding
from .memory import keep_freed_memory
from .parts import Parts, build
from .process_group import can_restart, restarted
from .state import Training, TrainingFunctions

PREVIEW_IMAGES = 48
"""Maximum number of images in figures/preview.png."""
TO_OVERWRITE = ".to-overwrite"
"""File that marks a run which the processes of torchrun will overwrite after decoding."""
KNOWN_SPLITS = ("train", "val", "test", OUTER)
"""Splits that a task does not make itself; training uses the first two."""


def begun_before_restart(folder: Path, config: Config) -> bool:
    """Whether the processes of this run began the run in `folder` before torchrun restarted them. An earlier run with
    the same settings, which the run will overwrite, is recognized by its mark."""
    marked = (folder / TO_OVERWRITE).is_file()
    return restarted() and not marked and run_folder.holds_run_of(folder, config)


def claim_folder(folder: Path, config: Config, overwrite: bool) -> None:
    """Raise SightlineError if a new run cannot be written to `folder`. If torchrun may restart the processes, mark a
    run to overwrite.

    A run that this command began, and that failed before its first step, may be replaced without `overwrite`.
    """
    records = read_json_lines(folder / "metrics.jsonl") if begun_before_restart(folder, config) else None
    failed_start = records is not None and {record.get("event") for record in records} <= {"start"}
    run_folder.require_free_folder(folder, overwrite or failed_start)
    run_folder.require_outside_data(folder, config.data.path)
    if overwrite and can_restart() and (folder / "recipe.yaml").is_file():
        atomic_write(folder / TO_OVERWRITE, "")


@contextlib.contextmanager
def open_run(folder: Path, quiet: bool) -> Generator[RunLog]:
    """Context manager: lock the run folder and open the run's log. Only rank 0 locks the folder and logs."""
    rank0 = distributed.world().is_rank0
    with lock_run(folder) if rank0 else contextlib.nullcontext() as note, RunLog(folder, quiet, writes=rank0) as log:
        if note:
            log.warn(note)
        yield log


def build_parts(
    config: Config, functions: TrainingFunctions, log: RunLog, precision: str = "", fresh: bool = True
) -> Parts:
    """Attach the log of `train.log`, and build the parts of a run. On each machine one process decodes the images; the
    others read its cache.

    precision, fresh: as in `parts.build`. All processes use the precision of rank 0. Raises SightlineError if the
    settings or data of the processes differ.
    """
    keep_freed_memory()
    if config.train.log == "tensorboard" and log.writes:  # before decoding, as the package may be missing
        log.trackers.append(TensorBoardLog(log.path.parent))
    if distributed.world().size > 1:  # before decoding
        code = loaded_code()
        distributed.require_same({"recipe": settings_of(config), "code": code.digest if code else "none"})
    if fresh and (note := warm_up_note(config)):
        log.say(note)
    with distributed.local_rank0_first():
        parts = build(functions.build, config, once(log.say), precision, fresh)
    if distributed.world().size > 1:
        if config.train.on_out_of_memory != "stop":
            cure = (
                "stop at an error instead, and use smaller batches: --train.on_out_of_memory stop --train.batch_size "
                "NUMBER --optim.accumulate NUMBER"
            )
            raise SightlineError(
                "batches that do not fit in memory cannot be halved in a run with several processes",
                where="train.on_out_of_memory",
                cure=cure,
            )
        precision = distributed.broadcast_json(precision_name(parts.dtype))
        parts = replace(parts, dtype=pick_precision(precision, parts.device))
        splits = {"train": parts.train, "val": parts.val}
        digests = {f"data of {split}": digest for split, digest in parts.facts["data"]["digest"].items()}
        lines = {f"data of {split}": partial(digest_lines, decoded) for split, decoded in splits.items()}
        distributed.require_same(digests, lines)
    return parts


def settings_of(config: Config) -> str:
    """All settings as text, one `dotted.key: JSON value` per line."""
    values = flat(config.model_dump(mode="json"), "the recipe", type(config))
    return "\n".join(f"{key}: {json.dumps(value)}" for key, value in values.items())


def digest_lines(split: Decoded) -> list[str]:
    """The contents of a split as lines of text, in which the first difference between two processes is searched.

    The first line has the class names. Then each image has a line with its name, its class, and the first digits of the
    SHA-256 of its pixels and mask (not for shards).
    """
    lines = [f"classes {', '.join(split.classes)}"]
    labels = [] if split.labels is None else label_texts(split.labels, split.classes)
    for row, name in enumerate(split.names):
        line = name
        if labels:
            line += f", {labels[row]}"
        if split.stream is None:
            digest = hashlib.sha256(split.images[row].tobytes())
            digest.update(b"" if split.masks is None else split.masks[row].tobytes())
            line += f", pixels {digest.hexdigest()[:8]}"
        lines.append(line)
    return lines


def start_run(config: Config, folder: Path, log: RunLog, parts: Parts) -> None:
    """Prepare a new run's folder: check the disk space, remove files of an earlier run, write the first files. Add the
    data's test split to the ledger of test sets."""
    preflight(folder, training_state.checkpoint_bytes(config, parts.model))
    run_folder.clear(folder)  # only after all checks of the new run
    remove([folder / TO_OVERWRITE])
    log.rewind(0, 0.0)
    write_start(folder, config, parts, log.warnings)
    training_state.save_samples(folder, parts)
    log.event("start", step=0, epoch=0)
    if "test" in parts.source.splits:
        try:
            register(parts.source, "test")
        except SightlineError as error:
            log.warn(f"looks at the test split by `predict` and `score` are not counted: {error.what}: {error.why}")


def write_start(folder: Path, config: Config, parts: Parts, warnings: list[str]) -> None:
    """Write recipe.yaml, splits.csv, provenance.json (with the warnings so far) and architecture.json."""
    run_folder.write_config(folder, config)
    write_splits(folder / "splits.csv", parts)
    notes = [*parts.source.notes, *warnings]
    write_json(
        folder / "provenance.json",
        describe_run(
            rounding(parts.device),
            precision_name(parts.dtype),
            seed=config.train.seed,
            notes=notes,
            **parts.facts,
            **keep_copy(folder),
        ),
    )
    trace_architecture(folder, config, parts)


def write_splits(path: Path, parts: Parts) -> None:
    """Write a CSV of all images that training uses: filename, label (class name or empty) and split. Besides train and
    val these are splits that a task holds out of train."""
    held_out = {name: items for name, items in parts.source.splits.items() if name not in KNOWN_SPLITS}
    rows: list[tuple[str, str, str]] = [("filename", "label", "split")]
    for split, images in ({"train": parts.train, "val": parts.val} | held_out).items():
        labels = [""] * len(images.names)
        if images.labels is not None:
            classes = images.classes if isinstance(images, Decoded) else parts.train.classes
            labels = label_texts(images.labels, classes)
        rows += [(name, label, split) for name, label in zip(images.names, labels, strict=True)]
    atomic_write(path, csv_text(rows))


def trace_architecture(folder: Path, config: Config, parts: Parts) -> Path:
    """Trace the model's layers and write architecture.json; if tracing fails, write a note instead."""
    spec, name = parts.trace_spec, config.model.name
    return write_architecture(
        folder / "architecture.json",
        lambda: trace(parts.model, spec.image, spec.run, name, spec.method, unfold_norms),
        name,
        spec.image,
    )


def record_resume(folder: Path, old: Config, new: Config, parts: Parts, step: int) -> str:
    """Append a resume to provenance.json: command, versions, step and changed settings; write a missing
    architecture.json.

    Returns a note if the resumed run cannot be bit-identical to an uninterrupted one, with the reason; else "". The
    note is also written to provenance.json.
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
    record |= {key: [] for key in ("notes", "resumes") if not isinstance(record.get(key), list)}  # damaged or edited
    note = rounding_note(record, entry, parts.device)
    record["notes"] += [note] if note else []
    record["resumes"] += [entry]
    if isinstance(record.get("data"), dict):  # which may have been moved
        record["data"]["path"] = parts.facts["data"]["path"]
    write_json(folder / "provenance.json", record | {"train_flops": parts.facts["train_flops"]})
    if not (folder / "architecture.json").is_file():
        trace_architecture(folder, new, parts)
    return note


def check_data(folder: Path, parts: Parts) -> None:
    """Raise SightlineError if images, labels or classes differ from those recorded at the run's start."""
    before, now = run_folder.provenance(folder).get("data"), parts.facts["data"]
    if not isinstance(before, dict):
        return
    changed = [key for key in ("classes", "digest") if before.get(key) != now[key]]
    if changed:
        old_counts = before.get("counts") if isinstance(before.get("counts"), dict) else {}
        counts = [f"{old_counts.get(split)} -> {now['counts'][split]} {split}" for split in ("train", "val")]
        why = f"changed: {' and '.join(changed)} (number of images: {', '.join(counts)})"
        cure = (
            "restore the data, or start a new run from the weights of this one: sightline train RECIPE --data DATA "
            f"--model.weights {shlex.quote(str(folder))}"
        )
        raise SightlineError("the data has changed since the run was started", where=now["path"], why=why, cure=cure)


def save_preview(training: Training) -> None:
    """Write figures/preview.png: the first batch of the first epoch, augmented."""
    config, parts = training.config, training.parts
    size = min(PREVIEW_IMAGES, config.train.batch_size)
    batch = next(training_batches(parts.train, size, config.train.seed, 0, 0, parts.device, sampling=parts.sampling))
    path = atomic_write(training.folder / "figures" / "preview.png", png(training.functions.preview(training, batch)))
    training.log.say(f"preview of the training images: {path}")
