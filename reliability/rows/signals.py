"""SIGINT, SIGTERM, SIGHUP at every phase of a run; Ctrl-C twice; a reader of stdout that has gone."""

import contextlib
import importlib
import os
import random
import shutil
import signal
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from reliability import breakage, toys
from reliability.contract import Outcome, Row, Settings

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PHASES = {  # name: (module, function) during which the signal comes
    "start-up": ("engine.setup", "build"),
    "decoding": ("data.cache", "make_entry"),
    "first files": ("engine.setup", "write_start"),
    "a step": ("train", "log_step"),
    "a save": ("runs.checkpoint", "write_tensors"),
    "evaluation": ("train", "evaluate"),
    "the end": ("train", "log_results"),
    "the report": ("report.page", "render"),
}


def signal_in(phase: str, number: int, times: int, nth: int) -> Callable[[], None]:
    """In the child: the signal comes while the function of `phase` is called for the n-th time."""

    def inside() -> None:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            before = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
            signal.signal(getattr(signal, name), before)
        module_name, name = PHASES[phase]
        calls = 0

        def signalled(real: Callable[..., Any]) -> Callable[..., Any]:
            def wrapper(*arguments: Any, **options: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == nth:
                    Path(os.environ["SIGHTLINE_CACHE"]).with_name("fired").write_text(phase)
                    for _ in range(times):
                        os.kill(os.getpid(), number)
                return real(*arguments, **options)

            return wrapper

        module = importlib.import_module(f"sightline.{module_name}")
        setattr(module, name, signalled(getattr(module, name)))
        if phase == "a save":
            importlib.import_module("sightline.runs.checkpoint")

    return inside


def check(settings: Settings) -> Outcome:
    """Every signal in every phase of each task; then the same end as a run that nobody stopped."""
    toys.prepare()
    failures: list[str] = []
    fired = dict.fromkeys(PHASES, 0)
    fired |= {"Ctrl-C twice": 0, "closed stdout": 0}
    dice = random.Random(settings.seed)
    with toys.workplace(settings.folder) as place:
        for task in toys.TASKS[: 1 if settings.short else 3]:
            toy = toys.make_toy(place, task, **{"train.checkpoint_minutes": 5.0})
            whole, _, _ = toys.reference(toy, place / f"whole-{task}")
            cases = [(phase, number, 1) for phase in PHASES for number in SIGNALS]
            cases += [("a step", signal.SIGINT, 2), ("evaluation", signal.SIGINT, 2)]
            if settings.short:
                cases = [*dice.sample(cases[:-2], 5), ("start-up", signal.SIGTERM, 1), cases[-2]]
            for phase, number, times in cases:
                nth = dice.choice((1, 2)) if phase in ("a step", "evaluation", "a save") else 1
                fault, happened = stopped(toy, place / "work", whole, phase, number, times, nth)
                fired["Ctrl-C twice" if times == 2 else phase] += happened
                if fault:
                    failures.append(f"{task}, {signal.Signals(number).name} x{times} in {phase}: {fault}")
                shutil.rmtree(place / "work", ignore_errors=True)
            fault = closed_stdout(toy, place / "work", whole)
            fired["closed stdout"] += 1
            failures += [f"{task}, closed stdout: {fault}"] if fault else []
            shutil.rmtree(place / "work", ignore_errors=True)
    return Outcome(sum(fired.values()), tuple(failures), dict(fired))


def stopped(
    toy: toys.Toy, work: Path, whole: dict[str, str], phase: str, number: int, times: int, nth: int
) -> tuple[str, bool]:
    """(what is wrong after a signal, whether it came)."""
    ended = toys.run_child(toy.train(work), work, signal_in(phase, number, times, nth))
    if not (work / "fired").exists():
        return f"it never came to that: status {ended.status}: {ended.text[-200:]}", False
    if ended.traceback:
        return f"a traceback: {ended.text[-400:]}", True
    if ended.status == 0 and phase == "evaluation" and nth == 2:  # all steps are done: it went on to the end
        return toys.differing(whole, toys.fingerprint(work / "run")), True
    if ended.status != 4:
        return f"status {ended.status}: {ended.text[-200:]}", True
    if "cure:" not in ended.text or not any(f"cure:  {word}" in ended.text for word in ("sightline", "the same")):
        return f"it does not say how to go on: {ended.text[-200:]}", True
    return toys.judged(toy, work, ended.saved, whole), True


def closed_stdout(toy: toys.Toy, work: Path, whole: dict[str, str]) -> str:
    """`sightline train | head -1`: the run goes on to its end."""

    def inside() -> None:
        reader, writer = os.pipe()
        os.dup2(writer, 1)
        os.close(writer)
        os.close(reader)

    ended = toys.run_child(toy.train(work), work, inside)
    if ended.status or ended.traceback:
        return f"status {ended.status}: {ended.text[-300:]}"
    return toys.differing(whole, toys.fingerprint(work / "run"))


@contextlib.contextmanager
def deaf() -> Generator[None]:
    """Signals end the process as they do without Sightline's handlers."""
    signals, loop = (importlib.import_module(f"sightline.{name}") for name in ("runs.signals", "train"))
    with toys.swapped(signals, "taken", lambda names: []), toys.swapped(loop, "stoppable", contextlib.nullcontext):
        yield


def silent_interrupt(_: Any) -> Any:
    from sightline.errors import INTERRUPTED

    return lambda stop: INTERRUPTED


ROWS = (
    Row(
        "signals",
        "kills and power",
        "SIGINT, SIGTERM and SIGHUP in every phase from start-up to the report, Ctrl-C twice, and a reader of "
        "stdout that has gone: status 4 and the command that goes on, no traceback, the same end",
        check,
        {
            "a loop without handlers": deaf,
            "an end that does not say how to go on": breakage.replaced(
                "__main__", "interrupted_status", silent_interrupt
            ),
        }
        | breakage.some("an order that ignores the seed"),
        toys.ready,
        quick=False,
    ),
)
