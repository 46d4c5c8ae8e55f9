"""A small HTTP/1.1 server on loopback that can do what a broken network does: hang, cut, vanish and come back.

One handler answers every request; returning None cuts the connection without a byte. While the handler works, `gone`
is set as soon as the client hangs up, so that a long poll of a killed bot ends at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes
    gone: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class Response:
    status: int
    body: bytes
    content_type: str = "application/json"

    def encode(self) -> bytes:
        phrase = HTTPStatus(self.status).phrase
        head = (
            f"HTTP/1.1 {self.status} {phrase}\r\nContent-Type: {self.content_type}\r\n"
            f"Content-Length: {len(self.body)}\r\n\r\n"
        )
        return head.encode() + self.body


Handler = Callable[[Request], Awaitable[Response | None]]


class HttpServer:
    """Listens on 127.0.0.1; `stop` refuses connections, `start` takes them again on the same port."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._socket = _bound(0)
        self.port: int = self._socket.getsockname()[1]
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, sock=self._socket, backlog=1024)

    def stop(self) -> None:
        """Close every connection; the port stays ours, but nobody listens."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._socket = _bound(self.port)
        for writer in self._connections:
            writer.transport.abort()

    def close(self) -> None:
        self.stop()
        self._socket.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(writer)
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; False when the connection is over."""
        request = await _read(reader)
        watch = asyncio.create_task(_watch(reader, request.gone))
        try:
            response = await self._handler(request)
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await watch
        if response is None or request.gone.is_set():
            return False
        writer.write(response.encode())
        await writer.drain()
        return request.headers.get("connection", "").lower() != "close"


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, path, headers, body)


async def _watch(reader: asyncio.StreamReader, gone: asyncio.Event) -> None:
    """The client sends nothing while it waits for an answer: whatever can be read is the end."""
    with contextlib.suppress(ConnectionError):
        await reader.read(1)
    gone.set()


def _bound(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.setblocking(False)
    return listener
