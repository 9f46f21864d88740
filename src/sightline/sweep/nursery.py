"""Where trials train: a process that has torch loaded and forks one child a trial.

A child of its own isolates crashes and lack of memory; forking saves loading the libraries for each. The parent writes
a job, a line of JSON, and reads two: the child's number when it runs, how it ended when it is gone. When the parent
dies, however it dies, the pipe ends and the child is ended too.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import INTERRUPTED, SightlineError

WATCH_SECONDS = 0.05
MESSAGE_BYTES = 20_000
END_SECONDS = 10.0


class Nursery:
    """The parent's end. One trial at a time: `start`, then `wait` until it says how the trial ended."""

    def __init__(self, environment: dict[str, str] | None = None):
        self.environment = environment or {}
        self.process: Any = None
        self.child = 0
        self.rest = b""

    def start(self, job: dict[str, Any]) -> None:
        """Begin to train a job; a nursery that has died is made anew."""
        self.warm_up()
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(job).encode() + b"\n")
            self.process.stdin.flush()

    def warm_up(self) -> None:
        """Have the process begin to load its libraries, if it has not."""
        if self.process is None or self.process.poll() is not None:
            self.close()
            self.process = spawn(self.environment)
            self.rest, self.child = b"", 0

    def wait(self, seconds: float) -> dict[str, Any] | None:
        """How the trial ended, {"exit": status or -signal, "error": {...} or None}; None while it goes on."""
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            return None
        piece = os.read(self.process.stdout.fileno(), 65536)
        if not piece:
            self.child = 0
            return {"exit": -signal.SIGKILL, "error": None}
        *lines, self.rest = (self.rest + piece).split(b"\n")
        for line in map(json.loads, lines):
            self.child = line.get("child", 0)
            if "exit" in line:
                return line
        return None

    def stop(self) -> None:
        """Ask the trial to stop politely: it finishes its step and saves."""
        if self.child:
            with suppress(ProcessLookupError):
                os.kill(self.child, signal.SIGTERM)

    def close(self) -> None:
        """End the process, and a trial that goes on, at once."""
        if self.process is None:
            return
        with suppress(OSError):
            self.process.stdin.close()
        with suppress(OSError):
            self.process.stdout.close()
        try:
            self.process.wait(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


def spawn(environment: dict[str, str]) -> Any:
    """The nursery as a process in a session of its own: Ctrl-C in the terminal is the parent's to handle."""
    return subprocess.Popen(
        [sys.executable, "-c", "from sightline.sweep.nursery import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | environment,
        start_new_session=True,
        bufsize=0,
    )


def serve(requests: int, answers: int) -> None:
    """The other end: jobs out of one descriptor, what becomes of them into another; until the first is closed."""
    import sightline.resume
    import sightline.train  # noqa: F401 - children have them from here

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(signal.Signals[name], signal.SIG_IGN)
    rest = b""
    while piece := os.read(requests, 65536):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            raise_one(json.loads(line), requests, answers)


def raise_one(job: dict[str, Any], requests: int, answers: int) -> None:
    """One trial, from its fork to its end."""
    reader, writer = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os._exit(grow(job, writer, parent))
    os.close(writer)
    answer(answers, {"child": child})
    message = b""
    while True:
        ready = select.select([requests, reader], [], [], WATCH_SECONDS)[0]
        if requests in ready:  # nothing is sent while a trial goes on: this is the end of the parent
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os._exit(0)
        piece = os.read(reader, 65536) if reader in ready else b""
        message += piece
        done, status = os.waitpid(child, 0 if reader in ready and not piece else os.WNOHANG)
        if done:
            break
    os.close(reader)
    with suppress(ValueError):
        error = json.loads(message) if message else None
        answer(answers, {"exit": os.waitstatus_to_exitcode(status), "error": error})
        return
    answer(answers, {"exit": os.waitstatus_to_exitcode(status), "error": None})


def answer(answers: int, line: dict[str, Any]) -> None:
    with suppress(BrokenPipeError):
        os.write(answers, json.dumps(line).encode() + b"\n")


def grow(job: dict[str, Any], writer: int, parent: int) -> int:
    """The child: train, or go on; returns the exit status. What went wrong goes to `writer`, all output to the log."""
    end_with(parent)
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(signal.Signals[name], signal.SIG_DFL)
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv = list(job["argv"])
    status, error = 0, None
    try:
        train_or_resume(Path(job["folder"]), job["recipe"])
    except SightlineError as wrong:
        print(wrong)
        status = wrong.status
        error = {"what": wrong.what, "where": wrong.where, "why": wrong.why, "cure": wrong.cure}
    except BaseException as wrong:
        traceback.print_exc()
        status = INTERRUPTED if isinstance(wrong, KeyboardInterrupt) else 1
        error = {"what": f"{type(wrong).__name__}: {wrong}", "where": job["log"], "why": "", "cure": ""}
    if error:
        os.write(writer, json.dumps({key: text[: MESSAGE_BYTES // 4] for key, text in error.items()}).encode())
    sys.stdout.flush()
    return status


def train_or_resume(folder: Path, text: str) -> None:
    """The run of a trial: gone on with where its folder has a state, else begun, and begun anew where it is damaged."""
    from ..config.resolve import combined, flat
    from ..config.schema import Config
    from ..config.strict_yaml import parse_yaml
    from ..train import resume, train

    config = combined(Config(), flat(parse_yaml(text, str(folder)), str(folder)), str(folder))
    if (folder / "recipe.yaml").is_file() and any((folder / "checkpoints" / "last").glob("state-*.safetensors")):
        try:
            resume(folder)
            return
        except SightlineError as error:
            if error.status != 2:
                raise
            print(f"this trial cannot be gone on with, and begins anew:\n{error}")
    train(config, out=folder, overwrite=(folder / "recipe.yaml").is_file())


def end_with(parent: int) -> None:
    """Have Linux end this process when the one that forked it ends."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)


def main() -> None:
    """The nursery's process: jobs on stdin, answers on stdout."""
    answers = os.dup(1)
    os.dup2(2, 1)  # a library that prints while it loads must not speak into the answers
    serve(0, answers)
