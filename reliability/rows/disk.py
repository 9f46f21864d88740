"""Disks that are full, read-only, too small or under a quota: real ones, mounted for one child."""

import errno
import json
import os
import shutil
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from reliability import breakage, namespaces, toys
from reliability.calls import message_fault
from reliability.contract import Outcome, Row, Settings

OFFSETS = 24  # amounts of free space at which a disk fills up, of each task


def check(settings: Settings) -> Outcome:
    """Each case in a child with mounts of its own."""
    toys.prepare()
    failures: list[str] = []
    notes: dict[str, int | float | str] = {}
    with toys.workplace(settings.folder) as place:
        for toy, whole, steps in toys.each_task(settings.short, place):
            task = toy.task
            size = sum(path.stat().st_size for path in (place / f"whole-{task}").rglob("*") if path.is_file())
            number = max(3, round(OFFSETS * settings.scale))
            cases: list[tuple[str, Callable[[], str]]] = []
            for n in range(number):
                free, step = round(size * (n + 0.5) / number / 2), 1 + n % (steps - 1)
                cases.append(("full disk", partial(full, toy, place / "work", whole, free, step)))
            cases += [
                *(("full for a while", partial(full_for_a_while, toy, place / "work", whole, step)) for step in (1, 2)),
                ("disk too small at the start", partial(too_small, toy, place / "work", whole)),
                ("full cache disk", partial(full_cache, toy, place / "work", whole)),
                ("read-only at the start", partial(read_only, toy, place / "work", whole, 0)),
                ("read-only later", partial(read_only, toy, place / "work", whole, 2)),
                ("quota", partial(quota, toy, place / "work", whole, 2)),
                ("file size limit", partial(file_limit, toy, place / "work", whole)),
            ]
            for name, case in cases:
                shutil.rmtree(place / "work", ignore_errors=True)
                (place / "work").mkdir()
                fault = in_namespace(case, place / "result.json")
                notes[name] = int(notes.get(name, 0)) + 1
                failures += [f"{task}, {name}: {fault}"] if fault else []
    return Outcome(sum(int(count) for count in notes.values()), tuple(failures), notes)


def in_namespace(case: Callable[[], str], result: Path) -> str:
    """What `case` gives in a child whose mounts nobody else sees."""
    result.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        try:
            namespaces.enter()
            fault = case()
        except BaseException:
            fault = traceback.format_exc()[-600:]
        result.write_text(json.dumps(fault))
        os._exit(0)
    os.waitpid(child, 0)
    return json.loads(result.read_text()) if result.exists() else "the case died"


def after_step(step: int, action: Callable[[], object]) -> Callable[[], None]:
    """In the child: `action` once that step is saved."""

    def inside() -> None:
        from sightline.engine import training_state

        save = training_state.save_state

        def saved(training: Any) -> None:
            save(training)
            if training.progress.step == step:
                action()

        training_state.save_state = saved

    return inside


def fill(folder: Path, free: int) -> None:
    """Leave so many bytes free on the disk of `folder`."""
    found = os.statvfs(folder)
    pages = found.f_bavail - max(1, free // found.f_frsize)
    with open(folder / "filler", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, pages) * found.f_frsize)


def names_space(ended: toys.Ended, volume: Path) -> str:
    """What is missing in a message of a full disk."""
    missing = [word for word in (str(volume), "are free", "cure:") if word not in ended.text]
    if "checkpoints" in ended.text and "it needs" not in ended.text:
        missing.append("what it needs")
    return f"the message lacks {missing}: {ended.text[-400:]}" if missing else ""


def full(toy: toys.Toy, work: Path, whole: dict[str, str], free: int, step: int) -> str:
    """The disk fills up after a step; then there is space again."""
    namespaces.small_disk(work, "160m")
    (work / "run").mkdir()
    ended = toys.run_child(toy.train(work), work, after_step(step, lambda: fill(work, free)))
    fault = message_fault(ended, str(work)) or (names_space(ended, work) if ended.status == 3 else "")
    (work / "filler").unlink()
    return fault or toys.judged(toy, work, ended.saved, whole)


def full_for_a_while(toy: toys.Toy, work: Path, whole: dict[str, str], step: int) -> str:
    """The disk fills up after a step, refuses two saves in a row, and has space again: the run comes to its end."""
    namespaces.small_disk(work, "160m")
    (work / "run").mkdir()

    def inside() -> None:
        from sightline.engine import training_state

        save, refused = training_state.save_state, []

        def saved(training: Any) -> None:
            try:
                save(training)
            except Exception:
                refused.append(training.progress.step)
                if len(refused) == 2:
                    (work / "filler").unlink()
                raise
            if training.progress.step == step:
                fill(work, 0)

        training_state.save_state = saved

    ended = toys.run_child(toy.train(work), work, inside)
    warnings = ended.text.count("is not saved; training continues")
    if ended.status or warnings != 2:
        return f"status {ended.status}, {warnings} warnings: {ended.text[-300:]}"
    litter = [path.name for path in (work / "run").rglob(".sightline-tmp-*")]
    return f"left behind: {litter}" if litter else toys.judged(toy, work, ended.saved, whole)


def too_small(toy: toys.Toy, work: Path, whole: dict[str, str]) -> str:
    """A disk of 2 MB is refused before anything is written; on a larger one the same command works."""
    namespaces.small_disk(work, "2m")
    ended = toys.run_child([*toy.train(work), "--data.cache_dir", str(work.parent / "cache-elsewhere")], work)
    if ended.status != 3 or ended.traceback or "too small" not in ended.text or str(work) not in ended.text:
        return f"status {ended.status}: {ended.text[-300:]}"
    if (work / "run" / "recipe.yaml").exists():
        return "a run was begun that does not fit"
    namespaces.resize(work, "160m")
    return toys.judged(toy, work, -1, whole)


def full_cache(toy: toys.Toy, work: Path, whole: dict[str, str]) -> str:
    """No space for the decoded images."""
    namespaces.small_disk(work / "cache", "1m")
    ended = toys.run_child(toy.train(work), work)
    if ended.status != 3 or ended.traceback or "cache" not in ended.text or "cure:" not in ended.text:
        return f"status {ended.status}: {ended.text[-300:]}"
    namespaces.resize(work / "cache", "160m")
    return toys.judged(toy, work, -1, whole)


def read_only(toy: toys.Toy, work: Path, whole: dict[str, str], step: int) -> str:
    """The run's folder is read-only from the start, or after a step; then it is writable again."""
    run = work / "run"
    run.mkdir()
    if step:
        ended = toys.run_child(toy.train(work), work, after_step(step, lambda: freeze_here(run)))
    else:
        namespaces.freeze(run)
        ended = toys.run_child(toy.train(work), work)
    if ended.status != 3:
        return f"status {ended.status}: {ended.text[-300:]}"
    fault = message_fault(ended, str(run))
    if not step:
        namespaces.thaw(run)
    return fault or toys.judged(toy, work, ended.saved, whole)


def freeze_here(folder: Path) -> None:
    """The run itself sees a read-only folder, by an own namespace again, so that its parent does not."""
    namespaces.enter()
    namespaces.freeze(folder)
    os.chdir("/")


def quota(toy: toys.Toy, work: Path, whole: dict[str, str], step: int) -> str:
    """A quota ends the writing of files after a step."""

    def end() -> None:
        from sightline.runs import atomic

        def refuse(path: Any, mode: str = "r", **options: Any) -> Any:
            if set(mode) & set("wax+"):
                raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), str(path))
            return open(path, mode, **options)

        setattr(atomic, "open", refuse)  # noqa: B010

    ended = toys.run_child(toy.train(work), work, after_step(step, end))
    if ended.status != 3 or "quota" not in ended.text.lower():
        return f"status {ended.status}: {ended.text[-300:]}"
    return message_fault(ended, str(work)) or toys.judged(toy, work, ended.saved, whole)


def file_limit(toy: toys.Toy, work: Path, whole: dict[str, str]) -> str:
    """No file may be larger than 4 kB (RLIMIT_FSIZE, EFBIG): as on a disk whose limit is per file."""

    def limit() -> None:
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    ended = toys.run_child(toy.train(work), work, after_step(0, limit))
    if ended.status != 3:
        return f"status {ended.status}: {ended.text[-300:]}"
    return message_fault(ended, str(work)) or toys.judged(toy, work, ended.saved, whole)


def needs() -> str:
    return toys.ready() or namespaces.needs()


def raw_errors(_: Any) -> Any:
    """A writer that lets the system's own error through."""

    def unexplained(path: Path, error: OSError, need: int = 0) -> OSError:
        return OSError(error.errno, error.strerror, str(path))

    return unexplained


ROWS = (
    Row(
        "full and read-only disks",
        "kills and power",
        "a disk that is full (at many amounts of free space), too small, read-only or under a quota: one message that "
        "names the volume, the need and what is free; the last checkpoint stands; a save that fails is tried again "
        "with the next, the third in a row ends the run, as does the last; with space the run goes on to the "
        "same end",
        check,
        {"errors that are not explained": breakage.replaced("runs.atomic", "disk_error", raw_errors)},
        needs,
        quick=False,
    ),
)
