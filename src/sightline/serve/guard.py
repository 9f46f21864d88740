"""What stands before every request: who may ask, how much, how slowly; and what every answer carries.

Names in the Host header are checked because a foreign name may be made to point to this machine (DNS rebinding), which
makes a foreign page same-origin; origins because a foreign page may send requests here without reading the answers.
"""

import asyncio
import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response

from .words import Fault, Refusal

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

SLOWEST = 30.0
"""Seconds that a body may take to arrive, or a piece of an answer to be taken."""
ROOM = 512_000_000
"""Bytes of bodies that are held at once, all requests together."""
COOKIE = "sightline"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Refused(HTTPException):
    """A request that is not served; the answer says why."""

    def __init__(self, status: int, what: str, why: str = "", cure: str = ""):
        super().__init__(status, what)
        self.fault = Fault(what=what, why=why, cure=cure)


def refusal(status: int, fault: Fault) -> Response:
    """The answer to a request that is not served."""
    headers = {"Retry-After": "1"} if status == 503 else {}
    return JSONResponse(Refusal(error=fault).model_dump(), status, headers)


@dataclass(frozen=True)
class Names:
    """By which names this server may be called. open: whether it answers to other machines too."""

    port: int
    own: frozenset[str]
    open: bool

    def allows(self, host: str) -> bool:
        """Whether a Host header names this server: one of its names, or its address; never any other name."""
        if "#" in host or "?" in host:  # urlsplit takes what follows off the name
            return False
        try:
            parts = urlsplit(f"//{host}")
            name, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            return False
        if parts.path or parts.query or parts.username is not None or (port or 80) != self.port:
            return False
        return name in self.own or (self.open and is_address(name))


def is_address(name: str) -> bool:
    """Whether a host is an IP address, which no foreign name server can turn to another machine."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def names_of(host: str, port: int) -> Names:
    """The names of a server that is bound to `host`: loopback's own, or this machine's too."""
    own = {"localhost", "127.0.0.1", "::1"}
    if is_loopback(host):
        return Names(port, frozenset(own), open=False)
    machine = socket.gethostname().lower()
    own |= {host.lower(), machine, f"{machine}.local", socket.getfqdn().lower()}
    return Names(port, frozenset(own), open=True)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


@dataclass
class Guard:
    """An ASGI application before another one. token: empty where none is needed. held: bytes of bodies in memory."""

    app: App
    names: Names
    token: str
    most_bytes: int
    policy: str
    slowest: ClassVar[float] = SLOWEST
    room: ClassVar[int] = ROOM
    held: int = field(default=0, init=False)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        body = Body(self, receive)
        try:
            self.check_asker(scope, headers)
            if (entering := self.check_token(scope, headers)) is not None:
                await entering(scope, receive, self.with_headers(send))
                return
            self.check_length(headers)
            await self.app(scope, body.receive, self.with_headers(send))
        except Refused as problem:
            await refusal(problem.status_code, problem.fault)(scope, receive, self.with_headers(send))
        except Exception:
            pass  # who takes an answer too slowly has gone; all else was told by the application before it came here
        finally:
            self.held -= body.size

    def check_asker(self, scope: Message, headers: dict[str, str]) -> None:
        """Refused unless the request names this server and comes from its own page, or from no page."""
        host = headers.get("host", "")
        if [key for key, _ in scope["headers"]].count(b"host") > 1 or not self.names.allows(host):
            raise Refused(403, "this server answers to its own address only", f"the request was for {host[:100]!r}")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        own = origin is None or (origin.partition("://")[0] in ("http", "https") and origin.partition("://")[2] == host)
        opened = scope["path"] == "/" and headers.get("sec-fetch-mode", "navigate") == "navigate"
        if not own or (site not in ("same-origin", "none") and not opened):
            raise Refused(403, "requests of other pages are not answered", f"it came from {(origin or site)[:100]!r}")

    def check_token(self, scope: Message, headers: dict[str, str]) -> Response | None:
        """Refused without the token; where the address holds it, an answer that keeps it as a cookie instead."""
        if not self.token:
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and same(given, self.token):
            entering = RedirectResponse("/", 303)
            entering.set_cookie(COOKIE, self.token, httponly=True, samesite="strict")
            return entering
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if not (same(bearer, self.token) or same(cookie(headers), self.token)):
            cure = "open the address that `sightline serve` printed, or send the header Authorization: Bearer TOKEN"
            raise Refused(401, "this server needs its token", cure=cure)
        return None

    def check_length(self, headers: dict[str, str]) -> None:
        """Refused where the body is said to be too large, before any of it is read."""
        length = headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length) > self.most_bytes:
            raise too_large(self.most_bytes)

    def with_headers(self, send: Send) -> Send:
        """`send` with the headers that every answer carries, and no patience with who does not take it."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = {key.lower() for key, _ in message["headers"]}
                more = {**HEADERS, "Content-Security-Policy": self.policy}
                message["headers"] = [
                    *message["headers"],
                    *((k.lower().encode(), v.encode()) for k, v in more.items() if k.lower().encode() not in known),
                ]
            async with asyncio.timeout(self.slowest):
                await send(message)

        return sending


class Body:
    """A request's body on its way in. size: bytes so far. whole: whether all has come."""

    def __init__(self, guard: Guard, source: Receive):
        self.guard, self.source, self.size, self.whole = guard, source, 0, False
        self.until = asyncio.get_running_loop().time() + guard.slowest

    async def receive(self) -> Message:
        """The next piece; Refused where there is too much of it or it comes too slowly."""
        if self.whole:  # what follows tells that the asker has gone, whenever that is
            return await self.source()
        try:
            async with asyncio.timeout_at(self.until):
                message = await self.source()
        except TimeoutError:
            raise Refused(408, "the picture came too slowly", f"{self.guard.slowest:g} s are the most") from None
        if message["type"] == "http.request":
            more = len(message.get("body", b""))
            self.size += more
            self.guard.held += more
            self.whole = not message.get("more_body", False)
            if self.size > self.guard.most_bytes:
                raise too_large(self.guard.most_bytes)
            if self.guard.held > self.guard.room:
                raise Refused(503, "too many pictures at once", cure="try again in a second")
        return message


def too_large(most: int) -> Refused:
    """The refusal of a body that is too large."""
    cure = "save it smaller, or start the server with a larger --max-mb"
    return Refused(413, "the picture is too large", f"at most {most / 1e6:g} MB are taken", cure)


def cookie(headers: dict[str, str]) -> str:
    """The token in the cookies, or nothing."""
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def same(given: str, token: str) -> bool:
    """Whether two tokens are equal, in a time that tells nothing."""
    return secrets.compare_digest(given.encode(), token.encode())
