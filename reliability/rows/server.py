"""The served page and the watched report: paths, hosts, origins, lengths, slow and many clients. On 127.0.0.1 alone."""

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
from reliability.mutants import encoded, image_seeds, mutant, scene
from reliability.named import without_figures, write_run

if TYPE_CHECKING:
    from sightline.serve.models import ServedModel

SECTION = "The page server"
CANARY = "canary-4711-not-to-be-seen"
MOST_BYTES = 200_000
SLOW = 50


def traversals() -> list[str]:
    """Paths that lead to files on servers that build names of files out of them."""
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
    made += [f"/{place}/../../../../etc/passwd" for place in ("static", "assets", "api", "files", "api/models/0")]
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
    """(headers, whether they are this server's own)."""
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
    """As `hosts`, of what browsers say about the page that asks."""
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


def lying(port: int) -> list[bytes]:
    """Requests whose heads don't tell the truth, or aren't heads."""
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


def ask(port: int, request: bytes, patience: float = 15) -> bytes:
    """All that comes back; empty where the server hung up."""
    answer = b""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=patience) as raw:
        raw.sendall(request)
        while piece := raw.recv(65536):
            answer += piece
    return answer


def request(path: str, headers: dict[str, str], method: str = "GET", body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "Connection: close"]
    lines += [f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def status(answer: bytes) -> int:
    return int(answer[9:12]) if answer[9:12].isdigit() else 0


def bad_answer(answer: bytes) -> str:
    """Why an answer must not be; "" if it may."""
    for words in (b"root:x:0", CANARY.encode(), b"Traceback", b'File "'):
        if words in answer:
            return f"it says {words.decode()}"
    head = answer.partition(b"\r\n\r\n")[0].lower()
    return "it allows other origins" if b"access-control-allow" in head else ""


class Tally:
    """Trials and failures of one server; `lives` is asked after each group."""

    def __init__(self, port: int, short: bool):
        self.port, self.short, self.tried, self.failures = port, short, 0, list[str]()

    def trial(self, what: str, answer: bytes, allowed: Callable[[int], bool]) -> None:
        self.tried += 1
        problem = bad_answer(answer)
        if problem or not allowed(status(answer)):
            self.failures.append(f"{what}: {problem or answer[:80]!r}")

    def lives(self, after: str) -> None:
        start = time.monotonic()
        answer = ask(self.port, request("/", {"Host": f"127.0.0.1:{self.port}"}))
        if status(answer) != 200 or time.monotonic() - start > 5:
            self.failures.append(f"after {after} the page came with {answer[:40]!r}, {time.monotonic() - start:.1f} s")


def common(tally: Tally, closes_slow: bool) -> None:
    """Trials of both servers. closes_slow: whether the server closes connections on which no request arrives."""
    own = {"Host": f"127.0.0.1:{tally.port}"}
    for path in traversals()[:: 5 if tally.short else 1]:
        # An own page with a query is still the page; anything else is not there.
        allowed = (200, 400, 404, 405, 422) if path.startswith("/?") else (0, 400, 403, 404, 405, 422)
        tally.trial(path, ask(tally.port, request(path, own)), lambda code, allowed=allowed: code in allowed)
    tally.lives("path tricks")
    for headers, good in hosts(tally.port):
        answer = ask(tally.port, request("/", headers))
        tally.trial(f"{headers}", answer, lambda code, good=good: (code == 200) is good)
    lies = lying(tally.port)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda content: ask(tally.port, content, 8), lies))
    for number, (content, answer) in enumerate(zip(lies, answers, strict=True)):
        tally.trial(f"lie {number} {content[:60]!r}", answer, lambda code: code == 0 or code >= 400)
    tally.lives("lies")
    slow = [socket.create_connection(("127.0.0.1", tally.port), timeout=20) for _ in range(SLOW)]
    for number, one in enumerate(slow):
        one.sendall(b"GET / HTTP/1.1\r\nHos" if number % 2 else b"")
    start = time.monotonic()
    tally.tried += SLOW
    tally.lives(f"{SLOW} slow clients came")
    for one in slow:
        with one, contextlib.suppress(ConnectionError, TimeoutError):
            if closes_slow:
                one.recv(65536)
    if time.monotonic() - start > 20:
        tally.failures.append("connections of slow clients are never closed")
    tally.lives("slow clients")


# ----------------------------------------------------------------------------------------------------- the servers


def train_toy(folder: Path) -> "ServedModel":
    """A model to serve, with a secret beside it."""
    import sightline
    from sightline.serve import load

    for number in range(8):
        place = folder / "photos" / f"class_{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        scene((16, 16), seed=number).save(place / f"{number}.png")
    (folder / "photos" / "secret.txt").write_text(CANARY)
    settings: dict[str, Any] = {"data.size": 16, "model.name": "small_cnn", "train.epochs": 1, "train.threads": 1}
    settings |= {"data.cache_dir": str(folder / "cache")}
    with without_figures():
        sightline.train("photos_scratch", folder / "photos", out=folder / "run", quiet=True, **settings)
    (folder / "run" / "secret.txt").write_text(CANARY)
    return load(folder / "run", "toy", False, lambda text: None)


@contextlib.contextmanager
def served(model: "ServedModel") -> Generator[int]:
    """The port of a server of one model, in a thread."""
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
    """`sightline serve` with one model."""
    model = train_toy(settings.folder)
    with contextlib.chdir(settings.folder / "run"), served(model) as port:
        tally = Tally(port, settings.short)
        common(tally, closes_slow=False)
        picture = encoded(scene((16, 16)), "PNG")
        for headers, good in origins(port):
            answer = ask(port, request("/api/predict", headers, "POST", picture))
            tally.trial(f"{headers}", answer, lambda code, good=good: (code == 200) is good)
        own = {"Host": f"127.0.0.1:{port}"}
        for content, code in (
            (b"x" * (MOST_BYTES + 1), 413),
            (b"", 400),
            (b"hello", 400),
            (b"<html>", 400),
            (_bomb(), 400),
        ):
            answer = ask(port, request("/api/predict", own, "POST", content))
            tally.trial(f"{len(content)} bytes {content[:12]!r}", answer, lambda found, code=code: found == code)
        seeds = image_seeds()
        for number in range(settings.count(1500)):
            name, way, content = mutant(seeds, settings.seed, number)
            answer = ask(port, request("/api/predict", own, "POST", content))
            tally.trial(f"{name}, {way}, {number}", answer, lambda code: code in (200, 400))
        tally.lives("damaged pictures")
        _many(tally, picture, settings.count(400, 32))
        tally.lives("many clients")
        return Outcome(tally.tried, tuple(tally.failures))


def _bomb() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(file, "PNG")
    return file.getvalue()


def _many(tally: Tally, picture: bytes, count: int) -> None:
    """Many at once hear what one hears, or that they may come again."""
    import json

    def said(answer: bytes) -> object:
        return json.loads(answer.partition(b"\r\n\r\n")[2])["answers"]

    whole = request("/api/predict", {"Host": f"127.0.0.1:{tally.port}"}, "POST", picture)
    alone = said(ask(tally.port, whole))
    with ThreadPoolExecutor(32) as pool:
        for answer in pool.map(lambda _: ask(tally.port, whole, 60), range(count)):
            tally.trial("one of many", answer, lambda code: code in (200, 503))
            if status(answer) == 200 and said(answer) != alone:
                tally.failures.append("one of many got another answer")


def check_watched(settings: Settings) -> Outcome:
    """The page of `sightline report --watch`."""
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
            answer = ask(tally.port, request("/", {"Host": f"127.0.0.1:{tally.port}"}, "POST", b"x"))
            tally.trial("POST", answer, lambda code: code >= 400)
        finally:
            server.shutdown()
            thread.join(10)
    return Outcome(tally.tried, tuple(tally.failures))


@contextlib.contextmanager
def any_host() -> Generator[None]:
    """A server that answers to any name, as most do."""
    from sightline.serve import app

    with mock.patch.object(app, "HOSTS", ["*"]):
        yield


@contextlib.contextmanager
def any_page_may_ask() -> Generator[None]:
    """A server that looks at the host alone."""
    from sightline.serve import guard

    with mock.patch.object(guard, "check_origin", lambda path, headers: None):
        yield


@contextlib.contextmanager
def serves_files() -> Generator[None]:
    """A page beside which files can be asked for."""
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
        "served page under attack",
        SECTION,
        "path tricks, foreign hosts and origins, lies, slow and many clients: it stays up and lets nothing out",
        check_served,
        {"any host is answered": any_host, "any page may ask": any_page_may_ask},
        quick=False,
    ),
    Row(
        "watched report under attack",
        SECTION,
        "the same for the page of `sightline report --watch`",
        check_watched,
        {"files can be asked for": serves_files},
        quick=False,
    ),
)
