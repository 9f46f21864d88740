"""The tasks: what is trained, measured and reported. `TASKS` is the only list of tasks; contract.py defines `Task`."""

from typing import Any

from ..errors import SightlineError, nearest_hint
from . import classify, multilabel, pretrain, segment
from .contract import Task

TASKS: dict[str, Task] = {
    "classify": classify.TASK,
    "multilabel": multilabel.TASK,
    "segment": segment.TASK,
    "pretrain": pretrain.TASK,
}


def task_learning_from(annotation: str) -> Task:
    """Return the first task that learns from this annotation: "labels", "label sets", "masks" or "nothing".

    If there is none, return the first task.
    """
    first = next(iter(TASKS.values()))
    return next((task for task in TASKS.values() if task.learns_from == annotation), first)


def task_named(name: Any, where: str = "") -> Task:
    """Return the task with this name, or with this name in an earlier version; the first task for None and "".

    Raises SightlineError with the list of tasks for any other name. where: path of the file with the name, for this
    error.
    """
    if name in (None, ""):
        return next(iter(TASKS.values()))
    for task in TASKS.values():
        if name in (task.name, *task.former_names):
            return task
    raise SightlineError(
        f"there is no task {name!r}{nearest_hint(str(name), TASKS)}",
        where=where,
        cure=f"use one of {', '.join(TASKS)}; for a task of your own, add --code FILE",
    )
