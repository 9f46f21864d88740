"""Who is let in, how much, how slowly: by Host, Origin, token, size and time; over real sockets where that matters."""

import contextlib
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from sightline.serve import guard
from sightline.serve.guard import names_of
from sightline.serve.models import Served
from sightline.serve.protocol import Protocol

from .conftest import served

OWN = ("localhost", "127.0.0.1", "[::1]", "LOCALHOST", "localhost.")
FOREIGN = (
    "evil.com", "127.0.0.1.evil.com", "localhost.evil.com", "0.0.0.0", "10.0.0.1", "127.0.0.2", "", "user@localhost",
    "localhost/x", "[::1", "2130706433", "localhost:x", "127.1",
)  # fmt: skip


def test_loopback_answers_to_its_three_names_and_its_port_alone() -> None:
    names = names_of("127.0.0.1", 8123)
    for host in OWN:
        assert names.allows(f"{host}:8123"), host
        assert not names.allows(f"{host}:8124") and not names.allows(host)
    for host in FOREIGN:
        assert not names.allows(f"{host}:8123"), host
    for ending in ("#", "?", "/", "#evil.com"):
        assert not names.allows(f"localhost:8123{ending}"), ending


def test_a_server_for_others_answers_to_addresses_and_its_own_names_never_to_strangers() -> None:
    names = names_of("0.0.0.0", 80)
    for host in ("192.168.1.7", "[fe80::1]", "127.0.0.1", "localhost:80", socket.gethostname().lower()):
        assert names.allows(host), host
    for host in ("evil.com", "192.168.1.7.evil.com", "192.168.1.7:81", ""):
        assert not names.allows(host), host


@pytest.fixture(scope="module")
def port(client: httpx.Client) -> int:
    assert client.base_url.port
    return client.base_url.port


@pytest.mark.parametrize("path", ["/", "/api/models", "/openapi.json", "/nothing"])
def test_a_foreign_name_for_this_machine_gets_nothing(client: httpx.Client, port: int, path: str) -> None:
    """DNS rebinding: the name of a foreign page that was made to point here."""
    answer = client.get(path, headers={"Host": f"evil.com:{port}"})
    assert answer.status_code == 403 and "models" not in answer.text and "own address" in answer.json()["error"]["what"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),
        ({"Origin": "http://127.0.0.1:{port}"}, 400),
        ({"Origin": "http://localhost:{port}"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://127.0.0.1"}, 403),
        ({"Origin": "http://evil.com"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "file://127.0.0.1:{port}"}, 403),
        ({"Origin": ""}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 400),
    ],
)
def test_a_foreign_page_cannot_ask(client: httpx.Client, port: int, headers: dict[str, str], status: int) -> None:
    """400: it came through, and b"x" is no picture."""
    sent = {name: value.format(port=port) for name, value in headers.items()}
    answer = client.post("/api/predict", content=b"x", headers=sent)
    assert answer.status_code == status
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_link_from_elsewhere_opens_the_page_but_no_picture_of_it(client: httpx.Client) -> None:
    linked = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/", headers=linked).status_code == 200
    assert client.get("/", headers=linked | {"Sec-Fetch-Mode": "no-cors"}).status_code == 403
    assert client.get("/api/models/0/training/0.png", headers=linked).status_code == 403


def test_every_answer_carries_the_headers(client: httpx.Client) -> None:
    for answer in (client.get("/"), client.get("/nothing"), client.get("/", headers={"Host": "evil.com"})):
        assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store" and "server" not in answer.headers
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "'unsafe" not in answer.headers["content-security-policy"]


PATHS = [
    "/../../etc/passwd", "/..%2f..%2fetc%2fpasswd", "/%2e%2e/%2e%2e/etc/passwd", "/%252e%252e/etc/passwd",
    "/..\\..\\etc\\passwd", "/....//....//etc/passwd", "//etc/passwd", "/api/models/0/training/..%2f..%2f0.png",
    "/api/models/0/training/%00.png", "/api/models/-1/training/0.png", "/api/models/0/training/-1.png",
    "/api/models/0/training/0x1.png", "/api/models/0/training/99999999999999999999999.png",
    "/api/models/0/training/1e3.png", "/api/models/7/training/0.png", "/api/models/0/examples/../../../etc/passwd",
    "/api/models/0/examples/C:\\x.png", "/static/../../etc/passwd", "/file=/etc/passwd", "/report.html", "/weights",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_to_a_file(port: int, path: str) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.split(b" ", 2)[1] in (b"400", b"404"), answer[:80]
    assert b"root:" not in answer and b"Traceback" not in answer


@pytest.fixture(scope="module")
def small(classifier: Served) -> Iterator[httpx.Client]:
    """A server that takes 1,000 bytes and is not patient."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Protocol, "patience", 1.0)
        patch.setattr(guard.Guard, "slowest", 1.5)
        with served([classifier], most_bytes=1000) as one:
            yield one


def test_a_body_that_is_said_to_be_too_large_is_not_read(small: httpx.Client) -> None:
    port = small.base_url.port
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        head = f"POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 999999999999\r\n\r\n"
        raw.sendall(head.encode())
        assert raw.recv(65536).startswith(b"HTTP/1.1 413")
    answer = small.post("/api/predict", content=b"x" * 1001)
    assert answer.status_code == 413 and "--max-mb" in answer.json()["error"]["cure"]


def test_a_body_that_does_not_say_how_large_it_is_is_counted(small: httpx.Client) -> None:
    answer = small.post("/api/predict", content=iter([b"x" * 600, b"x" * 600]))
    assert answer.status_code == 413
    assert small.post("/api/predict", content=iter([b"x" * 400, b"x" * 400])).status_code == 400


def test_a_body_without_end_is_ended(small: httpx.Client) -> None:
    start = time.monotonic()

    def pieces() -> Iterator[bytes]:
        while time.monotonic() < start + 20:
            time.sleep(0.01)
            yield b"x" * 50

    with contextlib.suppress(httpx.WriteError):  # it hangs up while more is being sent
        assert small.post("/api/predict", content=pieces()).status_code in (408, 413)
    assert time.monotonic() - start < 10 and small.get("/api/models").status_code == 200


@pytest.mark.parametrize(
    "head",
    [
        "POST /api/predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: -5\r\n\r\n",
        "POST /api/predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5, 6\r\n\r\nhello",
        "POST /api/predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0x5\r\n\r\nhello",
        "POST /api/predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        "GET / HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET http://evil.com/ HTTP/1.1\r\nHost: evil.com\r\n\r\n",
        "nonsense\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: {host}\r\n" + "X-A: " + "a" * 1_000_000 + "\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: {host}\r\n" + "X-A: b\r\n" * 20_000 + "\r\n",
    ],
    ids=["negative", "two lengths", "hex", "gzip", "two hosts", "no host", "foreign", "nonsense", "long", "many"],
)
def test_a_request_that_is_wrong_gets_an_error_and_nobody_else_notices(small: httpx.Client, head: str) -> None:
    port = small.base_url.port
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        try:
            raw.sendall(head.replace("{host}", f"127.0.0.1:{port}").encode())
            answer = raw.recv(65536)
        except ConnectionError:
            answer = b"HTTP/1.1 400 it hung up"
    assert answer[9:12] in (b"400", b"403", b"431", b"501"), answer[:60]
    assert small.get("/api/models").status_code == 200


def test_a_crowd_of_slow_clients_holds_nobody_up_and_is_sent_away(small: httpx.Client) -> None:
    port = small.base_url.port
    begun = f"POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 900\r\n\r\nx".encode()
    slow = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(50)]
    for place, one in enumerate(slow):
        one.sendall(begun if place % 2 else b"GET / HT")
    start = time.monotonic()
    assert small.get("/api/models").status_code == 200 and time.monotonic() - start < 1
    for place, one in enumerate(slow):
        with one:
            answer = one.recv(65536)
            assert answer.startswith(b"HTTP/1.1 408") if place % 2 else answer == b"", answer[:60]
    assert time.monotonic() - start < 10


def test_a_token_where_one_is_needed(classifier: Served) -> None:
    with served([classifier], token="a secret") as client:
        for given in ({}, {"Authorization": "Bearer a secre"}, {"Authorization": "a"}, {"Cookie": "sightline=no"}):
            answer = client.get("/api/models", headers=given)
            assert answer.status_code == 401 and "token" in answer.json()["error"]["what"]
            assert "corners" not in answer.text
        assert client.get("/?token=wrong").status_code == 401
        assert client.get("/api/models?token=a+secret").status_code == 401, "addresses end up in logs"
        assert client.get("/api/models", headers={"Authorization": "Bearer a secret"}).status_code == 200
        entering = client.get("/?token=a+secret")
        assert entering.status_code == 303 and entering.headers["location"] == "/"
        assert "HttpOnly" in entering.headers["set-cookie"] and "SameSite=strict" in entering.headers["set-cookie"]
        assert client.get("/").status_code == 200, "the client keeps the cookie"


def test_bodies_are_held_within_a_room(classifier: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard.Guard, "room", 1500)
    with served([classifier], most_bytes=2000) as client:
        for _ in range(3):  # what was held is given back
            assert client.post("/api/predict", content=b"x" * 1400).status_code == 400
        answer = client.post("/api/predict", content=b"x" * 1600)
        assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
