"""`sightline serve`: a local web page to try trained models on images, with a JSON API."""

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from ..engine.device import use_threads
from ..errors import ENVIRONMENT, SightlineError, printable
from ..inference.reading import channels_text
from ..runs import run_folder
from ..runs.terminal import print_plain
from ..segment_anything.model import load_sam
from ..tasks import TASKS
from ..tasks.files import load_recipe_file
from ..user_code import accepts_code
from .models import ServedModel
from .page import page, policy
from .points import EmbeddingCache
from .worker import InferenceWorker

try:  # the extra `serve`
    import fastapi  # noqa: F401
    import uvicorn
except ImportError as error:
    MISSING = error.name
else:
    from .app import AppState, build_app
    from .guard import Guard

    MISSING = None

ADDRESS = "127.0.0.1"
PORT = 8000
MOST_CLIENTS = 200
"""Maximum number of concurrent connections; uvicorn returns status 503 for further ones."""


@accepts_code
def serve(
    run: str | os.PathLike[str],
    *others: str | os.PathLike[str],
    port: int | None = None,
    sam: str = "",
    neighbors: bool = True,
    max_mb: float = 32,
    quiet: bool = False,
    code: str | os.PathLike[str] | None = None,
) -> None:
    """Serve a page for one or several runs at 127.0.0.1 until Ctrl-C.

    port: by default 8000, or a free port if 8000 is in use; 0: a free port. sam: a Segment Anything checkpoint, by the
    names that `sightline masks --model` has, to segment objects by points and boxes. neighbors: whether to show the
    nearest training images. max_mb: maximum size of an image file in megabytes. Raises SightlineError if the server
    cannot be started.
    """
    if MISSING:
        why, cure = f"{MISSING} is not installed", "pip install 'sightline-vision[serve]'"
        raise SightlineError(
            "`sightline serve` needs a package that is not installed", why=why, cure=cure, status=ENVIRONMENT
        )
    say: Callable[[str], None] = (lambda text: None) if quiet else print_plain
    folders = [run_folder.existing(one) for one in (run, *others)]
    for folder in folders:
        run_folder.require_weights(folder)
    if not 0 < max_mb <= 1000:
        raise SightlineError(
            "invalid limit for the size of uploaded files",
            where=f"--max-mb {max_mb:g}",
            cure="use 0.1 to 1000 MB, for example --max-mb 20",
        )
    with bind(port) as listening:
        models = load_all(folders, neighbors, say)
        points = EmbeddingCache(load_sam(sam)) if sam else None
        with serving(models, listening, points, int(max_mb * 1e6)) as (server, url):
            say(f"try it at {url}\nstop with Ctrl-C")
            with contextlib.suppress(KeyboardInterrupt):
                server.run(sockets=[listening])


def bind(port: int | None) -> socket.socket:
    """Listen on 127.0.0.1; returns the socket.

    port: None for 8000, or a free port if 8000 is in use; 0 for a free port. Raises SightlineError if a given port is
    invalid or in use.
    """
    wanted = PORT if port is None else port
    if not 0 <= wanted < 2**16:
        raise SightlineError(
            "invalid port", where=f"--port {wanted}", cure="use 1 to 65535, or --port 0 for a free port"
        )
    # asyncio disables Nagle's algorithm, which delays responses by 40 ms, only for sockets with this protocol.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if os.name == "posix":  # on Windows, this option lets a second server use a port that is in use
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    problem: OSError | None = None
    for candidate in (wanted, 0) if port is None else (wanted,):
        try:
            listening.bind((ADDRESS, candidate))
            listening.listen(MOST_CLIENTS)
            return listening
        except OSError as error:
            problem = error
    listening.close()
    used = problem is not None and problem.errno == errno.EADDRINUSE
    why = "another program uses it, perhaps another `sightline serve`" if used else str(problem)
    cure = "omit --port: a free port is chosen then"
    raise SightlineError(f"cannot use port {wanted}", where=ADDRESS, why=why, cure=cure, status=ENVIRONMENT)


def load_all(folders: Sequence[Path], neighbors: bool, say: Callable[[str], None]) -> list[ServedModel]:
    """Load the runs. Each is named after its folder; if several folders have the same name, a number is appended to
    it."""
    names = [printable(folder.resolve().name) for folder in folders]
    unique = [name if names.count(name) == 1 else f"{name} {index}" for index, name in enumerate(names, 1)]
    return [load(folder, name, neighbors, say) for folder, name in zip(folders, unique, strict=True)]


def load(folder: Path, name: str, neighbors: bool, say: Callable[[str], None]) -> ServedModel:
    """Load the run in `folder` under this name. neighbors: whether to index its training images."""
    config = load_recipe_file(folder / "recipe.yaml")
    task = TASKS[config.task]
    return task.supported(task.serve, "serve", str(folder))(folder, config, name, neighbors, say)


@contextlib.contextmanager
def serving(
    models: Sequence[ServedModel],
    listening: socket.socket,
    points: EmbeddingCache | None = None,
    most_bytes: int = 32_000_000,
) -> "Generator[tuple[uvicorn.Server, str]]":
    """Context manager; yields (a server to run, the URL of the page).

    Inside the block, a worker thread computes the predictions. listening: the socket. points: Segment Anything, or
    None. most_bytes: maximum size of an image file.
    """
    url = f"http://{ADDRESS}:{listening.getsockname()[1]}/"
    needs = [channels_text(model.channels) for model in models if not model.channels.plain]
    texts = [model.name for model in models], [model.returns for model in models]
    html = page(*texts, url, most_bytes, [*dict.fromkeys(needs)])
    threads = models[0].config.train.threads
    worker = InferenceWorker(lambda: use_threads(threads))
    app = build_app(AppState(models, worker, html, most_bytes, points))
    config = uvicorn.Config(
        Guard(app, most_bytes, policy()),
        http="h11", ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
        limit_concurrency=MOST_CLIENTS, timeout_graceful_shutdown=5,
    )  # fmt: skip
    worker.start()
    for model in models:
        worker.when_idle(model.background())
    try:
        yield uvicorn.Server(config), url
    finally:
        worker.stop()
