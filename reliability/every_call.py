"""The check of the rows `every file system call`: one training process per call, in which this call is the fault."""

import errno
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from reliability import toys
from reliability.contract import Outcome, Settings
from reliability.syscall_faults import COUNT, FAIL, KILL, TORN, Shim

ERRORS = (("full disk", errno.ENOSPC, True), ("broken disk", errno.EIO, False), ("quota", errno.EDQUOT, True))
MIN_TRIALS = 3  # of a task and mode in a short run


def check(task: str, settings: Settings) -> Outcome:
    """For each call that changes files of the run or its cache: kill there, kill in mid-write, or let it fail."""
    toys.preload()
    failures: list[str] = []
    with toys.scratch_folder(settings.folder) as folder:
        toy = toys.make_toy(folder, task, **{"train.checkpoint_minutes": 5.0})
        notes = CallFaults(toy, folder / task, Shim()).run(settings, failures)
    trials = sum(count for name, count in notes.items() if name != "calls of one run")
    return Outcome(trials, tuple(failures), dict(notes))


class CallFaults:
    """Injects a fault at each file system call of one task's run, in every mode."""

    def __init__(self, toy: toys.Toy, folder: Path, shim: Shim):
        self.toy, self.folder, self.shim = toy, folder, shim
        self.expected, _, _ = toys.reference_run(toy, folder / "reference")
        counted = folder / "counted"
        kinds = counted / "calls.txt"
        self.train(counted, 10**9, COUNT, at_end=lambda: kinds.write_bytes(shim.library.fault_kinds()))
        self.kinds = kinds.read_text()  # the first letter of each call's name
        self.total = len(self.kinds)
        shutil.rmtree(counted)

    def train(
        self, work: Path, n: int, mode: int, error: int = 0, lasting: bool = False, at_end: Callable[[], object] = int
    ) -> toys.CommandResult:
        """Train with a fault at the n-th call; the name of that call is written to fired.txt."""
        fired = work / "fired.txt"

        def setup() -> None:
            import sightline.__main__ as commands

            self.shim.arm([work / "run", work / "cache"], n, mode, error, lasting)
            run = commands.run

            def recorded(tokens: list[str]) -> int:
                status = run(tokens)
                at_end()
                last = self.shim.library.fault_last().decode(errors="replace")
                self.shim.library.fault_disarm()
                fired.write_text(last)
                return status

            commands.run = recorded

        return toys.run_child(self.toy.train(work), work, setup)

    def run(self, settings: Settings, failures: list[str]) -> dict[str, int]:
        """Inject faults at all calls, or at a random share of them; returns the number of faults by mode."""
        counts, rng = {"calls of one run": self.total}, random.Random(f"{settings.seed} {self.toy.task}")
        every = range(1, self.total + 1)
        writes = [n for n in every if self.kinds[n - 1] in "pw"]
        others = [n for n in every if n not in writes]
        ends = [n for n in writes if n - 1 not in writes or n + 1 not in writes]  # of consecutive writes to one file
        for mode, calls in (("killed", others), ("torn", writes), ("failing", sorted(others + ends))):
            minimum = MIN_TRIALS if self.toy.task == "classify" else 1
            minimum = 4 * MIN_TRIALS if settings.with_defect else minimum  # enough for one to detect the defect
            number = minimum if settings.short else max(minimum, round(len(calls) * min(settings.scale, 1.0)))
            fired = 0
            for n in sorted(rng.sample(calls, min(number, len(calls)))):
                fault, happened = self.killed(n, mode == "torn") if mode != "failing" else self.failing(n)
                fired += happened
                failures += [f"{self.toy.task}, {mode} at call {n} of {self.total}: {fault}"] if fault else []
                if len(failures) > 40 or settings.detected(failures):
                    return counts | {mode: fired}
            counts[mode] = fired
        return counts

    def killed(self, n: int, torn: bool) -> tuple[str, bool]:
        """(failure after a kill at call n, or "", whether the call was reached)."""
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        ended = self.train(work, n, TORN if torn else KILL)
        if ended.status != -signal.SIGKILL:
            return (f"ended with status {ended.status}: {ended.text[-300:]}" if ended.status else ""), False
        return toys.compare_resumed(self.toy, work, ended.last_saved, self.expected), True

    def failing(self, n: int) -> tuple[str, bool]:
        """(failure after call n has failed, or "", whether the call was reached). The kind of error depends on n."""
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        name, error, lasting = ERRORS[n % len(ERRORS)]
        ended = self.train(work, n, FAIL, error, lasting)
        note = work / "fired.txt"
        call = note.read_text() if note.exists() else ""
        if not call:
            return f"{name}: call {n} was not reached: {ended.text[-300:]}", False
        fault = message_fault(ended, str(work)) or toys.compare_resumed(self.toy, work, ended.last_saved, self.expected)
        return (f"{name} at {call.replace(str(work), '')}: {fault}" if fault else ""), True


def message_fault(ended: toys.CommandResult, folder: str) -> str:
    """What is wrong with the end of a run whose disk failed; "" if it finished, or printed one clear message."""
    if ended.traceback:
        return f"a traceback: {ended.text[-500:]}"
    if ended.status == 0:
        return ""
    message = ended.text[ended.text.rfind("sightline: ") :]
    if ended.status != 3:
        return f"status {ended.status}: {message[:300]}"
    if folder not in message or "cure:" not in message:
        return f"the message has no path or no cure: {message[:300]}"
    return ""
