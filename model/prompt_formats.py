"""How a conversation is written for a checkpoint, as data: what stands around its messages."""

from __future__ import annotations

from dataclasses import dataclass

from model.tokenizer import Tokenizer


@dataclass(frozen=True)
class Special:
    """A special token of a format, by name; it becomes an id by number, never through text."""

    name: str


Parts = tuple[str | Special, ...]


@dataclass(frozen=True)
class PromptFormat:
    """What stands around the messages. A string is encoded as one piece, so a BPE cuts it as in the training text.

    In the text formats the end of a reply is the opening of the next user turn (`reply_end`): that is what the model
    learns to write for the reply to stop. <|endoftext|> stays out of the history: after it GPT-J expects another
    document; it still stops a reply.
    """

    name: str
    stop_strings: tuple[str, ...] = ()
    system: Parts = ()  # before the system text
    system_end: str = ""  # between the system text and `head`
    head: str = ""  # before the first turn
    head_with_context: str | None = None  # instead of `head`, if the first turn brings a context
    user: Parts = ()  # before each user message
    user_context: str = "\n\n"  # between a user message and its context
    between_users: Parts = ()  # between two user messages without a reply
    reply: Parts = ()  # before a reply: the end of a prompt
    reply_end: Parts = ()  # after a reply, learnt with it
    text_prefix: str = ""  # before each text: the space that GPT-2 glues to a word

    def stop_ids(self, tokenizer: Tokenizer) -> frozenset[int]:
        """Ids that end a reply: the end marker, and any other special id, which a reply never holds."""
        return tokenizer.special_ids | {tokenizer.eos_id}


_ALPACA_TASK = "A continuación hay una instrucción que describe una tarea"
_ALPACA_ASK = "Escribe una respuesta que complete adecuadamente lo que se pide.\n\n### Instrucción:\n"

FORMATS: dict[str, PromptFormat] = {
    fmt.name: fmt
    for fmt in (
        PromptFormat(
            name="tertulia",
            system=(Special("<|sistema|>"),),
            user=(Special("<|usuario|>"),),
            reply=(Special("<|tertulia|>"),),
            reply_end=(Special("<|fin|>"),),
        ),
        PromptFormat(
            name="plain",
            stop_strings=("\nUsuario:", "\nAsistente:"),
            system_end="\n\n",
            head="Usuario:",
            between_users=("\nUsuario:",),
            reply=("\nAsistente:",),
            reply_end=("\nUsuario:",),
            text_prefix=" ",
        ),
        # As bertin-project/bertin-gpt-j-6B-alpaca was trained; the system text goes before its preface.
        PromptFormat(
            name="alpaca-es",
            stop_strings=("\n### Instrucción:", "\n### Entrada:", "\n### Respuesta:"),
            system_end="\n\n",
            head=f"{_ALPACA_TASK}. {_ALPACA_ASK}",
            head_with_context=f"{_ALPACA_TASK}, junto con una entrada que proporciona más contexto. {_ALPACA_ASK}",
            user_context="\n\n### Entrada:\n",
            between_users=("\n\n### Instrucción:\n",),
            reply=("\n\n### Respuesta:\n",),
            reply_end=("\n\n### Instrucción:\n",),
        ),
    )
}


def get_format(name: str) -> PromptFormat:
    """The prompt format of that name. Raises ValueError naming those there are."""
    if name not in FORMATS:
        raise ValueError(f"prompt format is {name!r}: expected one of {', '.join(FORMATS)}")
    return FORMATS[name]
