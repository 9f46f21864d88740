"""SIGINT, SIGTERM and SIGHUP in every phase of a run, Ctrl-C twice, and a closed pipe at stdout."""

import contextlib
import importlib
import os
import random
import shutil
import signal
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from reliability import defects, toys
from reliability.contract import Outcome, Row, Settings

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PHASES = {  # name: (module, function) during which the signal is sent
    "start-up": ("engine.setup", "build"),
    "decoding": ("data.cache", "make_entry"),
    "first files": ("engine.setup", "write_start"),
    "a step": ("train", "log_step"),
    "a save": ("runs.checkpoint", "write_tensors"),
    "evaluation": ("train", "evaluate"),
    "final results": ("train", "log_results"),
    "the report": ("report.page", "render"),
}


def signal_in(phase: str, number: int, times: int, call: int) -> Callable[[], None]:
    """A setup function for the child: send the signal `times` times at call number `call` of the phase's function."""

    def setup() -> None:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            before = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
            signal.signal(getattr(signal, name), before)
        module_name, name = PHASES[phase]
        calls = 0

        def with_signal(real: Callable[..., Any]) -> Callable[..., Any]:
            def wrapper(*arguments: Any, **options: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == call:
                    Path(os.environ["SIGHTLINE_CACHE"]).with_name("fired").write_text(phase)
                    for _ in range(times):
                        os.kill(os.getpid(), number)
                return real(*arguments, **options)

            return wrapper

        module = importlib.import_module(f"sightline.{module_name}")
        setattr(module, name, with_signal(getattr(module, name)))

    return setup


def check(settings: Settings) -> Outcome:
    """Send every signal in every phase of each task, resume, and compare the results with a run without signals."""
    toys.preload()
    failures: list[str] = []
    fired = dict.fromkeys(PHASES, 0)
    fired |= {"Ctrl-C twice": 0, "closed stdout": 0}
    rng = random.Random(settings.seed)
    with toys.scratch_folder(settings.folder) as folder:
        work = folder / "work"
        for toy, expected, _ in toys.each_task(settings.short, folder, **{"train.checkpoint_minutes": 5.0}):
            task = toy.task
            cases = [(phase, number, 1) for phase in PHASES for number in SIGNALS]
            cases += [("a step", signal.SIGINT, 2), ("evaluation", signal.SIGINT, 2)]
            if settings.short:
                cases = [*rng.sample(cases[:-2], 5), ("start-up", signal.SIGTERM, 1), cases[-2]]
            for phase, number, times in cases:
                call = rng.choice((1, 2)) if phase in ("a step", "evaluation", "a save") else 1
                fault, happened = stopped(toy, work, expected, phase, number, times, call)
                fired["Ctrl-C twice" if times == 2 else phase] += happened
                if fault:
                    failures.append(f"{task}, {signal.Signals(number).name} x{times} in {phase}: {fault}")
                shutil.rmtree(work, ignore_errors=True)
            fault = closed_stdout(toy, work, expected)
            fired["closed stdout"] += 1
            failures += [f"{task}, closed stdout: {fault}"] if fault else []
            shutil.rmtree(work, ignore_errors=True)
    return Outcome(sum(fired.values()), tuple(failures), dict(fired))


def stopped(
    toy: toys.Toy, work: Path, expected: dict[str, str], phase: str, number: int, times: int, call: int
) -> tuple[str, bool]:
    """(failure after a signal, or "", whether the signal was sent)."""
    ended = toys.run_child(toy.train(work), work, signal_in(phase, number, times, call))
    if not (work / "fired").exists():
        return f"the phase was not reached: status {ended.status}: {ended.text[-200:]}", False
    if ended.traceback:
        return f"a traceback: {ended.text[-400:]}", True
    if ended.status == 0 and phase == "evaluation" and call == 2:  # all steps are done, so the run finished
        return toys.different_files(expected, toys.fingerprint(work / "run")), True
    if ended.status != 4:
        return f"status {ended.status}: {ended.text[-200:]}", True
    if "cure:" not in ended.text or not any(f"cure:  {word}" in ended.text for word in ("sightline", "run the same")):
        return f"the message has no command to resume: {ended.text[-200:]}", True
    return toys.compare_resumed(toy, work, ended.last_saved, expected), True


def closed_stdout(toy: toys.Toy, work: Path, expected: dict[str, str]) -> str:
    """Stdout is a closed pipe, as in `sightline train | head -1`: the run finishes."""

    def setup() -> None:
        reader, writer = os.pipe()
        os.dup2(writer, 1)
        os.close(writer)
        os.close(reader)

    ended = toys.run_child(toy.train(work), work, setup)
    if ended.status or ended.traceback:
        return f"status {ended.status}: {ended.text[-300:]}"
    return toys.different_files(expected, toys.fingerprint(work / "run"))


@contextlib.contextmanager
def no_handlers() -> Generator[None]:
    """Signals end the process, as without Sightline's signal handlers."""
    signals, loop = (importlib.import_module(f"sightline.{name}") for name in ("runs.signals", "train"))
    with (
        toys.patched(signals, "handled_signals", lambda names: []),
        toys.patched(loop, "stoppable", contextlib.nullcontext),
    ):
        yield


def interrupt_without_message(_: Any) -> Any:
    """An interrupted command that prints nothing."""
    from sightline.errors import INTERRUPTED

    return lambda stop: INTERRUPTED


ROWS = (
    Row(
        "signals",
        "Interruptions and disks",
        "SIGINT, SIGTERM and SIGHUP in every phase from start-up to the report, Ctrl-C twice, and a closed pipe at "
        "stdout: exit status 4 and the command to resume, no traceback, and the results of a run without signals",
        check,
        {
            "no signal handlers": no_handlers,
            "no command to resume": defects.replace_attribute(
                "__main__", "interrupted_status", interrupt_without_message
            ),
        }
        | defects.select("sample order ignores the seed"),
        toys.unavailable,
        quick=False,
    ),
)
