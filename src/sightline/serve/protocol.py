"""uvicorn's HTTP/1.1, less patient: a connection on which no request gets done is closed."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE = 20.0
"""Seconds for the head of a request; uvicorn itself waits forever."""


class Protocol(H11Protocol):
    """A connection that is looked at every PATIENCE seconds."""

    patience = PATIENCE

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.seen: object = None
        self.watch = self.loop.call_later(self.patience, self.look)

    def connection_lost(self, exc: Exception | None) -> None:
        self.watch.cancel()
        super().connection_lost(exc)

    def look(self) -> None:
        """Close the connection if no request is being answered and none was since the last look."""
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self.cycle is self.seen:
            self.transport.close()
            return
        self.seen = self.cycle
        self.watch: asyncio.TimerHandle = self.loop.call_later(self.patience, self.look)
