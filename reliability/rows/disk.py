"""Disks that are full, read-only, too small or under a quota: real mounts, visible to one child process."""

import errno
import json
import os
import shutil
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from reliability import defects, namespaces, toys
from reliability.contract import Outcome, Row, Settings
from reliability.every_call import message_fault

OFFSETS = 24  # amounts of free space that are tried, of each task


def check(settings: Settings) -> Outcome:
    """Run each case in a child process with its own mounts."""
    toys.preload()
    failures: list[str] = []
    notes: dict[str, int | float | str] = {}
    with toys.scratch_folder(settings.folder) as folder:
        work = folder / "work"
        for toy, expected, steps in toys.each_task(settings.short, folder):
            task = toy.task
            size = sum(path.stat().st_size for path in (folder / f"reference-{task}").rglob("*") if path.is_file())
            number = max(3, round(OFFSETS * settings.scale))
            cases: list[tuple[str, Callable[[], str]]] = []
            for n in range(number):
                free, step = round(size * (n + 0.5) / number / 2), 1 + n % (steps - 1)
                cases.append(("full disk", partial(full, toy, work, expected, free, step)))
            cases += [
                *(("full temporarily", partial(full_temporarily, toy, work, expected, step)) for step in (1, 2)),
                ("disk too small at the start", partial(too_small, toy, work, expected)),
                ("full cache disk", partial(full_cache, toy, work, expected)),
                ("read-only at the start", partial(read_only, toy, work, expected, 0)),
                ("read-only later", partial(read_only, toy, work, expected, 2)),
                ("quota", partial(quota, toy, work, expected, 2)),
                ("file size limit", partial(file_limit, toy, work, expected)),
            ]
            for name, case in cases:
                shutil.rmtree(work, ignore_errors=True)
                work.mkdir()
                fault = in_namespace(case, folder / "result.json")
                notes[name] = int(notes.get(name, 0)) + 1
                failures += [f"{task}, {name}: {fault}"] if fault else []
    return Outcome(sum(int(count) for count in notes.values()), tuple(failures), notes)


def in_namespace(case: Callable[[], str], result: Path) -> str:
    """Return the result of `case`, run in a child process with its own mounts."""
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
    return json.loads(result.read_text()) if result.exists() else "the process of this case died"


def after_step(step: int, action: Callable[[], object]) -> Callable[[], None]:
    """A setup function for the child that calls `action` after the state of `step` is saved."""

    def setup() -> None:
        from sightline.engine import training_state

        save = training_state.save_state

        def saved(training: Any) -> None:
            save(training)
            if training.progress.step == step:
                action()

        training_state.save_state = saved

    return setup


def fill(folder: Path, free: int) -> None:
    """Fill the disk of `folder` up to `free` bytes, with the file folder/filler."""
    found = os.statvfs(folder)
    pages = found.f_bavail - max(1, free // found.f_frsize)
    with open(folder / "filler", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, pages) * found.f_frsize)


def space_missing_in_message(ended: toys.CommandResult, volume: Path) -> str:
    """What the message about a full disk lacks of volume, free and required space, and cure; "" if nothing."""
    missing = [word for word in (str(volume), "are free", "cure:") if word not in ended.text]
    if "checkpoints" in ended.text and "it needs" not in ended.text:
        missing.append("what it needs")
    return f"the message lacks {missing}: {ended.text[-400:]}" if missing else ""


def full(toy: toys.Toy, work: Path, expected: dict[str, str], free: int, step: int) -> str:
    """The disk becomes full after a step, and the run is resumed when there is space again."""
    namespaces.mount_disk(work, "160m")
    (work / "run").mkdir()
    ended = toys.run_child(toy.train(work), work, after_step(step, lambda: fill(work, free)))
    fault = message_fault(ended, str(work)) or (space_missing_in_message(ended, work) if ended.status == 3 else "")
    (work / "filler").unlink()
    return fault or toys.compare_resumed(toy, work, ended.last_saved, expected)


def full_temporarily(toy: toys.Toy, work: Path, expected: dict[str, str], step: int) -> str:
    """The disk is full for two consecutive saves and then has space again: the run finishes."""
    namespaces.mount_disk(work, "160m")
    (work / "run").mkdir()

    def setup() -> None:
        from sightline.engine import training_state

        save, failed = training_state.save_state, []

        def saved(training: Any) -> None:
            try:
                save(training)
            except Exception:
                failed.append(training.progress.step)
                if len(failed) == 2:
                    (work / "filler").unlink()
                raise
            if training.progress.step == step:
                fill(work, 0)

        training_state.save_state = saved

    ended = toys.run_child(toy.train(work), work, setup)
    warnings = ended.text.count("is not saved; training continues")
    if ended.status or warnings != 2:
        return f"status {ended.status}, {warnings} warnings: {ended.text[-300:]}"
    temporary = [path.name for path in (work / "run").rglob(".sightline-tmp-*")]
    return (
        f"temporary files remain: {temporary}"
        if temporary
        else toys.compare_resumed(toy, work, ended.last_saved, expected)
    )


def too_small(toy: toys.Toy, work: Path, expected: dict[str, str]) -> str:
    """A disk of 2 MB is an error before anything is written; on a larger one the same command works."""
    namespaces.mount_disk(work, "2m")
    ended = toys.run_child([*toy.train(work), "--data.cache_dir", str(work.parent / "cache-elsewhere")], work)
    if ended.status != 3 or ended.traceback or "too small" not in ended.text or str(work) not in ended.text:
        return f"status {ended.status}: {ended.text[-300:]}"
    if (work / "run" / "recipe.yaml").exists():
        return "the run started although it does not fit"
    namespaces.resize_disk(work, "160m")
    return toys.compare_resumed(toy, work, -1, expected)


def full_cache(toy: toys.Toy, work: Path, expected: dict[str, str]) -> str:
    """The disk of the cache has no space for the decoded images."""
    namespaces.mount_disk(work / "cache", "1m")
    ended = toys.run_child(toy.train(work), work)
    if ended.status != 3 or ended.traceback or "cache" not in ended.text or "cure:" not in ended.text:
        return f"status {ended.status}: {ended.text[-300:]}"
    namespaces.resize_disk(work / "cache", "160m")
    return toys.compare_resumed(toy, work, -1, expected)


def read_only(toy: toys.Toy, work: Path, expected: dict[str, str], step: int) -> str:
    """The run folder is read-only from the start (step 0) or after `step`; the run is resumed when it is writable."""
    run = work / "run"
    run.mkdir()
    if step:
        ended = toys.run_child(toy.train(work), work, after_step(step, lambda: mount_read_only_in_child(run)))
    else:
        namespaces.mount_read_only(run)
        ended = toys.run_child(toy.train(work), work)
    if ended.status != 3:
        return f"status {ended.status}: {ended.text[-300:]}"
    fault = message_fault(ended, str(run))
    if not step:
        namespaces.unmount(run)
    return fault or toys.compare_resumed(toy, work, ended.last_saved, expected)


def mount_read_only_in_child(folder: Path) -> None:
    """Make `folder` read-only for this process only, in another namespace that its parent does not see."""
    namespaces.enter()
    namespaces.mount_read_only(folder)
    os.chdir("/")


def quota(toy: toys.Toy, work: Path, expected: dict[str, str], step: int) -> str:
    """Opening a file for writing fails with EDQUOT after a step."""

    def exceed_quota() -> None:
        from sightline.runs import atomic

        def open_over_quota(path: Any, mode: str = "r", **options: Any) -> Any:
            if set(mode) & set("wax+"):
                raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), str(path))
            return open(path, mode, **options)

        setattr(atomic, "open", open_over_quota)  # noqa: B010

    ended = toys.run_child(toy.train(work), work, after_step(step, exceed_quota))
    if ended.status != 3 or "quota" not in ended.text.lower():
        return f"status {ended.status}: {ended.text[-300:]}"
    return message_fault(ended, str(work)) or toys.compare_resumed(toy, work, ended.last_saved, expected)


def file_limit(toy: toys.Toy, work: Path, expected: dict[str, str]) -> str:
    """No file may be larger than 4 kB (RLIMIT_FSIZE, error EFBIG)."""

    def limit() -> None:
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    ended = toys.run_child(toy.train(work), work, after_step(0, limit))
    if ended.status != 3:
        return f"status {ended.status}: {ended.text[-300:]}"
    return message_fault(ended, str(work)) or toys.compare_resumed(toy, work, ended.last_saved, expected)


def unavailable() -> str:
    """Why these rows cannot run on this system, "" if they can."""
    return toys.unavailable() or namespaces.unavailable()


def raw_errors(_: Any) -> Any:
    """A `disk_error` that returns the plain error of the system."""

    def unexplained(path: Path, error: OSError, need: int = 0) -> OSError:
        return OSError(error.errno, error.strerror, str(path))

    return unexplained


ROWS = (
    Row(
        "full and read-only disks",
        "Interruptions and disks",
        "a disk that is full (at many amounts of free space), too small, read-only or under a quota: one message with "
        "the volume, the required and the free space; the last checkpoint stays valid; a failed save is repeated "
        "with the next one, and the third consecutive failure, or a failure of the last save, ends the run; with "
        "space the resumed run has the results of a run without faults",
        check,
        {"system errors without explanation": defects.replace_attribute("runs.atomic", "disk_error", raw_errors)},
        unavailable,
        quick=False,
    ),
)
