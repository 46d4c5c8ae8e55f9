"""Examples cut to a model's context: a dialogue at its turns, so that whole old turns go into a piece of their own.

Always: every turn stands in one piece at most; one that is too long for any is left out, and counted; of a document
nothing is lost. A message is encoded by itself (`model.conversation`), so the lengths of turns add up.
"""

from dataclasses import dataclass, replace

from model.conversation import Message, render
from model.prompt_formats import PromptFormat
from model.tokenizer import Tokenizer
from training.examples import Example

_DOCUMENT_ENDS = 2  # bos and eos around a document


@dataclass(frozen=True)
class Fitted:
    """The pieces of an example, each within the context; turns too long for any piece are left out, and counted."""

    pieces: tuple[Example, ...]
    dropped_turns: int


def fit(example: Example, fmt: PromptFormat, tokenizer: Tokenizer, context: int) -> Fitted:
    """Cut an example into pieces of at most `context` tokens in the training form; such without a learnt reply go."""
    if example.document is not None:
        texts = _parts(example.document, tokenizer, context - _DOCUMENT_ENDS)
        return Fitted(tuple(replace(example, document=text) for text in texts), 0)
    head = example.messages[:1] if example.messages[0].role == "system" else ()

    def size(messages: tuple[Message, ...]) -> int:
        return len(render((*head, *messages), fmt, tokenizer).ids)

    if size(example.messages[len(head) :]) <= context:
        return Fitted((example,), 0)
    pieces: list[list[int]] = [[]]  # of each the indices of its users' messages
    room, dropped = 0, 0
    for i in range(len(head), len(example.messages), 2):
        turn = example.messages[i : i + 2]
        alone = size(turn)
        more = size((*turn, *turn)) - alone  # without what stands before the first turn
        if alone > context:
            dropped += example.trained[i + 1]
            pieces.append([])
            continue
        if not pieces[-1] or more > room:
            pieces.append([])
            room = context - alone + more
        pieces[-1].append(i)
        room -= more
    cut = (_piece(example, len(head), piece[0], piece[-1] + 2) for piece in pieces if piece)
    return Fitted(tuple(piece for piece in cut if piece.num_turns), dropped)


def _piece(example: Example, head: int, begin: int, end: int) -> Example:
    return replace(
        example,
        messages=(*example.messages[:head], *example.messages[begin:end]),
        trained=(*example.trained[:head], *example.trained[begin:end]),
    )


def _parts(text: str, tokenizer: Tokenizer, room: int) -> list[str]:
    """The text, or its halves, quarters, ... cut at line ends, else at spaces."""
    if len(tokenizer.encode(text)) <= room or len(text) < 2:
        return [text]
    middle = len(text) // 2
    for sign in ("\n\n", "\n", " "):
        ends = [at for at in (text.rfind(sign, 0, middle), text.find(sign, middle)) if at > 0]
        if ends:
            at = min(ends, key=lambda end: abs(end - middle))
            if len(text) / 4 < at < len(text) * 3 / 4:
                break
    else:
        at = middle
    halves = (text[:at], text[at:].lstrip("\n" if sign != " " else " "))
    return [part for half in halves if half for part in _parts(half, tokenizer, room)]
