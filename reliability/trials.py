"""Trials in forked child processes: one that kills its process is a numbered failure, and the others continue."""

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

TRIALS_PER_CHILD, TRIALS_UNTIL_FAILURE = 2000, 500  # the second: per child, if the first failure is enough
Trial = Callable[[int], tuple[str, str]]
"""Trial number -> (result in a word or two, for the counts; the reason of a failure in one line, or "")."""


def peak_bytes() -> int:
    """The peak resident memory of this process."""
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def reset_peak() -> None:
    """Reset `peak_bytes` to the current memory use, where the system can (Linux)."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def run_trials(
    count: int, trial: Trial, max_growth: int = 0, seconds_each: float = 20, first_failure_only: bool = False
) -> Outcome:
    """Run trials 0 to count - 1.

    max_growth: bytes by which the memory of a child may grow (0: not checked). first_failure_only: start no child after
    one with a failure. A trial that takes longer than `seconds_each` is killed by SIGALRM and counts as a failure.
    """
    results: Counter[str] = Counter()
    failures: list[str] = []
    start, growth, size = 0, 0, TRIALS_UNTIL_FAILURE if first_failure_only else TRIALS_PER_CHILD
    while start < count and not (first_failure_only and failures):
        done, grown, code = _batch(range(start, min(start + size, count)), trial, seconds_each, results, failures)
        growth = max(growth, grown)
        start += done
        if code:
            failures.append(f"trial {start} killed its process (status {code})")
            start += 1
    if max_growth and growth > max_growth:
        failures.append(f"memory grew by {growth / 1e6:.0f} MB; the limit is {max_growth / 1e6:.0f} MB")
    notes: dict[str, int | float | str] = {name: number for name, number in sorted(results.items())}
    if max_growth:
        notes["peak memory growth in MB"] = round(growth / 1e6)
    return Outcome(min(start, count), tuple(failures), notes)


def _batch(
    numbers: Sequence[int], trial: Trial, seconds: float, results: Counter[str], failures: list[str]
) -> tuple[int, int, int]:
    """Run trials in one child; add to `results` and `failures`.

    Returns (completed trials, growth of memory in bytes, wait status of the child, or 0 if it completed all).
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        os.close(reading)
        try:
            with os.fdopen(writing, "w") as pipe:
                _child_main(numbers, trial, seconds, pipe)
        finally:
            os._exit(0)
    os.close(writing)
    done, growth = 0, 0
    with os.fdopen(reading) as pipe:
        for line in pipe:
            result, failure, growth = json.loads(line)
            done += 1
            results[result] += 1
            if failure:
                failures.append(failure)
    status = os.waitpid(child, 0)[1]
    return done, growth, 0 if done == len(numbers) else status or -1


def _child_main(numbers: Sequence[int], trial: Trial, seconds: float, pipe: IO[str]) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    before = peak_bytes()
    for number in numbers:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            result, failure = trial(number)
        except Exception as error:  # trials catch the exceptions that they expect
            result, failure = "unexpected exception", f"trial {number}: {type(error).__name__}: {error}"
        print(json.dumps([result, failure, peak_bytes() - before]), file=pipe, flush=True)
