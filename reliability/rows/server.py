"""Attacks on the server and on the watched report: paths, hosts, origins, malformed requests, slow and many clients."""

import contextlib
import io
import socket
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from reliability.contract import Outcome, Row, Settings
from reliability.mutations import encoded, image_seeds, mutant, synthetic_image
from reliability.page_fixtures import without_figures, write_run

if TYPE_CHECKING:
    from sightline.serve.models import ServedModel

SECTION = "Web server"
CANARY = "canary-4711-not-to-be-seen"
MOST_BYTES = 200_000
SLOW = 50


def traversals() -> list[str]:
    """Paths for path traversal attacks, which reach other files on servers that make file names from paths."""
    steps = (
        "../",
        "..%2f",
        "%2e%2e/",
        "%2e%2e%2f",
        "%252e%252e%252f",
        "..\\",
        "..%5c",
        "....//",
        "..;/",
        "%c0%ae%c0%ae/",
    )
    ends = ("etc/passwd", "secret.txt", "recipe.yaml", "checkpoints/best/config.json")
    made = [f"/{step * depth}{end}" for step in steps for depth, end in zip((1, 3, 8, 2), ends, strict=True)]
    made += [f"/{prefix}/../../../../etc/passwd" for prefix in ("static", "assets", "api", "files", "api/models/0")]
    made += [f"/api/models/0/examples/{step}secret.txt" for step in steps]
    plain = (
        "//etc/passwd",
        "/etc/passwd",
        "///secret.txt",
        "/secret.txt",
        "/file:///etc/passwd",
        "/?file=/etc/passwd",
        "/file=/etc/passwd",
        "/get-artifact?path=../../etc/passwd",
        "/%00",
        "/secret.txt%00.png",
        "/C:/x",
        "/~/secret.txt",
        "/\\\\host\\share",
        "/.git/config",
        "/.env",
        "/recipe.yaml",
        "/metrics.jsonl",
        "/checkpoints/",
        "/docs",
        "/redoc",
        "/proc/self/environ",
        "/api/models/-1/training/0.png",
        "/api/models/0/training/-1.png",
        "/api/models/0x0/examples",
        "/api/models/99999999999999999999/training/0.png",
        "/api/models/0/training/0.png/../../../../secret.txt",
    )
    return [*made, *plain]


def hosts(port: int) -> list[tuple[dict[str, str], bool]]:
    """(headers with a Host, whether the server must accept it)."""
    own = [{"Host": f"{name}:{port}"} for name in ("127.0.0.1", "localhost")]
    foreign = [
        "evil.com",
        f"evil.com:{port}",
        f"127.0.0.1.evil.com:{port}",
        f"localhost.evil.com:{port}",
        "",
        f"0.0.0.0:{port}",
        f"2130706433:{port}",
        f"127.1:{port}",
        f"user@127.0.0.1:{port}",
        f"[::1:{port}",
        f"10.0.0.1:{port}",
    ]
    return [(headers, True) for headers in own] + [({"Host": name}, False) for name in foreign]


def origins(port: int) -> list[tuple[dict[str, str], bool]]:
    """(headers with Origin or Sec-Fetch-Site, as sent by browsers, whether the server must accept them)."""
    host = {"Host": f"127.0.0.1:{port}"}
    foreign = (
        "http://evil.com",
        "null",
        f"http://localhost:{port}",
        "http://127.0.0.1",
        f"http://127.0.0.1:{port + 1}",
        "file://",
        f"http://127.0.0.1:{port}.evil.com",
        f"http://evil.com:{port}",
        f"chrome-extension://127.0.0.1:{port}",
        f"ftp://127.0.0.1:{port}",
    )
    made: list[tuple[dict[str, str], bool]] = [({**host, "Origin": f"http://127.0.0.1:{port}"}, True), (host, True)]
    made += [({**host, "Origin": origin}, False) for origin in foreign]
    return made + [({**host, "Sec-Fetch-Site": site}, False) for site in ("cross-site", "same-site")]


def malformed(port: int) -> list[bytes]:
    """Requests with wrong lengths, and data that is not an HTTP request."""
    head = f"POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode()
    get = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode()
    return [
        head + b"Content-Length: 999999999999\r\n\r\n",
        head + b"Content-Length: -5\r\n\r\nhello",
        head + b"Content-Length: 5, 6\r\n\r\nhello!",
        head + b"Content-Length: 0x5\r\n\r\nhello",
        head + b"Content-Length: 5\r\nContent-Length: 9\r\n\r\nhello",
        head + b"Content-Length: \xb2\r\n\r\nhe",
        head + b"Content-Length: 1e9\r\n\r\nx",
        head + b"Transfer-Encoding: gzip\r\n\r\nx",
        head + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
        head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        head + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /secret.txt HTTP/1.1\r\n\r\n",
        get + b"X: " + b"a" * 1_000_000 + b"\r\n\r\n",
        get + b"X: y\r\n" * 50_000 + b"\r\n",
        b"\x16\x03\x01" + bytes(200),
        b"\r\n" * 10_000,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"G" * 100_000,
        bytes(range(256)) * 40,
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: x\r\n\r\n",
        get.replace(b"GET", b"TRACE") + b"\r\n",
        get.replace(b"GET", b"CONNECT") + b"\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]


def send(port: int, request: bytes, timeout: float = 15) -> bytes:
    """Send a request and return the response, b"" if the server closed the connection."""
    response = b""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=timeout) as raw:
        raw.sendall(request)
        while piece := raw.recv(65536):
            response += piece
    return response


def request(path: str, headers: dict[str, str], method: str = "GET", body: bytes = b"") -> bytes:
    """An HTTP request that asks to close the connection."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "Connection: close"]
    lines += [f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def status(response: bytes) -> int:
    """The status code of a response, 0 if it has none."""
    return int(response[9:12]) if response[9:12].isdigit() else 0


def forbidden_content(response: bytes) -> str:
    """The forbidden content of a response, "" if it has none."""
    for text in (b"root:x:0", CANARY.encode(), b"Traceback", b'File "'):
        if text in response:
            return f"it contains {text.decode()}"
    head = response.partition(b"\r\n\r\n")[0].lower()
    return "it allows other origins" if b"access-control-allow" in head else ""


class Tally:
    """Counts trials and failures of one server; call `check_page` after each group of trials."""

    def __init__(self, port: int, short: bool):
        self.port, self.short, self.tried, self.failures = port, short, 0, list[str]()

    def trial(self, what: str, response: bytes, allowed: Callable[[int], bool]) -> None:
        """Record a failure if the content is forbidden or the status code is not allowed."""
        self.tried += 1
        problem = forbidden_content(response)
        if problem or not allowed(status(response)):
            self.failures.append(f"{what}: {problem or response[:80]!r}")

    def check_page(self, after: str) -> None:
        """Record a failure if the page is not returned with status 200 within 5 seconds."""
        start = time.monotonic()
        response = send(self.port, request("/", {"Host": f"127.0.0.1:{self.port}"}))
        seconds = time.monotonic() - start
        if status(response) != 200 or seconds > 5:
            self.failures.append(f"after {after} the page returned {response[:40]!r} in {seconds:.1f} s")


def common(tally: Tally, closes_slow: bool) -> None:
    """Trials of both servers. closes_slow: whether the server closes connections without a complete request."""
    own = {"Host": f"127.0.0.1:{tally.port}"}
    for path in traversals()[:: 5 if tally.short else 1]:
        # The page with a query is valid; no other path is.
        allowed = (200, 400, 404, 405, 422) if path.startswith("/?") else (0, 400, 403, 404, 405, 422)
        tally.trial(path, send(tally.port, request(path, own)), lambda code, allowed=allowed: code in allowed)
    tally.check_page("path traversal")
    for headers, good in hosts(tally.port):
        response = send(tally.port, request("/", headers))
        tally.trial(f"{headers}", response, lambda code, good=good: (code == 200) is good)
    requests = malformed(tally.port)
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda content: send(tally.port, content, 8), requests))
    for number, (content, response) in enumerate(zip(requests, responses, strict=True)):
        tally.trial(f"malformed request {number} {content[:60]!r}", response, lambda code: code == 0 or code >= 400)
    tally.check_page("malformed requests")
    slow = [socket.create_connection(("127.0.0.1", tally.port), timeout=20) for _ in range(SLOW)]
    for number, one in enumerate(slow):
        one.sendall(b"GET / HTTP/1.1\r\nHos" if number % 2 else b"")
    start = time.monotonic()
    tally.tried += SLOW
    tally.check_page(f"{SLOW} slow clients connected")
    for one in slow:
        with one, contextlib.suppress(ConnectionError, TimeoutError):
            if closes_slow:
                one.recv(65536)
    if time.monotonic() - start > 20:
        tally.failures.append("connections of slow clients are never closed")
    tally.check_page("slow clients")


# ----------------------------------------------------------------------------------------------------- the servers


def train_toy(folder: Path) -> "ServedModel":
    """Train a model to serve, and write secret files beside the data and into the run."""
    import sightline
    from sightline.serve import load

    for number in range(8):
        class_folder = folder / "photos" / f"class_{number % 2}"
        class_folder.mkdir(parents=True, exist_ok=True)
        synthetic_image((16, 16), seed=number).save(class_folder / f"{number}.png")
    (folder / "photos" / "secret.txt").write_text(CANARY)
    settings: dict[str, Any] = {"data.size": 16, "model.name": "small_cnn", "train.epochs": 1, "train.threads": 1}
    settings |= {"data.cache_dir": str(folder / "cache")}
    with without_figures():
        sightline.train("photos_scratch", folder / "photos", out=folder / "run", quiet=True, **settings)
    (folder / "run" / "secret.txt").write_text(CANARY)
    return load(folder / "run", "toy", False, lambda text: None)


@contextlib.contextmanager
def served(model: "ServedModel") -> Generator[int]:
    """Serve one model in a thread; yields the port."""
    from sightline.serve import bind, serving

    with bind(0) as listening, serving([model], listening, most_bytes=MOST_BYTES) as (server, _):
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        until = time.monotonic() + 20
        while not server.started and time.monotonic() < until:
            time.sleep(0.01)
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(10)


def check_served(settings: Settings) -> Outcome:
    """Attack `sightline serve` with one model."""
    model = train_toy(settings.folder)
    with contextlib.chdir(settings.folder / "run"), served(model) as port:
        tally = Tally(port, settings.short)
        common(tally, closes_slow=False)
        image = encoded(synthetic_image((16, 16)), "PNG")
        for headers, good in origins(port):
            response = send(port, request("/api/predict", headers, "POST", image))
            tally.trial(f"{headers}", response, lambda code, good=good: (code == 200) is good)
        own = {"Host": f"127.0.0.1:{port}"}
        for content, code in (
            (b"x" * (MOST_BYTES + 1), 413),
            (b"", 400),
            (b"hello", 400),
            (b"<html>", 400),
            (_bomb(), 400),
        ):
            response = send(port, request("/api/predict", own, "POST", content))
            tally.trial(f"{len(content)} bytes {content[:12]!r}", response, lambda found, code=code: found == code)
        seeds = image_seeds()
        for number in range(settings.count(1500)):
            name, mutation, content = mutant(seeds, settings.seed, number)
            response = send(port, request("/api/predict", own, "POST", content))
            tally.trial(f"{name}, {mutation}, {number}", response, lambda code: code in (200, 400))
        tally.check_page("damaged images")
        _many(tally, image, settings.count(400, 32))
        tally.check_page("many clients")
        return Outcome(tally.tried, tuple(tally.failures))


def _bomb() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(file, "PNG")
    return file.getvalue()


def _close(found: object, expected: object) -> bool:
    """Whether two answers are equal; numbers may differ by rounding, as sums depend on the other images of a batch."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(_close(found[key], expected[key]) for key in found)
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(_close, found, expected))
    if isinstance(found, float) and isinstance(expected, float):
        return abs(found - expected) < 1e-5
    return found == expected


def _many(tally: Tally, image: bytes, count: int) -> None:
    """Send simultaneous requests: each response equals that of a single request but for rounding, or has
    status 503."""
    import json

    def predictions(response: bytes) -> object:
        return json.loads(response.partition(b"\r\n\r\n")[2])["answers"]

    upload = request("/api/predict", {"Host": f"127.0.0.1:{tally.port}"}, "POST", image)
    alone = predictions(send(tally.port, upload))
    with ThreadPoolExecutor(32) as pool:
        for response in pool.map(lambda _: send(tally.port, upload, 60), range(count)):
            tally.trial("simultaneous request", response, lambda code: code in (200, 503))
            if status(response) == 200 and not _close(predictions(response), alone):
                tally.failures.append("a simultaneous request got another response")


def check_watched(settings: Settings) -> Outcome:
    """Attack the server of `sightline report --watch`."""
    from sightline.report.watch import WatchHandler, WatchServer

    run = write_run(settings.folder / "run", "a run")
    (run / "secret.txt").write_text(CANARY)
    with (
        contextlib.chdir(run),
        without_figures(),
        mock.patch.object(WatchHandler, "timeout", 1.0),
        WatchServer(run, 0) as server,
    ):
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            tally = Tally(server.server_address[1], settings.short)
            common(tally, closes_slow=True)
            response = send(tally.port, request("/", {"Host": f"127.0.0.1:{tally.port}"}, "POST", b"x"))
            tally.trial("POST", response, lambda code: code >= 400)
        finally:
            server.shutdown()
            thread.join(10)
    return Outcome(tally.tried, tuple(tally.failures))


@contextlib.contextmanager
def any_host() -> Generator[None]:
    """A server that accepts any host name."""
    from sightline.serve import app

    with mock.patch.object(app, "HOSTS", ["*"]):
        yield


@contextlib.contextmanager
def any_origin() -> Generator[None]:
    """A server that checks the Host header but not the Origin."""
    from sightline.serve import guard

    with mock.patch.object(guard, "check_origin", lambda path, headers: None):
        yield


@contextlib.contextmanager
def serves_files() -> Generator[None]:
    """A server that also returns files of the current folder."""
    from urllib.parse import unquote

    from sightline.report import watch

    real = watch.WatchHandler.do_GET

    def do_get(self: watch.WatchHandler) -> None:
        path = Path("." + unquote(self.path.partition("?")[0]))
        with contextlib.suppress(OSError, ValueError):
            if self.path != "/" and path.is_file():
                self.reply(200, "text/plain", path.read_text())
                return
        real(self)

    with mock.patch.object(watch.WatchHandler, "do_GET", do_get):
        yield


ROWS = (
    Row(
        "attacks on the server",
        SECTION,
        "path traversal, foreign hosts and origins, malformed requests, slow and many clients: `sightline serve` "
        "continues to work and returns no files",
        check_served,
        {"any host is accepted": any_host, "any origin is accepted": any_origin},
        quick=False,
    ),
    Row(
        "attacks on the watched report",
        SECTION,
        "the same attacks on the server of `sightline report --watch`",
        check_watched,
        {"files are served": serves_files},
        quick=False,
    ),
)
