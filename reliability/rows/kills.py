"""SIGKILL: at random moments, and at every call in turn that changes what is on disk."""

import functools
import random
import shutil
import signal
from pathlib import Path

from reliability import breakage, calls, nth, toys
from reliability.contract import Outcome, Row, Settings

FULL_KILLS = 200  # of each task
FEW = 4


def check_random(settings: Settings) -> Outcome:
    """Kill runs after uniformly random times until enough were killed; each goes on until it is done."""
    toys.prepare()
    failures: list[str] = []
    notes: dict[str, int | float | str] = {}
    with toys.workplace(settings.folder) as place:
        for task in toys.TASKS:
            toy = toys.make_toy(place, task)
            whole, seconds, _ = toys.reference(toy, place / "whole")
            shutil.rmtree(place / "whole")
            counts = kill_often(toy, place, whole, seconds, settings, failures)
            notes |= {f"{task}: {name}": count for name, count in counts.items()}
    kills = sum(value for name, value in notes.items() if name.endswith("kills") and isinstance(value, int))
    return Outcome(kills, tuple(failures), notes)


def kill_often(
    toy: toys.Toy, place: Path, whole: dict[str, str], seconds: float, settings: Settings, failures: list[str]
) -> dict[str, int]:
    """The kills of one task; how many there were, and how many runs came to their end."""
    dice = random.Random(f"{settings.seed} {toy.task}")
    wanted, kills, runs = max(FEW, round(FULL_KILLS * settings.scale)), 0, 0
    while kills < wanted and len(failures) < (3 if settings.short else 20) and not settings.seen(failures):
        work, acknowledged, lives = place / f"{toy.task}-{runs}", -1, 0
        while True:
            begun = (work / "run" / "recipe.yaml").is_file()
            tokens = toy.resume(work) if begun else toy.train(work)
            child = toys.Child(tokens, work)
            if lives < 6 and not child.wait(dice.uniform(0, 1.1 * seconds)):
                child.kill(signal.SIGKILL)
            ended = child.end()
            lives += 1
            if begun and 0 <= ended.began < acknowledged:
                failures.append(f"{toy.task}: step {acknowledged} was acknowledged, it went on from {ended.began}")
            acknowledged = max(acknowledged, ended.saved)
            if ended.status != -signal.SIGKILL:
                break
            kills += 1
        if ended.status == 2 and "no state to resume from" in ended.text and acknowledged < 0:
            ended = toys.run_child(toy.train(work, "--overwrite"), work)
        differs = toys.differing(whole, toys.fingerprint(work / "run"))
        if ended.status:
            failures.append(f"{toy.task}: unreadable after {lives} lives, status {ended.status}: {ended.text[-300:]}")
        elif differs:
            failures.append(f"{toy.task}: after {lives} lives not the same as the run never killed: {differs}")
        runs += 1
        shutil.rmtree(work, ignore_errors=True)
    return {"kills": kills, "runs to their end": runs}


ROWS = (
    Row(
        "kills at random",
        "kills and power",
        "SIGKILL at random moments of training, evaluating and finishing, in each task: the run goes on from the last "
        "acknowledged step, and its weights and predictions are those of a run never killed, to the bit",
        check_random,
        breakage.some("an order that ignores the seed"),  # the calls in turn, and every step, see rarer faults
        toys.ready,
        quick=False,
    ),
    *(
        Row(
            f"every call that changes files, {task}",
            "kills and power",
            "each call that changes files of the run or of its cache, in turn: SIGKILL there, SIGKILL in the middle of "
            "a write, or a full disk, a quota or a broken disk from there on; one clear message, and the run goes on "
            "to the same end",
            functools.partial(calls.check, task),
            breakage.some(*broken),
            lambda: nth.needs() or toys.ready(),
            limit_seconds=1500,
            quick=False,
        )
        for task, broken in (
            ("segment", ("a saver without the rename",)),
            ("byol", ("a saver without the rename",)),
            ("classify", ("a saver without the rename", "a resume that forgets the optimizer")),
        )
    ),
)
