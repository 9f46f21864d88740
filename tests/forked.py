"""Child processes forked from a fork server that has imported torch and Sightline.

The server is started once per test session, when it is first needed. A new interpreter would take three seconds to
import torch; start one only in tests of the start itself.
"""

import importlib
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from sightline import __main__ as commands
from sightline.engine import device

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["forked_imports"])


def fork(work: Callable[..., Any], *arguments: Any, output: Path, **environment: str) -> BaseProcess:
    """Start `work(*arguments)` in a child process; its return value is the exit status.

    work: a function of a module in tests/. output: file for stdout and stderr. environment: additional environment
    variables.
    """
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # for the server, so that it can import this module
    try:
        forkserver.ensure_running()
    finally:
        del os.environ["PYTHONPATH"]
        os.environ.update({"PYTHONPATH": before} if before is not None else {})
    process = CONTEXT.Process(target=child_main, args=(work, arguments, str(output), dict(os.environ) | environment))
    process.start()
    return process


def child_main(work: Callable[..., Any], arguments: tuple[Any, ...], output: str, environment: dict[str, str]) -> None:
    """Run `work` in the child and exit; never returns."""
    status = 1
    try:
        os.environ.clear()
        os.environ.update(environment)
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        os.fsync = lambda handle: None  # as in the test process
        device.has_bfloat16 = lambda: False
        status = int(work(*arguments) or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def sightline_command(*tokens: object) -> int:
    """Run `sightline TOKENS` without writing reports, which take ten times as long as a toy run."""
    train: Any = importlib.import_module("sightline.train")
    train.write_report = lambda folder: folder / "report.html"
    return commands.run([str(token) for token in tokens])


def ended(process: BaseProcess, seconds: float = 60.0) -> int:
    """Wait for a process and return its exit status, -9 after SIGKILL. A timeout kills it and raises AssertionError."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"the process still runs after {seconds:g} s")
    status = process.exitcode
    process.close()
    return status


def wait_until(condition: Callable[[], object], seconds: float = 60.0, pause: float = 0.01) -> None:
    """Wait until `condition()` is true; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"the condition is not true after {seconds:g} s"
        time.sleep(pause)
