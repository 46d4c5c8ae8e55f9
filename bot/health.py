"""Small pages on HTTP: /healthz and /metrics for whoever watches the bot, and the webhook that Telegram calls.

Always: a call of the webhook without the secret changes nothing; it is answered with 200 after its update is stored.
"""

import asyncio
import hmac
import json
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from tornado.httpserver import HTTPServer
from tornado.web import Application, HTTPError, RequestHandler

from bot.errors import BotError
from bot.metrics import Metrics

logger = logging.getLogger(__name__)

SILENT_S = 90.0  # since Telegram last answered; a question is held for 25 s
LOOPBACK = "127.0.0.1"
MAX_BODY = 1 << 20
SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"


class _Page(RequestHandler):
    """A GET page made by a function -> (status, type, body)."""

    def initialize(self, make: Callable[[], tuple[int, str, bytes]]) -> None:
        self.make = make

    def get(self) -> None:
        status, kind, body = self.make()
        self.set_status(status)
        self.set_header("Content-Type", kind)
        self.write(body)


class _Webhook(RequestHandler):
    """Where Telegram posts updates."""

    def initialize(self, secret: str, accept: Callable[[Any], Awaitable[None]], metrics: Metrics) -> None:
        self.secret, self.accept, self.metrics = secret, accept, metrics

    async def post(self) -> None:
        shown = self.request.headers.get(SECRET_HEADER, "")
        if not hmac.compare_digest(shown.encode(), self.secret.encode()):
            raise HTTPError(403)
        try:
            raw = json.loads(self.request.body)
        except ValueError:
            raise HTTPError(400) from None
        self.metrics.polled()
        # Not ended with the connection: an update that is stored must also be put in line.
        await asyncio.shield(self.accept(raw))


def serve_health(port: int, metrics: Metrics) -> HTTPServer:
    """Serve /healthz (200, or 503 when Telegram is silent) and /metrics on loopback. Raises BotError if it cannot."""

    def healthz() -> tuple[int, str, bytes]:
        age = metrics.poll_age()
        is_well = 0 <= age < SILENT_S
        page = {"status": "ok" if is_well else "silent", "last_poll_age_s": round(age, 1)}
        return 200 if is_well else 503, "application/json", json.dumps(page).encode()

    def numbers() -> tuple[int, str, bytes]:
        return 200, "text/plain; version=0.0.4; charset=utf-8", metrics.text()

    pages: list[Any] = [("/healthz", _Page, {"make": healthz}), ("/metrics", _Page, {"make": numbers})]
    return _listen(pages, LOOPBACK, port, "TERTULIA_HEALTH_PORT", "choose another, or 0 for none")


def serve_webhook(
    url: str, listen: str, port: int, secret: str, accept: Callable[[Any], Awaitable[None]], metrics: Metrics
) -> HTTPServer:
    """Take updates that are posted to the path of `url`. Raises BotError if the port cannot be had."""
    pages = [(urlsplit(url).path or "/", _Webhook, {"secret": secret, "accept": accept, "metrics": metrics})]
    return _listen(pages, listen, port, "TERTULIA_WEBHOOK_PORT", "choose another")


def _listen(pages: list[Any], address: str, port: int, setting: str, hint: str) -> HTTPServer:
    server = HTTPServer(Application(pages, log_function=lambda handler: None), max_body_size=MAX_BODY)
    try:
        listening = socket.create_server((address, port))
    except OSError as error:
        raise BotError(f"{setting} is {port}: cannot listen on {address} ({error.strerror}); {hint}") from None
    listening.setblocking(False)
    server.add_socket(listening)
    return server
