"""The one path from a person's message to a reply, for every front end: rule, render, generate, keep.

Always: the rule of bot/safety.py comes first; a message and its reply go into the history together or not at all; a
reply keeps the ids that the model made, so that the next prompt begins with them.
"""

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bot import safety
from bot.activity import Activity
from model.conversation import Message, render
from model.engine.params import SamplingParams
from model.errors import PromptTooLong
from model.prompt_formats import PromptFormat
from model.tokenizer import Tokenizer


class EnginePiece(Protocol):
    """New text with its ids; see `model.engine.engine.Piece`."""

    @property
    def text(self) -> str: ...
    @property
    def ids(self) -> tuple[int, ...]: ...
    @property
    def finish(self) -> str | None: ...


class ReplyEngine(Protocol):
    """What a reply needs of an engine; see `model.engine.engine.Engine`."""

    @property
    def context(self) -> int: ...

    def submit(
        self,
        ids: Sequence[int],
        params: SamplingParams,
        *,
        stop_ids: Collection[int] = (),
        stop_strings: Sequence[str] = (),
        cancel: threading.Event | None = None,
        adapter: Any = None,
        owner: str = "",
    ) -> Iterator[EnginePiece]: ...


@dataclass
class Reply:
    """A reply in the making: iterate once for its text; then the rest is set, also if it was stopped half way."""

    user: Message
    finish: str | None = None  # "stop", "length", "cancelled" or "rule"; None: the iteration was left
    num_prompt_tokens: int = 0
    dropped_messages: int = 0  # old ones that no longer fit
    adapter: str | None = None  # the id of the one that it is made with
    text: str = ""
    ids: list[int] = field(default_factory=list)
    pieces: Iterator[str] = field(default_factory=lambda: iter(()))

    def __iter__(self) -> Iterator[str]:
        return self.pieces

    @property
    def messages(self) -> tuple[Message, ...]:
        """What goes into the history: the message and the reply, or nothing if nothing was said."""
        if not self.text:
            return ()
        return self.user, Message("assistant", self.text, ids=tuple(self.ids) or None)


class ChatService:
    """Replies with one engine in one prompt format; holds no conversation, so it serves any number of them.

    `adapter_of` says which `engine.adapters.Adapter` answers an owner now; a reply ends on the one it began with.
    """

    def __init__(
        self,
        engine: ReplyEngine,
        tokenizer: Tokenizer,
        fmt: PromptFormat,
        adapter_of: Callable[[str], Any] = lambda owner: None,
        activity: Activity | None = None,
    ) -> None:
        self.engine = engine
        self.adapter_of = adapter_of
        self.tokenizer = tokenizer
        self.format = fmt
        self.activity = activity

    def reply(
        self,
        history: Sequence[Message],
        text: str,
        params: SamplingParams,
        *,
        cancel: threading.Event | None = None,
        owner: str = "",
    ) -> Reply:
        """Begin the reply to `text` after `history` (a system message may come first); nothing is changed in it.

        `owner` says whose chat it is: owners take turns. Raises PromptTooLong if the message does not fit into the
        model's context, EngineBusy if too many replies are waiting.
        """
        reply = Reply(user=Message("user", text))
        fixed = safety.answer(text)
        if fixed is not None:
            reply.pieces = self._fixed(reply, fixed)
            return reply
        # A quarter of the context is always the reply's; it may be longer where the conversation is short.
        room = min(params.max_new_tokens, self.engine.context // 4)
        messages = [*history, reply.user]
        rendered = render(messages, self.format, self.tokenizer, max_tokens=self.engine.context - room, reply=True)
        reply.num_prompt_tokens = len(rendered.ids)
        reply.dropped_messages = rendered.dropped_messages
        adapter = self.adapter_of(owner)
        reply.adapter = None if adapter is None else adapter.name
        stream = self.engine.submit(
            rendered.ids,
            params,
            stop_ids=self.format.stop_ids(self.tokenizer),
            stop_strings=self.format.stop_strings,
            cancel=cancel,
            adapter=adapter,
            owner=owner,
        )
        reply.pieces = self._generated(reply, stream)
        return reply

    def complete(
        self, text: str, params: SamplingParams, *, cancel: threading.Event | None = None
    ) -> Iterator[EnginePiece]:
        """Continue a raw text, without any format. Raises PromptTooLong."""
        ids = self.tokenizer.encode_document(text)
        if len(ids) >= self.engine.context:
            raise PromptTooLong(
                f"the text has {len(ids)} tokens, the model's context {self.engine.context}: shorten it"
            )
        stop_ids = self.format.stop_ids(self.tokenizer)
        return self.engine.submit(ids, params, stop_ids=stop_ids, cancel=cancel, adapter=self.adapter_of(""))

    @staticmethod
    def _fixed(reply: Reply, text: str) -> Iterator[str]:
        reply.text, reply.finish = text, "rule"
        yield text

    def _generated(self, reply: Reply, stream: Iterator[EnginePiece]) -> Iterator[str]:
        """The text without space around it: what may turn out to be the end is held back."""
        space = ""
        with self.activity.replying() if self.activity is not None else contextlib.nullcontext():
            for piece in stream:
                reply.ids += piece.ids
                text = space + piece.text
                if not reply.text:
                    text = text.lstrip()
                shown = text.rstrip()
                space = text[len(shown) :]
                reply.finish = piece.finish
                if shown:
                    reply.text += shown
                    yield shown
