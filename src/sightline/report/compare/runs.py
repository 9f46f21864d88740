"""The runs of a comparison: which folders can be compared at all, what each is called, its result and its cost."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...errors import SightlineError, listing
from ...insight.curves import History, columns, history, number, without_repeats
from ...runs import run_folder
from ...stats.intervals import Interval, bootstrap_interval
from ...tasks.segment.metrics import interval as mask_interval
from ...tasks.segment.metrics import mean_iou, summed
from ...tasks.segment.report import read_arrays
from ..findings import seed_of
from ..run import RunFiles, attempt, read_run
from ..words import section

MARK = "compare.json"
"""The file by which the folder of a comparison is known."""
COUNTS = "predictions/val-confusion.npz"
MOST = 20
"""Runs in one comparison; of more, no curve and no color could be told from the others."""


class Measure(NamedTuple):
    """The number by which runs of a task are compared. field: as metrics.jsonl has it; name, title: for people.

    does: what runs of the task do, for a message; items: what it is a mean over."""

    field: str
    name: str
    title: str
    does: str
    items: str


MEASURES = {
    "classify": Measure("accuracy", "accuracy", "Accuracy", "classifies images", "images"),
    "segment": Measure("mean_iou", "mean IoU", "Mean IoU", "segments images", "images"),
    "byol": Measure("knn_accuracy", "k-NN accuracy", "k-NN accuracy", "pre-trains without labels", "images"),
}


@dataclass(frozen=True)
class Answers:
    """What a finished run says of its validation images. names: N.

    given: int64 [N], the predicted classes, or int64 [N, K, K], the confusion matrix of each image of a segmenter.
    truth: int64 [N], or int64 [N, K], the pixels of each class. sure: float64 [N], confidences; empty of a segmenter.
    rows: int64 [N], where each image stands in the run's own files.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    truth: np.ndarray
    given: np.ndarray
    sure: np.ndarray
    rows: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """bool [N] of a classifier: which images it has right."""
        return self.given == self.truth


@dataclass(frozen=True)
class Entry:
    """One run. quality: the task's measure, NaN where there is none; so_far: it is of the log, not of the result.

    answers: None where there is nothing that can be paired; `lacks` says why ("is not ..."), `cure` what helps.
    seconds, flops, parameters, epochs: what it cost, NaN where unknown. evaluation: columns of the validations, with
    `seconds`.
    """

    name: str
    files: RunFiles
    past: History
    evaluation: dict[str, np.ndarray]
    quality: float
    interval: Interval | None
    so_far: bool
    answers: Answers | None
    lacks: str
    cure: str
    seconds: float
    flops: float
    parameters: float
    epochs: float

    @property
    def planned(self) -> float:
        """The epochs that its recipe asks for; NaN where unknown."""
        return number(section(self.files.recipe, "train").get("epochs"))


def read_entries(folders: Sequence[str | Path]) -> tuple[str, list[Entry]]:
    """(the task, the runs in the order in which they were named).

    Raises SightlineError naming every folder that cannot be compared: no run, a grid, one named twice, another task.
    """
    paths = [Path(folder) for folder in folders]
    refuse_folders(paths)
    files = [read_run(path) for path in paths]
    names = distinct_names([path.resolve() for path in paths])
    tasks = [str(one.recipe.get("task") or "classify") for one in files]
    if len(set(tasks)) > 1 or tasks[0] not in MEASURES:
        raise other_tasks(paths, tasks)
    return tasks[0], [entry(name, one, tasks[0]) for name, one in zip(names, files, strict=True)]


def refuse_folders(paths: Sequence[Path]) -> None:
    """SightlineError naming all folders that are no run, a grid, or named before."""
    faults = [fault for place, path in enumerate(paths) if (fault := fault_of(path, paths[:place])) is not None]
    if len(paths) > MOST:
        why = f"{len(paths)} are named, and at most {MOST} can be told apart in one picture"
        faults.append(SightlineError("these are too many runs", why=why, cure="compare fewer at a time"))
    if len(faults) == 1:
        raise faults[0]
    if faults:
        found = [f"{fault.where or 'all'}: {fault.what}" + f" ({fault.why})" * bool(fault.why) for fault in faults]
        cure = "name each run once, by the folder that `sightline train` printed"
        raise SightlineError("these cannot be compared", why="\n" + listing(found), cure=cure)


def fault_of(path: Path, before: Sequence[Path]) -> SightlineError | None:
    """What is wrong with a folder that was named after the folders `before`, or None."""
    where = str(path)
    if (path / "grid.yaml").is_file():
        inside = sorted(str(place.parent.parent) for place in path.glob("*/predictions/val.csv"))
        cure = f"it has a page of its own: sightline report {shlex.quote(where)}"
        cure += "; or name runs of it:\n" + listing(inside, 10) if inside else ""
        return SightlineError("this is a transfer grid, not a run", where=where, cure=cure)
    if (path / MARK).is_file():
        return SightlineError("this is a comparison, not a run", where=where, cure="leave it out")
    twin = next((other for other in before if other.resolve() == path.resolve()), None)
    if twin is not None:
        why = "it would be compared with itself" + (f"; it is {twin} as well" if twin != path else "")
        return SightlineError("a run is named twice", where=where, why=why, cure="name it once")
    try:
        run_folder.existing(path)
    except SightlineError as error:
        return error
    return None


def other_tasks(paths: Sequence[Path], tasks: Sequence[str]) -> SightlineError:
    """The error for runs of several tasks, or of one that this version does not know."""
    does = {task: MEASURES[task].does if task in MEASURES else f"has the task {task!r}" for task in tasks}
    found = [f"{path} {does[task]}" for path, task in zip(paths, tasks, strict=True)]
    alike = [path for path, task in zip(paths, tasks, strict=True) if task == tasks[0]]
    again = " ".join(shlex.quote(str(path)) for path in alike)
    cure = f"sightline report {again}" if len(alike) > 1 else "name runs of one task"
    what = "these runs do different things: no part of them can be compared"
    return SightlineError(what, why="\n" + listing(found), cure=cure)


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """What each folder is called: its name, and where several have that, as much of the path as tells them apart."""
    depth = [1] * len(paths)

    def name(place: int) -> str:
        return "/".join(paths[place].parts[-depth[place] :])

    while True:
        names = [name(place) for place in range(len(paths))]
        same = [p for p in range(len(paths)) if names.count(names[p]) > 1 and depth[p] < len(paths[p].parts)]
        if not same:
            return names
        for place in same:
            depth[place] += 1


def entry(name: str, files: RunFiles, task: str) -> Entry:
    """One run with its result and cost."""
    past, measure = history(files.records), MEASURES[task]
    done = [record for record in files.records if record.get("event") == "done"]
    end: dict[str, Any] = done[-1] if done and past.finished else {}
    answers, lacks, cure = answers_of(files, task) if past.finished else (None, *unfinished(files, past))
    quality, interval = number(end.get(measure.field)), pair(end.get(f"{measure.field}_interval"))
    if answers is not None:
        quality, interval = own_result(answers, files)
    seen = past.evaluation[measure.field]
    so_far = not past.finished and bool(np.isfinite(seen).any())
    logged = [r for r in without_repeats(files.records) if r.get("event") == "eval" and r.get("split", "val") == "val"]
    flops = end.get("train_flops", files.provenance.get("train_flops") if end else None)
    return Entry(
        name=name,
        files=files,
        past=past,
        evaluation={**past.evaluation, **columns(logged, ("seconds",))},
        quality=float(np.nanmax(seen)) if so_far else quality,
        interval=interval,
        so_far=so_far,
        answers=answers,
        lacks=lacks,
        cure=cure,
        seconds=past.seconds or float("nan"),
        flops=number(flops),
        parameters=number(files.provenance.get("parameters")),
        epochs=past.last_epoch or float("nan"),
    )


def pair(value: object) -> Interval | None:
    """An interval as a `done` record has it; None for anything else."""
    edges = [number(edge) for edge in value] if isinstance(value, list) else []
    return (edges[0], edges[1]) if len(edges) == 2 and all(edge == edge for edge in edges) else None


def unfinished(files: RunFiles, past: History) -> tuple[str, str]:
    """(why a run that has not ended cannot be paired, what helps)."""
    state = f"it is at epoch {past.last_epoch:g}" if past.last_epoch else "no epoch of it is logged"
    return f"is not finished ({state})", f"sightline resume {shlex.quote(str(files.path))}"


def answers_of(files: RunFiles, task: str) -> tuple[Answers | None, str, str]:
    """(what the run says of each validation image, why there is nothing, what helps)."""
    if task == "byol":
        return None, "leaves features, and no answer for each image", ""
    if task == "segment":
        missing: list[str] = []
        answers = attempt(COUNTS, files.path, lambda path: mask_answers(path, files.classes), missing, None)
        return answers, f"has no counts to compare ({''.join(missing)})", ""
    found = files.predictions
    if found is None:
        why = next((line for line in files.missing if line.startswith("predictions/val.csv")), "predictions/val.csv")
        cure = f"sightline evaluate {shlex.quote(str(files.path))} writes its predictions again"
        return None, f"has no predictions to compare ({why})", cure
    rows = np.arange(len(found.names))
    return Answers(found.names, found.classes, found.truth, found.predicted, found.confidence, rows), "", ""


def mask_answers(path: Path, classes: tuple[str, ...]) -> Answers:
    """The counts of a segmenter's validation images. Raises ValueError where they are not of these classes."""
    arrays = read_arrays(path)
    counts, names = arrays["confusion"].astype(np.int64), tuple(map(str, arrays["names"]))
    if counts.shape != (len(names), len(classes), len(classes)) or not names:
        raise ValueError(f"counts {counts.shape} of {len(names)} images and {len(classes)} classes")
    return Answers(names, classes, counts.sum(-1), counts, np.zeros(0), np.arange(len(names)))


def own_result(answers: Answers, files: RunFiles) -> tuple[float, Interval | None]:
    """The measure and its interval, the same numbers as on the run's own page."""
    if answers.given.ndim == 1:
        return float(answers.correct.mean()), bootstrap_interval(answers.correct, seed=seed_of(files))
    low, high = mask_interval(answers.given)
    return float(mean_iou(summed(answers.given))), (float(low), float(high)) if np.isfinite(low) else None
