"""Read the runs of a comparison: check the folders, name the runs, read their results and costs."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...errors import SightlineError, counted, listing
from ...insight.curves import History, history, number
from ...runs import run_folder
from ...stats.intervals import Interval
from ...tasks import task_named
from ...tasks.contract import Task
from ..run import RunFiles, read_run
from .kinds import ComparedRun, TaskComparison

MARK = "compare.json"
"""Name of the file by which a folder is recognized as that of a comparison."""
MOST = 20
"""Maximum number of runs in one comparison; the curves and colors of more cannot be distinguished."""


def read_entries(folders: Sequence[str | Path], split: str = "val") -> tuple[str, TaskComparison, list[ComparedRun]]:
    """Read the runs to compare: (the task's name, how its runs are compared, the runs in the order of `folders`).

    Raises SightlineError with all folders that are not runs, are transfer grids or are listed twice, for runs of
    different tasks, and with all runs that were not evaluated on a split other than `val`.
    """
    paths = [Path(folder) for folder in folders]
    check_folders(paths)
    files = [read_run(path, split) for path in paths]
    require_evaluations(files, split)
    names = distinct_names([path.resolve() for path in paths])
    tasks = [task_named(one.recipe.get("task"), str(one.path)) for one in files]
    if len({task.name for task in tasks}) > 1:
        raise other_tasks(paths, tasks)
    kind = tasks[0].comparison()
    return tasks[0].name, kind, [entry(name, one, kind) for name, one in zip(names, files, strict=True)]


def require_evaluations(files: Sequence[RunFiles], split: str) -> None:
    """Raise SightlineError with all finished runs that were not evaluated on the split with their current weights."""
    finished = [one for one in files if history(one.records).finished] if split != "val" else []
    lacking = [str(one.path) for one in finished if not one.evaluation]
    if lacking:
        what = (
            f"{counted(len(lacking), 'run')} {'has' if len(lacking) == 1 else 'have'} no results on the split {split}"
        )
        why = "a comparison reads results that `sightline evaluate` has written with the present weights of a run"
        cure = " && ".join(f"sightline evaluate {shlex.quote(path)} --split {split}" for path in lacking)
        raise SightlineError(what, where=", ".join(lacking), why=why, cure=cure)


def check_folders(paths: Sequence[Path]) -> None:
    """Raise SightlineError with all folders that are not runs, are transfer grids or are listed twice."""
    faults = [fault for index, path in enumerate(paths) if (fault := fault_of(path, paths[:index])) is not None]
    if len(paths) > MOST:
        why = f"{len(paths)} runs are listed; at most {MOST} can be distinguished in one figure"
        faults.append(SightlineError("too many runs", why=why, cure=f"compare at most {MOST} runs at a time"))
    if len(faults) == 1:
        raise faults[0]
    if faults:
        found = [f"{fault.where or 'all'}: {fault.what}" + f" ({fault.why})" * bool(fault.why) for fault in faults]
        cure = "list the folders of runs, as printed by `sightline train`, and each only once"
        raise SightlineError("these folders cannot be compared", why="\n" + listing(found), cure=cure)


def fault_of(path: Path, before: Sequence[Path]) -> SightlineError | None:
    """The error for a folder that cannot be compared; None if it can. before: the folders listed before it."""
    where = str(path)
    if (path / "grid.yaml").is_file():
        inside = sorted(str(file.parent.parent) for file in path.glob("*/predictions/val.csv"))
        cure = f"write the report of the grid: sightline report {shlex.quote(where)}"
        cure += "; or compare runs of the grid:\n" + listing(inside, 10) if inside else ""
        return SightlineError("this folder is a transfer grid, not a run", where=where, cure=cure)
    if (path / "repeat.json").is_file():
        inside = sorted(str(file.parent) for file in path.glob("*/metrics.jsonl"))
        cure = f"write its report: sightline report {shlex.quote(where)}; or list repetitions only; or single runs:\n"
        cure += listing(inside, 10)
        return SightlineError("this folder has the runs of a repetition, and is no run", where=where, cure=cure)
    if (path / MARK).is_file():
        return SightlineError(
            "this folder is a comparison, not a run",
            where=where,
            cure="remove this folder from the command, and list the folders of runs",
        )
    twin = next((other for other in before if other.resolve() == path.resolve()), None)
    if twin is not None:
        why = f"it is the same folder as {twin}" if twin != path else ""
        return SightlineError("a run is listed twice", where=where, why=why, cure="list each run only once")
    try:
        run_folder.existing(path)
    except SightlineError as error:
        return error
    return None


def other_tasks(paths: Sequence[Path], tasks: Sequence[Task]) -> SightlineError:
    """The error for runs of different tasks."""
    found = [f"{path} {task.does}" for path, task in zip(paths, tasks, strict=True)]
    alike = [path for path, task in zip(paths, tasks, strict=True) if task.name == tasks[0].name]
    again = " ".join(shlex.quote(str(path)) for path in alike)
    cure = f"compare the runs of one task: sightline report {again}" if len(alike) > 1 else "list runs of one task only"
    return SightlineError(
        "these runs have different tasks and cannot be compared", why="\n" + listing(found), cure=cure
    )


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """The name of each folder, preceded by as many parent folders as are needed to make all names unique."""
    depth = [1] * len(paths)
    while True:
        names = ["/".join(path.parts[-count:]) for path, count in zip(paths, depth, strict=True)]
        same = [i for i, path in enumerate(paths) if names.count(names[i]) > 1 and depth[i] < len(path.parts)]
        if not same:
            return names
        for index in same:
            depth[index] += 1


def entry(name: str, files: RunFiles, kind: TaskComparison) -> ComparedRun:
    """Read the results and the training cost of one run. kind: how the runs of its task are compared."""
    files, past = kind.read(files), history(files.records)
    end = files.end if past.finished else {}
    results, reason, cure = kind.image_results(files) if past.finished else (None, *unfinished(files, past))
    scored = end if files.split == "val" else files.evaluation
    quality, interval = number(scored.get(kind.field)), pair(scored.get(f"{kind.field}_interval"))
    if results is not None and kind.result is not None:
        quality, interval = kind.result(results, files)
    seen = past.evaluation[kind.field]
    best = np.nanmin if kind.lower_is_better else np.nanmax
    so_far = not past.finished and files.split == "val" and bool(np.isfinite(seen).any())
    flops = end.get("train_flops", files.provenance.get("train_flops") if end else None)
    return ComparedRun(
        name=name,
        files=files,
        past=past,
        quality=float(best(seen)) if so_far else quality,
        interval=interval,
        so_far=so_far,
        results=results,
        reason=reason,
        cure=cure,
        seconds=past.seconds or float("nan"),
        flops=number(flops),
        parameters=number(files.provenance.get("parameters")),
        epochs=past.last_epoch or float("nan"),
    )


def pair(value: object) -> Interval | None:
    """Parse the interval [low, high] of a metric in the `done` record of metrics.jsonl; None if `value` is anything
    else."""
    edges = [number(edge) for edge in value] if isinstance(value, list) else []
    return (edges[0], edges[1]) if len(edges) == 2 and all(edge == edge for edge in edges) else None


def unfinished(files: RunFiles, past: History) -> tuple[str, str]:
    """(why an unfinished run cannot be compared image by image, the command that resumes it)."""
    state = f"it is at epoch {past.last_epoch:g}" if past.last_epoch else "no epoch is logged"
    return f"is not finished ({state})", f"sightline resume {shlex.quote(str(files.path))}"
