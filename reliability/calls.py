"""What the rows `every call that changes files` do: a child for each call, by the shim that `__main__` starts with."""

import errno
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from reliability import nth, toys
from reliability.contract import Outcome, Settings

ERRORS = (("full disk", errno.ENOSPC, True), ("broken disk", errno.EIO, False), ("quota", errno.EDQUOT, True))
LEAST = 3  # trials of a task and mode in a short run


def check(task: str, settings: Settings) -> Outcome:
    """Each call in turn that changes files of the run or its cache: killed there, torn there, or failing there."""
    toys.prepare()
    failures: list[str] = []
    with toys.workplace(settings.folder) as place:
        toy = toys.make_toy(place, task, **{"train.checkpoint_minutes": 5.0})
        notes = Calls(toy, place / task, nth.Shim()).all(settings, failures)
    trials = sum(count for name, count in notes.items() if name != "calls of one run")
    return Outcome(trials, tuple(failures), dict(notes))


class Calls:
    """The calls of one task's run, each of which is the fault once in every mode."""

    def __init__(self, toy: toys.Toy, place: Path, shim: nth.Shim):
        self.toy, self.place, self.shim = toy, place, shim
        self.whole, _, _ = toys.reference(toy, place / "whole")
        counted = place / "counted"
        kinds = counted / "calls.txt"
        self.child(counted, 10**9, nth.COUNT, at_end=lambda: kinds.write_bytes(shim.library.nth_kinds()))
        self.kinds = kinds.read_text()
        self.total = len(self.kinds)
        shutil.rmtree(counted)

    def child(
        self, work: Path, n: int, mode: int, error: int = 0, lasting: bool = False, at_end: Callable[[], object] = int
    ) -> toys.Ended:
        """The run with its n-th call at fault; what that call was is the last line that the child tells."""
        fired = work / "fired.txt"

        def inside() -> None:
            import sightline.__main__ as commands

            self.shim.arm([work / "run", work / "cache"], n, mode, error, lasting)
            run = commands.run

            def noted(tokens: list[str]) -> int:
                status = run(tokens)
                at_end()
                last = self.shim.library.nth_last().decode(errors="replace")
                self.shim.library.nth_disarm()
                fired.write_text(last)
                return status

            commands.run = noted

        return toys.run_child(self.toy.train(work), work, inside)

    def all(self, settings: Settings, failures: list[str]) -> dict[str, int]:
        """Every call in every mode, or a share of them; how many were at fault."""
        counts, dice = {"calls of one run": self.total}, random.Random(f"{settings.seed} {self.toy.task}")
        every = range(1, self.total + 1)
        writes = [n for n in every if self.kinds[n - 1] in "pw"]
        others = [n for n in every if n not in writes]
        ends = [n for n in writes if n - 1 not in writes or n + 1 not in writes]  # of a row of writes to one file
        for mode, calls in (("killed", others), ("torn", writes), ("failing", sorted(others + ends))):
            least = LEAST if self.toy.task == "classify" else 1
            least = 4 * LEAST if settings.blind else least  # one of them has to see it
            number = least if settings.short else max(least, round(len(calls) * min(settings.scale, 1.0)))
            chosen = sorted(dice.sample(calls, min(number, len(calls))))
            fired = 0
            for n in chosen:
                fault, happened = self.killed(n, mode == "torn") if mode != "failing" else self.failing(n)
                fired += happened
                failures += [f"{self.toy.task}, {mode} at call {n} of {self.total}: {fault}"] if fault else []
                if len(failures) > 40 or settings.seen(failures):
                    return counts | {mode: fired}
            counts[mode] = fired
        return counts

    def killed(self, n: int, torn: bool) -> tuple[str, bool]:
        """(what is wrong after a kill at call n, whether it came to that)."""
        work = self.place / "work"
        shutil.rmtree(work, ignore_errors=True)
        ended = self.child(work, n, nth.TORN if torn else nth.KILL)
        if ended.status != -signal.SIGKILL:
            return (f"ended with status {ended.status}: {ended.text[-300:]}" if ended.status else ""), False
        return toys.judged(self.toy, work, ended.saved, self.whole), True

    def failing(self, n: int) -> tuple[str, bool]:
        """(what is wrong after call n has failed, whether it did). The kinds of errors take turns."""
        work = self.place / "work"
        shutil.rmtree(work, ignore_errors=True)
        name, error, lasting = ERRORS[n % len(ERRORS)]
        ended = self.child(work, n, nth.FAIL, error, lasting)
        note = work / "fired.txt"
        call = note.read_text() if note.exists() else ""
        if not call:
            return f"{name}: it never came to call {n}: {ended.text[-300:]}", False
        fault = message_fault(ended, str(work)) or toys.judged(self.toy, work, ended.saved, self.whole)
        return (f"{name} at {call.replace(str(work), '')}: {fault}" if fault else ""), True


def message_fault(ended: toys.Ended, folder: str) -> str:
    """What is wrong with how a run ended whose disk had failed: it may go on to its end, or say one clear thing."""
    if ended.traceback:
        return f"a traceback: {ended.text[-500:]}"
    if ended.status == 0:
        return ""
    message = ended.text[ended.text.rfind("sightline: ") :]
    if ended.status != 3:
        return f"status {ended.status}: {message[:300]}"
    if folder not in message or "cure:" not in message:
        return f"the message names no path or no cure: {message[:300]}"
    return ""
