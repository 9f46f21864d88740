"""SIGKILL at random times, and at every file system call of a run."""

import functools
import random
import shutil
import signal
from pathlib import Path

from reliability import defects, every_call, syscall_faults, toys
from reliability.contract import Outcome, Row, Settings

FULL_KILLS, MIN_KILLS = 200, 4  # of each task


def check_random(settings: Settings) -> Outcome:
    """Kill runs after uniformly random times until the number of kills is reached; resume each run until it ends."""
    toys.preload()
    failures: list[str] = []
    notes: dict[str, int | float | str] = {}
    with toys.scratch_folder(settings.folder) as folder:
        for task in toys.TASKS[: 2 if settings.short else None]:
            toy = toys.make_toy(folder, task)
            expected, seconds, _ = toys.reference_run(toy, folder / "reference")
            shutil.rmtree(folder / "reference")
            counts = kill_repeatedly(toy, folder, expected, seconds, settings, failures)
            notes |= {f"{task}: {name}": count for name, count in counts.items()}
    kills = sum(value for name, value in notes.items() if name.endswith("kills") and isinstance(value, int))
    return Outcome(kills, tuple(failures), notes)


def kill_repeatedly(
    toy: toys.Toy, folder: Path, expected: dict[str, str], seconds: float, settings: Settings, failures: list[str]
) -> dict[str, int]:
    """Kill and resume runs of one task; returns the numbers of kills and of completed runs, and adds to `failures`."""
    rng = random.Random(f"{settings.seed} {toy.task}")
    wanted, kills, runs = max(MIN_KILLS, round(FULL_KILLS * settings.scale)), 0, 0
    while kills < wanted and len(failures) < (3 if settings.short else 20) and not settings.detected(failures):
        work, acknowledged, starts = folder / f"{toy.task}-{runs}", -1, 0
        while True:
            begun = (work / "run" / "recipe.yaml").is_file()
            tokens = toy.resume(work) if begun else toy.train(work)
            child = toys.Child(tokens, work)
            if starts < 6 and not child.wait(rng.uniform(0, 1.1 * seconds)):
                child.kill(signal.SIGKILL)
            ended = child.end()
            starts += 1
            if begun and 0 <= ended.resumed_from < acknowledged:
                failures.append(
                    f"{toy.task}: step {acknowledged} was acknowledged, but the run resumed from {ended.resumed_from}"
                )
            acknowledged = max(acknowledged, ended.last_saved)
            if ended.status != -signal.SIGKILL:
                break
            kills += 1
        if ended.status == 2 and "no state to resume from" in ended.text and acknowledged < 0:
            ended = toys.run_child(toy.train(work, "--overwrite"), work)
        differs = toys.different_files(expected, toys.fingerprint(work / "run"))
        if ended.status:
            failures.append(
                f"{toy.task}: not resumable after {starts} starts, status {ended.status}: {ended.text[-300:]}"
            )
        elif differs:
            failures.append(f"{toy.task}: after {starts} starts, differs from the reference run: {differs}")
        runs += 1
        shutil.rmtree(work, ignore_errors=True)
    return {"kills": kills, "completed runs": runs}


ROWS = (
    Row(
        "random SIGKILL",
        "Interruptions and disks",
        "SIGKILL at random times of training, evaluation and the final results, in each task: the run resumes from the "
        "last acknowledged step, and its weights and predictions are bit-identical to those of a run without kills",
        check_random,
        defects.select("sample order ignores the seed"),  # the next rows detect rarer defects
        toys.unavailable,
        quick=False,
    ),
    *(
        Row(
            f"every file system call, {task}",
            "Interruptions and disks",
            "a fault at each call that changes files of the run or its cache: SIGKILL before it, SIGKILL in the middle "
            "of a write, or a full disk, a quota or an I/O error; one clear message, and the resumed run has the "
            "results of a run without faults",
            functools.partial(every_call.check, task),
            defects.select(*broken),
            lambda: syscall_faults.unavailable() or toys.unavailable(),
            limit_seconds=1500,
            quick=False,
        )
        for task, broken in (
            ("segment", ("write without rename",)),
            ("pretrain", ("write without rename",)),
            ("classify", ("write without rename", "resume without optimizer state")),
        )
    ),
)
