"""Trials in forked children, so that one that kills its process is a failure with a number and the rest go on."""

import contextlib
import json
import os
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import IO

from reliability.contract import Outcome

BATCH, FEW = 2000, 500  # trials of one child; the fewer where the first failure is enough
Trial = Callable[[int], tuple[str, str]]
"""Trial number -> (what came of it, in a word or two, for the counts; a line that says why it failed, or "")."""


def peak_bytes() -> int:
    """The most memory that this process has held so far."""
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def forget_peak() -> None:
    """Let `peak_bytes` begin anew with what is held now, where the system can (Linux)."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def run_trials(count: int, trial: Trial, most_bytes: int = 0, seconds_each: float = 20, blind: bool = False) -> Outcome:
    """Runs trials 0..count - 1. most_bytes: by how much the memory of a child may grow over its trials (0: not asked).
    blind: as of `contract.Settings`: the children after one with a failure are left out.

    A trial that takes longer than `seconds_each` is ended (SIGALRM), and a failure.
    """
    gave: Counter[str] = Counter()
    failures: list[str] = []
    start, growth, size = 0, 0, FEW if blind else BATCH
    while start < count and not (blind and failures):
        done, grown, code = _batch(range(start, min(start + size, count)), trial, seconds_each, gave, failures)
        growth = max(growth, grown)
        start += done
        if code:
            failures.append(f"trial {start} killed its process (status {code})")
            start += 1
    if most_bytes and growth > most_bytes:
        failures.append(f"memory grew by {growth / 1e6:.0f} MB; {most_bytes / 1e6:.0f} MB were the most")
    notes: dict[str, int | float | str] = {name: number for name, number in sorted(gave.items())}
    if most_bytes:
        notes["MB of memory at most"] = round(growth / 1e6)
    return Outcome(min(start, count), tuple(failures), notes)


def _batch(
    numbers: Sequence[int], trial: Trial, seconds: float, gave: Counter[str], failures: list[str]
) -> tuple[int, int, int]:
    """(trials that ended, growth of memory in bytes, exit status of the child); adds to `gave` and `failures`."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        os.close(reading)
        try:
            with os.fdopen(writing, "w") as pipe:
                _child(numbers, trial, seconds, pipe)
        finally:
            os._exit(0)
    os.close(writing)
    done, growth = 0, 0
    with os.fdopen(reading) as pipe:
        for line in pipe:
            word, why, growth = json.loads(line)
            done += 1
            gave[word] += 1
            if why:
                failures.append(why)
    status = os.waitpid(child, 0)[1]
    return done, growth, 0 if done == len(numbers) else status or -1


def _child(numbers: Sequence[int], trial: Trial, seconds: float, pipe: IO[str]) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    before = peak_bytes()
    for number in numbers:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            word, why = trial(number)
        except Exception as error:  # the trial's own code saw to what it expects
            word, why = "escaped", f"trial {number}: {type(error).__name__}: {error}"
        print(json.dumps([word, why, peak_bytes() - before]), file=pipe, flush=True)
