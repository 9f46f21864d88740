"""A server with the routes of the Hugging Face hub that downloads use, on 127.0.0.1, with faults that can be set."""

import hashlib
import json
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """files: {`OWNER/NAME/FILE`: content}. requests: one `METHOD FILE [RANGE]` each. status, code: of every answer.

    cut: bytes after which the connection is closed, once. stall: seconds without a byte after the first half.
    missing: bytes at the end that are not sent, though the first answer counts them. digest: stated for every file.
    """

    files: dict[str, bytes]
    url: str = ""
    status: int = 200
    code: str = ""
    cut: int = 0
    stall: float = 0.0
    missing: int = 0
    digest: str = ""
    requests: list[str] = field(default_factory=list)


@contextmanager
def hub_of(files: dict[str, bytes]) -> Generator[Hub]:
    """Context manager: a running server with these files."""
    hub = Hub(files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (HubHandler,), {"hub": hub}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class HubHandler(BaseHTTPRequestHandler):
    """`/OWNER/NAME/resolve/REVISION/FILE`, HEAD and GET, with ETag, commit and Range."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        hub = self.hub
        if "/resolve/" not in self.path:  # other requests of the client
            self.head(404, {"Content-Length": 0})
            return
        owner, name, _, _, *rest = self.path.strip("/").split("/")
        file = f"{owner}/{name}/{'/'.join(rest)}"
        asked = self.headers.get("Range", "")
        hub.requests.append(f"{self.command} {file} {asked}".strip())
        if hub.status != 200:
            self.head(hub.status, {"X-Error-Code": hub.code, "Content-Length": 0})
            return
        if file not in hub.files:
            known = any(each.startswith(f"{owner}/{name}/") for each in hub.files)
            self.head(404, {"X-Error-Code": "EntryNotFound" if known else "RepoNotFound", "Content-Length": 0})
            return
        content = hub.files[file]
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        sent = content[start : len(content) - (hub.missing if body else 0)]
        self.head(
            206 if asked else 200,
            {
                "ETag": f'"{hub.digest or hashlib.sha256(content).hexdigest()}"',
                "Content-Length": len(sent),
                "Accept-Ranges": "bytes",
                **({"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if asked else {}),
            },
        )
        if body:
            self.send_body(sent)

    def head(self, status: int, headers: dict[str, Any]) -> None:
        self.send_response(status)
        for key, value in {"X-Repo-Commit": COMMIT, **headers}.items():
            self.send_header(key, str(value))
        self.end_headers()

    def send_body(self, content: bytes) -> None:
        hub, half = self.hub, 0 if self.headers.get("Range") else len(content) // 2
        if hub.cut:
            cut, hub.cut = hub.cut, 0
            self.wfile.write(content[:cut])
            self.close_connection = True
            return
        with suppress(BrokenPipeError):  # the client did not wait
            self.wfile.write(content[:half])
            self.wfile.flush()
            time.sleep(hub.stall)
            self.wfile.write(content[half:])

    def log_message(self, format: str, *args: object) -> None:
        pass


def json_bytes(value: object) -> bytes:
    """A JSON file."""
    return json.dumps(value).encode()
