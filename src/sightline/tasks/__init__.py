"""Tasks: what is trained, measured and shown. `TASKS` is the only list of them in the package; contract.py says what
each declares."""

import difflib
from typing import Any

from ..errors import SightlineError
from . import classify, pretrain, segment
from .contract import Task

TASKS: dict[str, Task] = {
    "classify": classify.TASK,
    "segment": segment.TASK,
    "pretrain": pretrain.TASK,
}


def task_learning_from(what: str) -> Task:
    """The first task whose training images come with `what`; see `Task.learns_from`."""
    return next(task for task in TASKS.values() if task.learns_from == what)


def task_named(name: Any, where: str = "") -> Task:
    """The task of this name, or of the name that it had in an earlier version; the first for none.

    Raises SightlineError that lists the tasks for any other name.
    """
    if name in (None, ""):
        return next(iter(TASKS.values()))
    for task in TASKS.values():
        if name in (task.name, *task.former_names):
            return task
    near = difflib.get_close_matches(str(name), TASKS, 1, 0.4)
    cure = (f"did you mean {near[0]}? " if near else "") + f"the tasks are {', '.join(TASKS)}"
    raise SightlineError(f"there is no task {name!r}", where=where, cure=cure)
