"""Power cuts, on a simulated disk that loses what was not synced."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reliability import breakage, simfs, toys
from reliability.contract import Outcome, Row, Settings
from sightline.inference.resumable_csv import ResumableTable


def save_states(folder: Path, acknowledge: Callable[[Any], None]) -> None:
    """Five states for resumption, as the loop saves them."""
    import torch

    from sightline.runs import checkpoint

    for step in range(5):
        checkpoint.save_state(folder / "last", {"weight": torch.full((3,), float(step))}, {"step": step})
        acknowledge(step)


def read_states(folder: Path, step: int | None) -> str:
    from sightline.errors import SightlineError
    from sightline.runs import checkpoint

    try:
        tensors, values, _ = checkpoint.load_state(folder / "last")
    except SightlineError as error:
        return "" if step is None else f"unreadable: {error}"
    if step is not None and values["step"] < step:
        return f"step {step} was acknowledged, the disk has {values['step']}"
    return "" if tensors["weight"].tolist() == [float(values["step"])] * 3 else "the weights are not of their step"


def save_models(folder: Path, acknowledge: Callable[[Any], None]) -> None:
    """The best weights, three times."""
    import torch

    from sightline.runs import checkpoint

    for step in range(3):
        about = {"format": 1, "classes": ["a", "b"], "step": step, "epoch": step, "metrics": {}}
        checkpoint.save_model(folder / "best", {"weight": torch.full((3,), float(step))}, about)
        acknowledge(step)


def read_models(folder: Path, step: int | None) -> str:
    from sightline.errors import SightlineError
    from sightline.runs import checkpoint

    try:
        tensors, about = checkpoint.load_model(folder / "best")
    except SightlineError as error:
        return "" if step is None else f"unreadable: {error}"
    if step is not None and about["step"] < step:
        return f"the weights of step {step} were acknowledged, the disk has those of {about['step']}"
    return "" if tensors["weight"].tolist() == [float(about["step"])] * 3 else "the weights are not of their step"


def save_files(folder: Path, acknowledge: Callable[[Any], None]) -> None:
    """A file that is replaced, as recipe.yaml, provenance.json and the report are."""
    from sightline.runs.atomic import write_json

    for step in range(4):
        write_json(folder / "run" / "provenance.json", {"step": step, "text": "x" * 50})
        acknowledge(step)


def read_files(folder: Path, step: int | None) -> str:
    import json

    path = folder / "run" / "provenance.json"
    if not path.is_file():
        return "" if step is None else "the file is gone"
    try:
        found = json.loads(path.read_text())["step"]
    except (ValueError, KeyError):
        return f"torn: {path.read_bytes()[:60]!r}"
    return "" if step is None or found >= step else f"write {step} was acknowledged, the disk has {found}"


def grow_table(folder: Path, acknowledge: Callable[[Any], None]) -> None:
    """A long prediction with features: four recorded rows, then the complete table."""
    table = ResumableTable(folder / "guesses.csv", ["filename", "label"])
    folder.mkdir(parents=True, exist_ok=True)
    table.begin({"weights": "w"}, overwrite=False)
    for row in range(4):
        table.add([[f"{row}.png", "cat"]], np.full((1, 3), row, np.float32))
        table.commit()
        acknowledge(row + 1)
    table.finish()
    acknowledge("complete")


def read_table(folder: Path, known: Any) -> str:
    """Why a complete table, or an interrupted one, has lost what was acknowledged; empty if it has not."""
    table = ResumableTable(folder / "guesses.csv", ["filename", "label"])
    if table.target.is_file():
        lines, features = table.target.read_text().splitlines(), np.load(table.features)
        complete = len(lines) == 5 and lines[4] == "3.png,cat" and features[:, 0].tolist() == [0, 1, 2, 3]
        return "" if complete else f"a table with its name is not complete: {lines}, {features}"
    if known == "complete":
        return "the finished table is gone"
    folder.mkdir(parents=True, exist_ok=True)
    table.begin({"weights": "w"}, overwrite=False)
    names = list(table.names())
    if names != [f"{row}.png" for row in range(len(names))] or len(names) < (known or 0):
        return f"{known} rows were acknowledged, the rows that are there are: {names}"
    held = np.fromfile(table.features_part, np.float32).tolist() if names else []
    return "" if held == np.repeat(np.arange(len(names)), 3).tolist() else f"the features are not those rows: {held}"


PROTOCOLS = (
    ("states for resumption", save_states, read_states),
    ("weights", save_models, read_models),
    ("replaced files", save_files, read_files),
    ("growing tables", grow_table, read_table),
)


def check(settings: Settings) -> Outcome:
    """Each protocol recorded once, and every state that a cut may leave read by the real code."""
    failures: list[str] = []
    notes: dict[str, int | float | str] = {}
    dice = random.Random(settings.seed)
    with toys.workplace(settings.folder) as place:
        for name, save, read in PROTOCOLS:
            root = place / "recorded" / name.replace(" ", "-")
            root.mkdir(parents=True)
            recorder = simfs.Recorder(root)
            with recorder.recording():
                save(root, recorder.acknowledge)
            most = 8 if settings.short else round(96 * min(settings.scale, 4)) or 8
            count = 0
            for calls, acknowledged in simfs.states(recorder.calls, dice, most):
                if settings.seen(failures):
                    break
                target = place / "state"
                shutil.rmtree(target, ignore_errors=True)
                target.mkdir()
                simfs.materialize(calls, str(root), target)
                count += 1
                if fault := read(target, acknowledged):
                    failures.append(f"{name}, state {count}: {fault}")
            notes[f"{name}: states"] = count
    return Outcome(sum(int(count) for count in notes.values()), tuple(failures), notes)


ROWS = (
    Row(
        "power cuts",
        "kills and power",
        "a simulated disk that loses any subset of what was not synced, at every cut: nothing unreadable, nothing lost "
        "that was acknowledged",
        check,
        breakage.some(
            "a saver without the rename",
            "a saver without fsync",
            "a saver without the folder's fsync",
        ),
        toys.ready,
    ),
)
