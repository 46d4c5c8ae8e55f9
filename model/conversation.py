"""A conversation to ids: messages, and `render`, the one place that makes prompts and examples of them.

Always: each message is encoded by itself, so the ids of turn n are a prefix of those of turn n+1; the loss mask falls
out of the same segments; special ids enter by number; every text passes `user_text.clean`, so none can open a turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from model.errors import PromptTooLong
from model.prompt_formats import Parts, PromptFormat, Special
from model.tokenizer import StreamDecoder, Tokenizer
from model.user_text import clean

Role = Literal["system", "user", "assistant"]

# The longest message that is tokenised under a limit of tokens: a Telegram message at its widest, 4,096 characters of
# 4 bytes. In Spanish it is twice a context of 2,048 tokens; what is longer is refused before the tokenizer sees it.
MAX_TEXT_BYTES = 16_384


@dataclass(frozen=True)
class Message:
    """One message. `ids` of a reply: those that the model made, kept so that the last turn's cache still fits.
    `context`: material that the message is about ("Entrada" of the Alpaca format)."""

    role: Role
    content: str
    ids: tuple[int, ...] | None = None
    context: str | None = None


@dataclass(frozen=True)
class Rendered:
    """The ids; a bool for each, True on replies and their ends; how many old messages were left out."""

    ids: list[int]
    loss_mask: list[bool]
    dropped_messages: int


def render(
    messages: Sequence[Message],
    fmt: PromptFormat,
    tokenizer: Tokenizer,
    *,
    max_tokens: int | None = None,
    reply: bool = False,
) -> Rendered:
    """Ids of a conversation: with `reply` the prompt for the next reply, without it the training form, turns closed.

    With `max_tokens` whole old turns are left out until the rest fits (the system message stays). Which ones follows
    from the messages alone: they are gone through as the conversation went, and each time a prompt was too long its old
    turns are dropped down to half of the room; the prefix then stays for many turns. Give the whole history each time.

    Raises PromptTooLong if the last turn alone does not fit, or is longer than MAX_TEXT_BYTES; ValueError if the
    messages are no conversation (none, a system message after the first, a prompt that does not end with the user's).
    """
    if not any(message.role != "system" for message in messages):
        raise ValueError("render: no message of the user or the assistant")
    if reply and messages[-1].role != "user":
        raise ValueError(f"render: a prompt for a reply ends with the user's message, not with {messages[-1].role!r}")
    writer = _Writer(fmt, tokenizer, capped=max_tokens is not None)
    system = writer.system(messages[0]) if messages[0].role == "system" else []
    turns = writer.turns(messages[1:] if messages[0].role == "system" else messages)
    heads = [system + writer.head(bool(system), has_context) for has_context in (False, True)]
    first = _first_turn(turns, heads, len(system), max_tokens, reply) if max_tokens is not None else 0

    ids = list(heads[turns[first].has_context])
    mask = [False] * len(ids)
    for turn in turns[first:]:
        if turn is not turns[first]:
            ids += turn.joint
            mask += [False] * len(turn.joint)
        ids += turn.ids
        mask += turn.mask
    if reply:
        ids += writer.reply_opening
        mask += [False] * len(writer.reply_opening)
    return Rendered(ids, mask, dropped_messages=sum(turn.num_messages for turn in turns[:first]))


@dataclass
class _Turn:
    """A message of the user and the replies to it; either may be missing."""

    joint: list[int]  # what joins it to a turn before
    ids: list[int] = field(default_factory=list)
    mask: list[bool] = field(default_factory=list)
    prompt_len: int = 0  # ids up to and with the first reply's opening
    num_messages: int = 0
    has_context: bool = False
    has_reply: bool = False
    oversize_bytes: int = 0  # of a message over MAX_TEXT_BYTES, which was not tokenised

    def add(self, ids: list[int], learnt: bool = False) -> None:
        self.ids += ids
        self.mask += [learnt] * len(ids)


class _Writer:
    """The segments of one conversation in one format."""

    def __init__(self, fmt: PromptFormat, tokenizer: Tokenizer, capped: bool) -> None:
        self.fmt, self.tokenizer, self.capped = fmt, tokenizer, capped
        self.user_opening = self._parts(fmt.user)
        self.between_users = self._parts(fmt.between_users)
        self.reply_opening = self._parts(fmt.reply)
        self.reply_end = self._parts(fmt.reply_end)

    def system(self, message: Message) -> list[int]:
        text = clean(message.content)
        return self._parts(self.fmt.system) + self.tokenizer.encode(text) if text else []

    def head(self, after_system: bool, has_context: bool) -> list[int]:
        head = self.fmt.head_with_context if has_context and self.fmt.head_with_context else self.fmt.head
        return self.tokenizer.encode((self.fmt.system_end if after_system else "") + head)

    def turns(self, messages: Sequence[Message]) -> list[_Turn]:
        turns: list[_Turn] = []
        for message in messages:
            if message.role == "system":
                raise ValueError("render: a system message is the first one or none")
            if not turns or message.role == "user":
                turns.append(_Turn(joint=[] if not turns or turns[-1].has_reply else self.between_users))
            text, context = message.content, message.context or ""
            size_bytes = len((text + context).encode("utf-8", errors="surrogatepass"))
            if self.capped and size_bytes > MAX_TEXT_BYTES:
                turns[-1].oversize_bytes, text, context = size_bytes, "", ""
            text, context = clean(text), clean(context)
            if message.role == "user":
                self._add_user(turns[-1], text, context)
            else:
                self._add_reply(turns[-1], text, message.ids)
            turns[-1].num_messages += 1
        return turns

    def _add_user(self, turn: _Turn, text: str, context: str) -> None:
        turn.add(self.user_opening)
        if context and self.fmt.head_with_context:
            turn.has_context = True
            turn.add(self._text(text))
            turn.add(self.tokenizer.encode(self.fmt.user_context))
            turn.add(self._text(context))
        else:
            turn.add(self._text(f"{text}{self.fmt.user_context}{context}" if context else text))
        turn.prompt_len = len(turn.ids) + len(self.reply_opening)

    def _add_reply(self, turn: _Turn, text: str, made: tuple[int, ...] | None) -> None:
        turn.add(self.reply_opening)
        turn.prompt_len = turn.prompt_len or len(turn.ids)
        kept = _kept_ids(text, made, self.tokenizer) if made is not None else None
        turn.add(self._text(text) if kept is None else kept, learnt=True)
        turn.add(self.reply_end, learnt=True)
        turn.has_reply = True

    def _text(self, text: str) -> list[int]:
        return self.tokenizer.encode(self.fmt.text_prefix + text) if text else []

    def _parts(self, parts: Parts) -> list[int]:
        ids: list[int] = []
        for part in parts:
            ids += [self.tokenizer.special_id(part.name)] if isinstance(part, Special) else self.tokenizer.encode(part)
        return ids


def _kept_ids(text: str, made: Sequence[int], tokenizer: Tokenizer) -> list[int] | None:
    """The fewest of the made ids that say exactly this text, but for space around it; None if they never do.

    So a reply's end marker or the beginning of a stop string falls away, and ids of another model, of an edited reply
    or of one that holds a role marker are not used.
    """
    decoder = StreamDecoder(tokenizer)
    said = ""
    for n, token_id in enumerate([*made, None]):
        if len(said) >= len(text) and said.strip() == text:
            return list(made[:n])
        if token_id is None or token_id in tokenizer.special_ids or not 0 <= token_id < tokenizer.num_tokens:
            return list(made[:n]) if (said + decoder.flush()).strip() == text else None
        said += decoder.push(token_id)
    return None


def _first_turn(turns: list[_Turn], heads: list[list[int]], system_len: int, max_tokens: int, reply: bool) -> int:
    """Index of the first turn to keep; see `render`. Raises PromptTooLong."""
    before = [0]  # before[i]: ids of the turns before turn i; what was not tokenised counts as more than fits
    for turn in turns:
        before.append(before[-1] + len(turn.joint) + len(turn.ids) + (max_tokens + 1 if turn.oversize_bytes else 0))

    def size(first: int, last: int, whole: bool) -> int:
        end = before[last + 1] - (0 if whole else len(turns[last].ids) - turns[last].prompt_len)
        return len(heads[turns[first].has_context]) + end - before[first] - len(turns[first].joint)

    half = system_len + (max_tokens - system_len) // 2
    first, last = 0, len(turns) - 1
    steps = [(i, False) for i in range(len(turns))] + ([] if reply else [(last, True)])
    for i, whole in steps:
        if size(first, i, whole) > max_tokens:
            while first < i and size(first, i, whole) > half:
                first += 1
    needed = size(first, last, not reply)
    if turns[last].oversize_bytes:
        raise PromptTooLong(
            f"the last message has {turns[last].oversize_bytes} bytes, at most {MAX_TEXT_BYTES} are read: "
            "send it in several parts"
        )
    if needed > max_tokens:
        raise PromptTooLong(
            f"the last message needs {needed} tokens with what stands around it, there is room for {max_tokens}: "
            "shorten it or the system text, or leave less room for the reply (max_new_tokens)"
        )
    return first
