"""One conversation of a front end: its messages, its system text, and what can be undone and said again."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace

from bot.service import ChatService, Reply
from model.conversation import Message
from model.engine.params import SamplingParams


class Talk:
    """A conversation on a service. With a seed, the same messages give the same replies, whatever was undone before."""

    def __init__(self, service: ChatService, params: SamplingParams, system: str = "") -> None:
        self.service = service
        self.params = params
        self.system = system
        self.turns: list[tuple[Message, ...]] = []  # (user, assistant) each
        self.last: Reply | None = None
        self._attempt = 0  # how often the last message was said again

    @property
    def messages(self) -> list[Message]:
        system = [Message("system", self.system)] if self.system else []
        return [*system, *(message for turn in self.turns for message in turn)]

    def say(self, text: str, cancel: threading.Event | None = None) -> Iterator[str]:
        """Stream the reply; however the stream ends, what was said of it is kept. Raises PromptTooLong at once."""
        self._attempt = 0
        return self._say(text, cancel)

    def repeat(self, cancel: threading.Event | None = None) -> Iterator[str] | None:
        """Another reply to the last message instead of the one given; None if there is no last message."""
        if not self.turns:
            return None
        before = self.turns.pop()
        self._attempt += 1
        try:
            return self._say(before[0].content, cancel, before)
        except BaseException:
            self.turns.append(before)
            self._attempt -= 1
            raise

    def undo(self) -> str | None:
        """Forget the last message and its reply; the message, or None if there is none."""
        self._attempt = 0
        return self.turns.pop()[0].content if self.turns else None

    def clear(self) -> None:
        """Begin again; the system text stays."""
        self.turns.clear()
        self._attempt = 0

    def _say(self, text: str, cancel: threading.Event | None, before: tuple[Message, ...] = ()) -> Iterator[str]:
        seed = derive_seed(self.params.seed, len(self.turns), self._attempt)
        reply = self.service.reply(self.messages, text, replace(self.params, seed=seed), cancel=cancel)
        self.last = reply
        return self._keep(reply, before)

    def _keep(self, reply: Reply, before: tuple[Message, ...]) -> Iterator[str]:
        """`before` is the turn that this reply replaces; it stays if nothing is said."""
        try:
            yield from reply
        finally:
            if reply.messages or before:
                self.turns.append(reply.messages or before)


def derive_seed(seed: int | None, turn: int, attempt: int) -> int | None:
    """The seed of one reply: another for each turn and attempt, the same on every machine."""
    if seed is None:
        return None
    digest = hashlib.sha256(f"{seed}/{turn}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
