"""The page of a run while it trains: served on this machine only, drawn anew when the run has something new."""

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
from .html import element
from .page import layout, render

ADDRESS = "127.0.0.1"
SLOWEST_CLIENT = 20  # seconds that a connection may take


class Watched:
    """A run's page, drawn again when what it is made of has changed."""

    def __init__(self, run: Path):
        self.run, self.drawn, self.text = run, "", ""
        self.lock = threading.Lock()

    def stamp(self) -> str:
        """Changes whenever the run has logged something or its predictions are there; "" before it begins."""
        stamps = []
        for name in ("metrics.jsonl", "predictions/val.csv", "predictions/val-confusion.npz"):
            with contextlib.suppress(OSError):
                found = os.stat(self.run / name)
                stamps.append(f"{found.st_size}-{found.st_mtime_ns}")
        return "_".join(stamps)

    def page(self) -> str:
        """The page of now."""
        with self.lock:
            stamp = self.stamp()
            if not self.text or stamp != self.drawn:
                try:
                    self.text = render(self.run, stamp or "waiting")[0]
                except SightlineError:
                    waiting = element("p", f"No run is in {self.run} yet. This page looks again by itself.")
                    self.text = layout("Sightline", self.run.name, "", [("Waiting", [waiting])], watched="waiting")
                self.drawn = stamp
            return self.text


class Handler(BaseHTTPRequestHandler):
    """GET / is the page, GET /state tells whether there is something new. Nothing else is answered."""

    timeout = SLOWEST_CLIENT
    server_version, sys_version = "Sightline", ""

    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        if self.headers.get("Host") not in self.server.hosts:  # another site's name that points to this machine
            self.reply(403, "text/plain", "this page answers to its own address only")
        elif self.path == "/":
            self.reply(200, "text/html", self.server.watched.page())
        elif self.path == "/state":
            self.reply(200, "application/json", json.dumps({"stamp": self.server.watched.stamp()}))
        else:
            self.reply(404, "text/plain", "there is only /")

    def reply(self, status: int, kind: str, text: str) -> None:
        content = text.encode("utf-8", "backslashreplace")
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the reader has gone
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """A terminal that shows training is no place for requests."""


class Server(ThreadingHTTPServer):
    """A server of one watched run, on this machine only."""

    daemon_threads = True

    def __init__(self, run: Path, port: int):
        self.watched = Watched(run)
        super().__init__((ADDRESS, port), Handler)
        self.hosts = {f"{name}:{self.server_address[1]}" for name in (ADDRESS, "localhost")}

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.server_address[1]}/"


def serve(run: Path, port: int = 0, say: Callable[[str], object] = print) -> None:
    """Serve the page of `run` until Ctrl-C. port 0: one that is free. Raises SightlineError where a port is taken."""
    try:
        server = Server(run, port)
    except OSError as error:
        cure = "leave --port out, and a free one is taken"
        raise SightlineError(
            f"port {port} cannot be used", why=error.strerror or "", cure=cure, status=ENVIRONMENT
        ) from error
    say(f"watch it at {server.url}")
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever(poll_interval=0.2)


@contextlib.contextmanager
def watching(run: Path, say: Callable[[str], object]) -> Generator[None]:
    """A process beside this one that serves the run's page while the block runs, at low priority."""
    command = [sys.executable, "-m", "sightline", "report", str(run), "--watch"]
    quiet = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True, env=quiet,
        start_new_session=True,  # Ctrl-C is for the training
    )  # fmt: skip
    try:
        if hasattr(os, "setpriority"):
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, process.pid, 10)
        assert process.stdout is not None
        say(process.stdout.readline().strip() or "the page to watch could not be served")
        yield
    finally:
        process.terminate()
        process.wait()
        if process.stdout:
            process.stdout.close()
