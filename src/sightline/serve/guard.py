"""ASGI middleware: reject cross-site requests and large bodies; add security headers.

Starlette's TrustedHostMiddleware checks the Host header, which prevents DNS rebinding. This module checks the origin,
because pages of other sites can send requests even if they cannot read the responses.
"""

import contextlib

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .schemas import ErrorDetail, ErrorResponse

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class ApiError(HTTPException):
    """An HTTP error with a description for the user: what is wrong, why, and what to do."""

    def __init__(self, status: int, what: str, why: str = "", cure: str = ""):
        super().__init__(status, what)
        self.description = ErrorDetail(what=what, why=why, cure=cure)


def error_response(status: int, detail: ErrorDetail) -> Response:
    """A JSON response that describes an error; with Retry-After for status 503."""
    headers = {"Retry-After": "1"} if status == 503 else {}
    return JSONResponse(ErrorResponse(error=detail).model_dump(), status, headers)


def check_origin(path: str, headers: Headers) -> None:
    """Raise ApiError 403 if a request was sent by a page of another site.

    Links from other sites to the start page are allowed.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    own = origin is None or origin in (f"http://{headers.get('host')}", f"https://{headers.get('host')}")
    opened = path == "/" and headers.get("sec-fetch-mode", "navigate") == "navigate"
    if not own or (site not in ("same-origin", "none") and not opened):
        raise ApiError(403, "cross-site requests are rejected", f"the origin is {(origin or site)[:100]!r}")


class Guard:
    """ASGI middleware around the application: checks the origin of each request, limits its body, and adds headers to
    every response.

    most_bytes: maximum size of a body. policy: the content security policy.
    """

    def __init__(self, app: ASGIApp, most_bytes: int, policy: str):
        self.app, self.most_bytes = app, most_bytes
        self.headers = {**HEADERS, "Content-Security-Policy": policy}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, size = Headers(scope=scope), 0

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            self.check_size(size)
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        try:
            check_origin(scope["path"], headers)
            self.check_size(int(headers.get("content-length", "0")))
        except ApiError as error:
            await error_response(error.status_code, error.description)(scope, receive, with_headers)
            return
        with contextlib.suppress(Exception):  # the application has already reported it
            await self.app(scope, limited, with_headers)

    def check_size(self, size: int) -> None:
        """Raise ApiError 413 if a body of `size` bytes is larger than `most_bytes`."""
        if size > self.most_bytes:
            cure = "send a smaller file, or start the server with a larger --max-mb"
            raise ApiError(413, "the image file is too large", f"the limit is {self.most_bytes / 1e6:g} MB", cure)
