"""Power loss on a simulated disk that loses unsynced data."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reliability import defects, simulated_disk, toys
from reliability.contract import Outcome, Row, Settings
from sightline.inference.resumable_csv import ResumableTable


def save_states(folder: Path, acknowledge: Callable[[Any], None]) -> None:
    """Save the training state five times, as the training loop does."""
    import torch

    from sightline.runs import checkpoint

    for step in range(5):
        checkpoint.save_state(folder / "last", {"weight": torch.full((3,), float(step))}, {"step": step})
        acknowledge(step)


def read_states(folder: Path, step: int | None) -> str:
    """What is wrong with the newest training state, given the last acknowledged step; "" if nothing is."""
    from sightline.errors import SightlineError
    from sightline.runs import checkpoint

    try:
        tensors, values, _ = checkpoint.load_state(folder / "last")
    except SightlineError as error:
        return "" if step is None else f"unreadable: {error}"
    if step is not None and values["step"] < step:
        return f"step {step} was acknowledged, but the disk has {values['step']}"
    return "" if tensors["weight"].tolist() == [float(values["step"])] * 3 else "the weights belong to another step"


def save_models(folder: Path, acknowledge: Callable[[Any], None]) -> None:
    """Save the best weights three times."""
    import torch

    from sightline.runs import checkpoint

    for step in range(3):
        about = {"format": 1, "classes": ["a", "b"], "step": step, "epoch": step, "metrics": {}}
        checkpoint.save_model(folder / "best", {"weight": torch.full((3,), float(step))}, about)
        acknowledge(step)


def read_models(folder: Path, step: int | None) -> str:
    """What is wrong with the best weights, given the last acknowledged step; "" if nothing is."""
    from sightline.errors import SightlineError
    from sightline.runs import checkpoint

    try:
        tensors, about = checkpoint.load_model(folder / "best")
    except SightlineError as error:
        return "" if step is None else f"unreadable: {error}"
    if step is not None and about["step"] < step:
        return f"the weights of step {step} were acknowledged, but the disk has those of {about['step']}"
    return "" if tensors["weight"].tolist() == [float(about["step"])] * 3 else "the weights belong to another step"


def save_files(folder: Path, acknowledge: Callable[[Any], None]) -> None:
    """Replace a file four times, like recipe.yaml, provenance.json and the report."""
    from sightline.runs.atomic import write_json

    for step in range(4):
        write_json(folder / "run" / "provenance.json", {"step": step, "text": "x" * 50})
        acknowledge(step)


def read_files(folder: Path, step: int | None) -> str:
    """What is wrong with the replaced file, given the last acknowledged write; "" if nothing is."""
    import json

    path = folder / "run" / "provenance.json"
    if not path.is_file():
        return "" if step is None else "the file is missing"
    try:
        found = json.loads(path.read_text())["step"]
    except (ValueError, KeyError):
        return f"torn: {path.read_bytes()[:60]!r}"
    return "" if step is None or found >= step else f"write {step} was acknowledged, but the disk has {found}"


def save_table(folder: Path, acknowledge: Callable[[Any], None]) -> None:
    """Write a table of predictions with features: four committed rows, then the complete table."""
    table = ResumableTable(folder / "guesses.csv", ["filename", "label"])
    folder.mkdir(parents=True, exist_ok=True)
    table.begin({"weights": "w"}, overwrite=False)
    for row in range(4):
        table.add([[f"{row}.png", "cat"]], np.full((1, 3), row, np.float32))
        table.commit()
        acknowledge(row + 1)
    table.finish()
    acknowledge("complete")


def read_table(folder: Path, acknowledged: Any) -> str:
    """What is missing in a complete or interrupted table, given the acknowledged number of rows or "complete"."""
    table = ResumableTable(folder / "guesses.csv", ["filename", "label"])
    if table.target.is_file():
        lines, features = table.target.read_text().splitlines(), np.load(table.features)
        complete = len(lines) == 5 and lines[4] == "3.png,cat" and features[:, 0].tolist() == [0, 1, 2, 3]
        return "" if complete else f"a table with its final name is incomplete: {lines}, {features}"
    if acknowledged == "complete":
        return "the finished table is missing"
    folder.mkdir(parents=True, exist_ok=True)
    table.begin({"weights": "w"}, overwrite=False)
    names = [name for name, _ in table.saved()]
    if names != [f"{row}.png" for row in range(len(names))] or len(names) < (acknowledged or 0):
        return f"{acknowledged} rows were acknowledged, but the disk has: {names}"
    held = np.fromfile(table.features_part, np.float32).tolist() if names else []
    return "" if held == np.repeat(np.arange(len(names)), 3).tolist() else f"the features belong to other rows: {held}"


PROTOCOLS = (
    ("training states", save_states, read_states),
    ("weights", save_models, read_models),
    ("replaced files", save_files, read_files),
    ("resumable tables", save_table, read_table),
)


def check(settings: Settings) -> Outcome:
    """Record each protocol once; read every state that a power loss may leave with the real code."""
    failures: list[str] = []
    notes: dict[str, int | float | str] = {}
    rng = random.Random(settings.seed)
    with toys.scratch_folder(settings.folder) as folder:
        for name, save, read in PROTOCOLS:
            root = folder / "recorded" / name.replace(" ", "-")
            root.mkdir(parents=True)
            recorder = simulated_disk.Recorder(root)
            with recorder.recording():
                save(root, recorder.acknowledge)
            limit = 8 if settings.short else round(96 * min(settings.scale, 4)) or 8
            count = 0
            for calls, acknowledged in simulated_disk.states(recorder.calls, rng, limit):
                if settings.detected(failures):
                    break
                target = folder / "state"
                shutil.rmtree(target, ignore_errors=True)
                target.mkdir()
                simulated_disk.materialize(calls, str(root), target)
                count += 1
                if fault := read(target, acknowledged):
                    failures.append(f"{name}, state {count}: {fault}")
            notes[f"{name}: states"] = count
    return Outcome(sum(int(count) for count in notes.values()), tuple(failures), notes)


ROWS = (
    Row(
        "power loss",
        "Interruptions and disks",
        "power loss after each call, on a simulated disk that loses any subset of the unsynced data: every file is "
        "readable, and nothing acknowledged is lost",
        check,
        defects.select("write without rename", "write without fsync", "no fsync of the folder"),
        toys.unavailable,
    ),
)
