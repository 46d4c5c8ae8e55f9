"""The synchronous face of the emulator; see the package's docstring. The server runs in its own thread and loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from tests.emulator.api import Api
from tests.emulator.faults import Fault
from tests.emulator.http_server import HttpServer
from tests.emulator.people import People
from tests.emulator.record import Sent, view
from tests.emulator.world import Chat

T = TypeVar("T")


class Emulator(People):
    """A Bot API server on loopback for one bot, with the people who write to it."""

    def __init__(
        self, token: str = "123456:prueba-AAAA", username: str = "tertulia_bot", *, flood: bool = False
    ) -> None:
        self._condition = threading.Condition()
        self._version = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="telegram-emulator", daemon=True)
        self._thread.start()
        self.token = token
        self.api = Api(token, username, self._changed, flood)
        self._server: HttpServer = self._do(lambda: HttpServer(self.api.handle))
        self._run(self._server.start())

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.port}/bot"

    def __enter__(self) -> Emulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._loop.is_running():
            self._run(self._shut())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    # What the bot did.

    def sent(self, chat: Chat | int | None = None, method: str | None = None) -> list[Sent]:
        return self._do(lambda: self.api.record.messages(method, _id(chat)))

    def calls(self, method: str | None = None, chat: Chat | int | None = None) -> list[Sent]:
        return self._do(lambda: self.api.record.find(method, _id(chat)))

    def drafts(self, chat: Chat | int) -> list[str]:
        return [call.text for call in self.calls("sendMessageDraft", chat) if call.applied]

    def shown(self, chat: Chat) -> list[Sent]:
        return self._do(
            lambda: [view(m) for m in chat.messages.values() if m.get("from", {}).get("id") == self.api.me.id]
        )

    def confirmed(self, update_id: int) -> bool:
        return self._do(lambda: update_id in self.api.updates.confirmed)

    def num_pending(self) -> int:
        return self._do(self.api.updates.num_pending)

    def listening(self) -> bool:
        """The bot is there at this moment: a long poll waits, or its webhook takes connections."""
        return self._run(self._listening())

    @property
    def commands(self) -> dict[str, list[dict[str, str]]]:
        """What setMyCommands set: by scope ("default", "chat 42", with the language behind it)."""
        return self._do(lambda: dict(self.api.bot.commands))

    def wait_for(self, predicate: Callable[[], T], timeout_s: float = 90.0, every_s: float = 0.01) -> T:
        """Wait until `predicate()` is true and return what it gave. AssertionError, with the last calls, if not.

        It is asked again after each change, but not more often than `every_s`.
        """
        end = time.monotonic() + timeout_s
        while True:
            with self._condition:
                version = self._version
            if result := predicate():
                return result
            left = end - time.monotonic()
            if left <= 0:
                last = "\n".join(f"  {c.method} {c.chat_id} {c.status} {c.text[:60]!r}" for c in self.calls()[-12:])
                raise AssertionError(f"not so after {timeout_s} s; the bot's last calls:\n{last}")
            time.sleep(every_s)
            with self._condition:
                self._condition.wait_for(lambda seen=version: self._version != seen, min(left, 0.2))

    def wait_reply(self, chat: Chat, count: int = 1, timeout_s: float = 90.0) -> Sent:
        """The `count`-th message that the chat got, as it was first sent."""
        self.wait_for(lambda: len(self.sent(chat)) >= count, timeout_s)
        return self.sent(chat)[count - 1]

    def wait_quiet(self, seconds: float = 1.0, timeout_s: float = 180.0) -> None:
        """Wait until everything is confirmed and the bot has called nothing but getUpdates for `seconds`."""

        def quiet() -> bool:
            calls = self.calls()
            return self.num_pending() == 0 and (not calls or time.monotonic() - calls[-1].at >= seconds)

        self.wait_for(quiet, timeout_s)

    # What goes wrong.

    def fail(
        self,
        method: str,
        times: int | None,
        kind: str,
        *,
        chat: Chat | int | None = None,
        retry_after: int = 1,
        seconds: float = 0.0,
    ) -> None:
        fault = Fault(method, kind, times, _id(chat), retry_after, seconds)
        self._do(lambda: self.api.faults.add(fault))

    def heal(self) -> None:
        """No more faults."""
        self._do(self.api.faults.clear)

    def outage(self, seconds: float) -> None:
        """Nobody listens for `seconds`; returns at once."""

        async def come_back() -> None:
            await asyncio.sleep(seconds)
            await self._server.start()

        def go() -> None:
            self._server.stop()
            self._return = asyncio.ensure_future(come_back())

        self._do(go)

    def hold(self) -> None:
        """Deliver no update until `release`."""
        self._do(lambda: setattr(self.api.updates, "held", True))

    def release(self) -> None:
        def go() -> None:
            self.api.updates.held = False
            self.api.updates.wake()

        self._do(go)

    # The way into the loop.

    def _do(self, function: Callable[[], T]) -> T:
        async def call() -> T:
            return function()

        return self._run(call())

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _listening(self) -> bool:
        return self.api.updates.polling or await self.api.webhook.answers()

    async def _shut(self) -> None:
        self.api.webhook.end()
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _changed(self) -> None:
        with self._condition:
            self._version += 1
            self._condition.notify_all()


def _id(chat: Chat | int | None) -> int | None:
    return chat.id if isinstance(chat, Chat) else chat
