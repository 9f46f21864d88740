"""Serve the report of a run at 127.0.0.1 during training; the page is updated when the run's log changes."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ..errors import ENVIRONMENT, SightlineError
from ..runs.code_file import code_option
from .html import element
from .page import layout, render

ADDRESS = "127.0.0.1"
TIMEOUT_SECONDS = 20  # of a connection


class WatchedRun:
    """The report of a run, rendered again when its files have changed."""

    def __init__(self, run: Path):
        self.run, self.rendered, self.text = run, "", ""
        self.lock = threading.Lock()

    def stamp(self) -> str:
        """A text that changes when the run's log or predictions change; "" before the run starts."""
        stamps = []
        for name in ("metrics.jsonl", "predictions/val.csv", "predictions/val-confusion.npz"):
            with contextlib.suppress(OSError):
                status = os.stat(self.run / name)
                stamps.append(f"{status.st_size}-{status.st_mtime_ns}")
        return "_".join(stamps)

    def page(self) -> str:
        """The page as HTML, rendered again if `stamp` has changed."""
        with self.lock:
            stamp = self.stamp()
            if not self.text or stamp != self.rendered:
                try:
                    self.text = render(self.run, stamp or "waiting")[0]
                except SightlineError:
                    waiting = element("p", f"There is no run in {self.run} yet. This page reloads when it starts.")
                    self.text = layout("Sightline", self.run.name, "", [("Waiting", [waiting])], watched="waiting")
                self.rendered = stamp
            return self.text


class WatchHandler(BaseHTTPRequestHandler):
    """Request handler: GET / returns the page, GET /state the stamp of the run's files; other paths are errors."""

    timeout = TIMEOUT_SECONDS
    server_version, sys_version = "Sightline", ""

    def do_GET(self) -> None:
        assert isinstance(self.server, WatchServer)
        if self.headers.get("Host") not in self.server.hosts:  # DNS rebinding
            self.reply(403, "text/plain", "invalid Host header")
        elif self.path == "/":
            self.reply(200, "text/html", self.server.watched.page())
        elif self.path == "/state":
            self.reply(200, "application/json", json.dumps({"stamp": self.server.watched.stamp()}))
        else:
            self.reply(404, "text/plain", "not found; the report is at /")

    def reply(self, status: int, kind: str, text: str) -> None:
        content = text.encode("utf-8", "backslashreplace")
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the client has disconnected
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Log no requests, because the terminal shows the training."""


class WatchServer(ThreadingHTTPServer):
    """HTTP server of the report of one run at 127.0.0.1."""

    daemon_threads = True

    def __init__(self, run: Path, port: int):
        self.watched = WatchedRun(run)
        super().__init__((ADDRESS, port), WatchHandler)
        self.hosts = {f"{name}:{self.server_address[1]}" for name in (ADDRESS, "localhost")}

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.server_address[1]}/"


def serve(run: Path, port: int = 0, say: Callable[[str], object] = print) -> None:
    """Serve the report of `run` until Ctrl-C. port 0: a free port. Raises SightlineError if the port cannot be used."""
    try:
        server = WatchServer(run, port)
    except OverflowError as error:
        raise SightlineError("invalid port", where=f"--port {port}", cure="use 1 to 65535, or omit --port") from error
    except OSError as error:
        what, cure = f"port {port} cannot be used", "omit --port: a free port is chosen then"
        raise SightlineError(what, why=error.strerror or "", cure=cure, status=ENVIRONMENT) from error
    say(f"watch the run at {server.url}")
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever(poll_interval=0.2)


@contextlib.contextmanager
def watching(run: Path, say: Callable[[str], object]) -> Generator[None]:
    """Context manager: a child process with low priority serves the report of a run.

    say: is called with the URL, or with a warning if the report cannot be served.
    """
    command = [sys.executable, "-m", "sightline", "report", str(run), "--watch", *code_option(run)]
    settings = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True, env=settings,
        start_new_session=True,  # Ctrl-C is sent to the training only
    )  # fmt: skip
    try:
        if hasattr(os, "setpriority"):
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, process.pid, 10)
        assert process.stdout is not None
        say(process.stdout.readline().strip() or "warning: the report cannot be served; the training continues")
        yield
    finally:
        process.terminate()
        process.wait()
        if process.stdout:
            process.stdout.close()
