"""Rejected requests: foreign hosts and origins, large bodies, malformed heads; over raw sockets where needed."""

import contextlib
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from sightline.serve.models import ServedModel

from .conftest import served

FOREIGN = ("evil.com", "127.0.0.1.evil.com", "localhost.evil.com", "0.0.0.0", "10.0.0.1", "", "user@localhost", "127.1")


@pytest.fixture(scope="module")
def port(client: httpx.Client) -> int:
    assert client.base_url.port
    return client.base_url.port


def test_only_loopback_names_are_accepted_as_host(client: httpx.Client, port: int) -> None:
    """DNS rebinding: a foreign name that resolves to this machine."""
    for host in ("localhost", "127.0.0.1", "LOCALHOST"):
        assert client.get("/api/models", headers={"Host": f"{host}:{port}"}).status_code == 200, host
    for host in FOREIGN:
        for path in ("/", "/api/models", "/openapi.json", "/nothing"):
            response = client.get(path, headers={"Host": f"{host}:{port}"})
            assert response.status_code == 400 and "models" not in response.text, (host, path)


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
def test_requests_of_other_sites_are_rejected(
    client: httpx.Client, port: int, headers: dict[str, str], status: int
) -> None:
    """400: the request was accepted, and b"x" is no image."""
    sent = {name: value.format(port=port) for name, value in headers.items()}
    response = client.post("/api/predict", content=b"x", headers=sent)
    assert response.status_code == status
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_a_link_of_another_site_opens_the_page_but_no_image(client: httpx.Client) -> None:
    linked = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/", headers=linked).status_code == 200
    assert client.get("/", headers=linked | {"Sec-Fetch-Mode": "no-cors"}).status_code == 403
    assert client.get("/api/models/0/training/0.png", headers=linked).status_code == 403


def test_every_response_has_the_security_headers(client: httpx.Client) -> None:
    for response in (client.get("/"), client.get("/nothing"), client.get("/", headers={"Host": "evil.com"})):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["cache-control"] == "no-store" and "server" not in response.headers
        assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "'unsafe" not in response.headers["content-security-policy"]


PATHS = [
    "/../../etc/passwd", "/..%2f..%2fetc%2fpasswd", "/%2e%2e/%2e%2e/etc/passwd", "/%252e%252e/etc/passwd",
    "/..\\..\\etc\\passwd", "/....//....//etc/passwd", "//etc/passwd", "/api/models/0/training/..%2f..%2f0.png",
    "/api/models/0/training/%00.png", "/api/models/-1/training/0.png", "/api/models/0/training/-1.png",
    "/api/models/0/training/0x1.png", "/api/models/0/training/99999999999999999999999.png",
    "/api/models/0/training/1e3.png", "/api/models/7/training/0.png", "/api/models/0/examples/../../../etc/passwd",
    "/api/models/0/examples/C:\\x.png", "/static/../../etc/passwd", "/file=/etc/passwd", "/report.html", "/weights",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_no_path_reads_a_file(port: int, path: str) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
        response = b"".join(iter(lambda: raw.recv(65536), b""))
    assert response.split(b" ", 2)[1] in (b"400", b"404"), response[:80]
    assert b"root:" not in response and b"Traceback" not in response


@pytest.fixture(scope="module")
def small(classifier: ServedModel) -> Iterator[httpx.Client]:
    """A server with a limit of 1,000 bytes."""
    with served([classifier], most_bytes=1000) as one:
        yield one


def test_a_large_content_length_is_rejected_before_the_body_is_read(small: httpx.Client) -> None:
    port = small.base_url.port
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        head = f"POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 999999999999\r\n\r\n"
        raw.sendall(head.encode())
        assert raw.recv(65536).startswith(b"HTTP/1.1 413")
    response = small.post("/api/predict", content=b"x" * 1001)
    assert response.status_code == 413 and "--max-mb" in response.json()["error"]["cure"]


def test_the_bytes_of_a_chunked_body_are_counted(small: httpx.Client) -> None:
    response = small.post("/api/predict", content=iter([b"x" * 600, b"x" * 600]))
    assert response.status_code == 413
    assert small.post("/api/predict", content=iter([b"x" * 400, b"x" * 400])).status_code == 400
    assert small.post("/api/predict", content=iter([b"x" * 50_000] * 100)).status_code == 413
    assert small.get("/api/models").status_code == 200


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
def test_malformed_requests_get_an_error_and_the_server_continues(small: httpx.Client, head: str) -> None:
    port = small.base_url.port
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        try:
            raw.sendall(head.replace("{host}", f"127.0.0.1:{port}").encode())
            response = raw.recv(65536)
        except ConnectionError:
            response = b"HTTP/1.1 400 connection closed"
    assert response[9:12] in (b"400", b"403", b"431", b"501"), response[:60]
    assert small.get("/api/models").status_code == 200


def test_slow_clients_do_not_block_others_and_disconnects_are_not_faults(
    small: httpx.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    port = small.base_url.port
    begun = f"POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 900\r\n\r\nx".encode()
    with contextlib.ExitStack() as stack:
        for number in range(50):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            slow.sendall(begun if number % 2 else b"GET / HT")
        start = time.monotonic()
        assert small.get("/api/models").status_code == 200 and time.monotonic() - start < 1
    assert small.get("/api/models").status_code == 200
    assert "fault" not in capsys.readouterr().err
