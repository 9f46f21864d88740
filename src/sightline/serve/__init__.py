"""`sightline serve`: a page on this machine where a model is tried, and the same for programs."""

import contextlib
import errno
import os
import secrets
import socket
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ENVIRONMENT, SightlineError, printable
from ..runs import run_folder
from ..runs.terminal import print_plain

if TYPE_CHECKING:
    import uvicorn

    from .models import Served
    from .points import Pictures

Say = Callable[[str], None]
LOOPBACK = "127.0.0.1"
PORT = 8000
MOST_CLIENTS = 200
"""Connections at once; more are told to come again."""


def serve(
    run: str | os.PathLike[str],
    *others: str | os.PathLike[str],
    host: str = LOOPBACK,
    port: int | None = None,
    token: str = "",
    sam: str = "",
    neighbors: bool = True,
    max_mb: float = 32,
    quiet: bool = False,
) -> None:
    """Serve the page of one or several runs until Ctrl-C.

    host: 127.0.0.1, which no other machine can reach; any other needs a token, which is made and printed where none is
    given (or set as SIGHTLINE_TOKEN). port: 8000, or a free one where that is taken; 0: a free one. sam: a Segment
    Anything checkpoint, as `sightline masks` takes it, for points and boxes. neighbors: whether the nearest training
    pictures are shown. max_mb: the largest picture that is taken. Raises SightlineError before anything is served.
    """
    require_serve()
    say: Say = (lambda text: None) if quiet else print_plain
    folders = [run_folder.existing(one) for one in (run, *others)]
    for folder in folders:
        run_folder.require_weights(folder)
    if not 0 < max_mb <= 1000:
        raise SightlineError("this is no size for pictures", where=f"--max-mb {max_mb:g}", cure="0.1 to 1000")
    token = token or os.environ.get("SIGHTLINE_TOKEN", "")
    with bound(host, port) as listening:
        models, points = loaded(folders, neighbors, say), points_of(sam)
        with serving(models, listening, host, token, points, int(max_mb * 1e6)) as (server, url):
            say(f"try it at {url}\nCtrl-C ends it")
            with contextlib.suppress(KeyboardInterrupt):
                server.run(sockets=[listening])


def require_serve() -> None:
    """SightlineError where the packages of the extra are missing."""
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        why, cure = f"{error.name} is not installed", "pip install 'sightline-vision[serve]'"
        raise SightlineError("the page cannot be served", why=why, cure=cure, status=ENVIRONMENT) from error


def bound(host: str, port: int | None) -> socket.socket:
    """A socket that is bound to the address, so that a port that is taken is said before models are loaded."""
    wanted = PORT if port is None else port
    if not 0 <= wanted < 2**16:
        raise SightlineError("there is no such port", where=f"--port {wanted}", cure="0 to 65535; 0 takes a free one")
    try:
        family = socket.getaddrinfo(host, wanted, type=socket.SOCK_STREAM)[0][0]
    except (OSError, UnicodeError) as error:
        cure = "--host 127.0.0.1, or an address of this machine"
        raise SightlineError("there is no such address", where=f"--host {host}", why=str(error), cure=cure) from error
    for candidate in (wanted, *([0] if port is None else [])):
        # With this protocol named asyncio sends small pieces at once; without, each answer waits 40 ms for an ACK.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, candidate))
            listening.listen(MOST_CLIENTS)
            return listening
        except OSError as error:
            listening.close()
            problem = error
    cure = "leave --port out, and a free one is taken" if port else "--host 127.0.0.1"
    why = problem.strerror or str(problem)
    if problem.errno == errno.EADDRNOTAVAIL:
        cure = "--host 127.0.0.1, or an address of this machine"
        raise SightlineError("this machine has no such address", where=f"--host {host}", why=why, cure=cure)
    raise SightlineError(f"port {wanted} cannot be used", where=host, why=why, cure=cure, status=ENVIRONMENT)


def loaded(folders: list[Path], neighbors: bool, say: Say) -> "list[Served]":
    """The models, each called by its folder; by its place too where several share that."""
    from .models import load

    names = [printable(folder.resolve().name) for folder in folders]
    told = [name if names.count(name) == 1 else f"{name} {place + 1}" for place, name in enumerate(names)]
    return [load(folder, name, neighbors, say) for folder, name in zip(folders, told, strict=True)]


@contextlib.contextmanager
def serving(
    models: "Sequence[Served]",
    listening: socket.socket,
    host: str = LOOPBACK,
    token: str = "",
    points: "Pictures | None" = None,
    most_bytes: int = 32_000_000,
) -> "Generator[tuple[uvicorn.Server, str]]":
    """(a server that can be run, the address of its page) with the threads that it needs while the block runs."""
    import uvicorn

    from ..engine.device import use_threads
    from .app import DECODERS, Desk, build_app
    from .guard import Guard, is_loopback, names_of
    from .page import page, policy
    from .protocol import Protocol
    from .worker import Worker

    port = listening.getsockname()[1]
    if not is_loopback(host) and not token:
        token = secrets.token_urlsafe(24)
    shown = socket.gethostname() if host in ("0.0.0.0", "::") else host
    url = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"
    html = page(
        [model.name for model in models], [model.described().task for model in models], url, bool(token), most_bytes
    )
    threads = models[0].config.train.threads
    worker, decoders = Worker(lambda: use_threads(threads)), ThreadPoolExecutor(DECODERS)
    app = build_app(Desk(models, worker, decoders, html, most_bytes, points))
    config = uvicorn.Config(
        Guard(app, names_of(host, port), token, most_bytes, policy()),
        http=Protocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
        limit_concurrency=MOST_CLIENTS, timeout_graceful_shutdown=5,
    )  # fmt: skip
    worker.start()
    for model in models:
        worker.when_idle(model.prepared())
    try:
        yield uvicorn.Server(config), f"{url}?token={token}" if token else url
    finally:
        worker.stop()
        decoders.shutdown(cancel_futures=True)


def points_of(sam: str) -> "Pictures | None":
    """Segment Anything for the page, where a checkpoint is named."""
    if not sam:
        return None
    from ..segment_anything.model import load_sam
    from .points import Pictures

    return Pictures(load_sam(sam))
