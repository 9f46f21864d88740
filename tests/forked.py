"""Processes that begin with everything imported: forked from one server, which a test session starts when it is needed.

A Python of its own takes three seconds to import torch. Use it where the start itself is what a test is about.
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

import sightline.train  # noqa: F401 - children have both from here
from sightline import __main__ as commands

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["forked_imports"])


def fork(work: Callable[..., Any], *arguments: Any, output: Path, **environment: str) -> BaseProcess:
    """Start `work(*arguments)`, whose result is the exit status; `work` is a function of a module in tests/.

    output: the file for stdout and stderr. environment: variables added to those that the server began with.
    """
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # the server's, so that it finds this module
    try:
        forkserver.ensure_running()
    finally:
        del os.environ["PYTHONPATH"]
        os.environ.update({"PYTHONPATH": before} if before is not None else {})
    process = CONTEXT.Process(target=live, args=(work, arguments, str(output), dict(os.environ) | environment))
    process.start()
    return process


def live(work: Callable[..., Any], arguments: tuple[Any, ...], output: str, environment: dict[str, str]) -> None:
    """The life of a child: never returns."""
    status = 1
    try:
        os.environ.clear()
        os.environ.update(environment)
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        os.fsync = lambda handle: None  # as in the tests' own process
        status = int(work(*arguments) or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def sightline_command(*tokens: object) -> int:
    """`sightline TOKENS`, without the report at the end of a run, which takes ten times as long as a toy."""
    page: Any = importlib.import_module("sightline.report.page")
    page.write_report = lambda folder: folder / "report.html"
    return commands.run([str(token) for token in tokens])


def ended(process: BaseProcess, seconds: float = 60.0) -> int:
    """The exit status of a process, -9 after SIGKILL; one that hangs is killed, and fails the test."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"it had not ended after {seconds:g} s")
    status = process.exitcode
    process.close()
    return status


def wait_until(condition: Callable[[], object], seconds: float = 60.0, pause: float = 0.01) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it had not come to that after {seconds:g} s"
        time.sleep(pause)
