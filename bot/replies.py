"""Replies in the making: `ChatService.reply` in worker threads, followed from asyncio.

Always: a reply can be stopped at any moment by its event; what it has said so far can be read while it is made.
"""

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from bot.service import ChatService, Reply
from model.conversation import Message
from model.engine.params import SamplingParams
from training.dialogues import Chat

# A thread a reply: they wait for the engine, which bounds its own queue. More replies than threads wait for a thread.
MAX_THREADS = 256


def owner_of(chat: Chat) -> str:
    """Whose a reply is: chats take turns, and each gets one adapter."""
    return f"{chat.chat_id}/{chat.thread_id}"


@dataclass
class Running:
    """One reply: `text` grows while it is made; `done` is awaited for the whole, and raises what its making raised."""

    user_id: int
    cancel: threading.Event = field(default_factory=threading.Event)
    began: float = field(default_factory=time.monotonic)
    first_token_s: float | None = None
    reply: Reply | None = None
    done: asyncio.Future[Reply] = field(init=False)

    @property
    def text(self) -> str:
        return "" if self.reply is None else self.reply.text

    @property
    def total_s(self) -> float:
        return time.monotonic() - self.began


class Replies:
    """Makes replies with one service, up to MAX_THREADS at a time."""

    def __init__(self, service: ChatService) -> None:
        self.service = service
        self.pool = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="reply")

    def begin(
        self, history: Sequence[Message], text: str, params: SamplingParams, *, owner: str, user_id: int
    ) -> Running:
        """Start a reply; to be called from the event loop."""
        running = Running(user_id)

        def make() -> Reply:
            if running.cancel.is_set():
                return Reply(Message("user", text), finish="cancelled")
            reply = self.service.reply(history, text, params, cancel=running.cancel, owner=owner)
            running.reply = reply
            for _ in reply:
                if running.first_token_s is None:
                    running.first_token_s = running.total_s
            return reply

        running.done = asyncio.get_running_loop().run_in_executor(self.pool, make)
        return running

    def close(self) -> None:
        """Take no more; the threads end with the replies they make."""
        self.pool.shutdown(wait=False, cancel_futures=True)
