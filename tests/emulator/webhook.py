"""Webhook mode: updates posted to the bot, in order within a chat, at the same time across chats, until a 2xx comes."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

from tests.emulator.updates import Updates

RETRY_S = 0.5  # Telegram waits longer and longer; tests should not


class Webhook:
    """Posts what `updates` holds while a URL is set."""

    def __init__(self, updates: Updates) -> None:
        self.last_error = ""
        self._updates = updates
        self._secret = ""
        self._pump: asyncio.Task[None] | None = None
        self._posting: dict[int, asyncio.Task[None]] = {}  # by chat

    def begin(self, url: str, secret: str) -> None:
        self.end()
        self._updates.webhook_url = url
        self._updates.end_poll("Conflict: terminated by setWebhook request")
        self._secret = secret
        self._pump = asyncio.create_task(self._run())

    def end(self) -> None:
        self._updates.webhook_url = ""
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None
        for task in self._posting.values():
            task.cancel()
        self._posting.clear()

    async def answers(self) -> bool:
        """Somebody listens at the URL."""
        url = urlsplit(self._updates.webhook_url)
        if not url.hostname:
            return False
        try:
            _, writer = await asyncio.open_connection(url.hostname, url.port or 80)
        except OSError:
            return False
        writer.close()
        return True

    async def _run(self) -> None:
        while True:
            pending = self._updates.pending()
            for update in pending:
                chat_id = chat_of(update)
                if chat_id not in self._posting:
                    task = asyncio.create_task(self._post_until_taken(update))
                    self._posting[chat_id] = task
                    task.add_done_callback(lambda _, chat_id=chat_id: self._posting.pop(chat_id, None))
            await self._updates.wait_news(0.02 if pending else 5.0)

    async def _post_until_taken(self, update: dict[str, Any]) -> None:
        while True:
            try:
                status = await asyncio.wait_for(self._post(update), 60)
                self.last_error = "" if 200 <= status < 300 else f"Wrong response from the webhook: {status}"
            except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
                self.last_error = f"Connection failed: {error}"
            if not self.last_error:
                self._updates.delivered_again([update])
                self._updates.confirm(update["update_id"])
                return
            await asyncio.sleep(RETRY_S)

    async def _post(self, update: dict[str, Any]) -> int:
        url = urlsplit(self._updates.webhook_url)
        body = json.dumps(update).encode()
        secret = f"X-Telegram-Bot-Api-Secret-Token: {self._secret}\r\n" if self._secret else ""
        reader, writer = await asyncio.open_connection(url.hostname, url.port or 80)
        try:
            head = (
                f"POST {url.path or '/'} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n{secret}\r\n"
            )
            writer.write(head.encode() + body)
            status_line = await reader.readuntil(b"\r\n")
            return int(status_line.split()[1])
        finally:
            writer.close()


def chat_of(update: dict[str, Any]) -> int:
    """The chat whose order an update belongs to; 0 for those of none."""
    for value in update.values():
        if isinstance(value, dict):
            chat = value.get("chat") or (value.get("message") or {}).get("chat")
            if isinstance(chat, dict):
                return int(chat.get("id", 0))
    return 0
