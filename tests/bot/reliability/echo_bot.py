"""`tertulia` with an engine that says "eco: TEXT." word by word: everything else is the real program.

    python -m tests.bot.reliability.echo_bot bot

A test then sees which message a reply answers, and starts in a second. ECHO_WORD_S is the time a word takes;
ECHO_PROMPTS names a file that gets a line for each prompt: the roles that its special ids open, in order.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bot.loading
from bot.cli import main
from bot.service import ChatService
from bot.settings import Settings
from model.engine.params import SamplingParams
from model.prompt_formats import get_format
from model.tokenizer import Tokenizer

EMBEDDED = Path(__file__).parents[3] / "model" / "embedded"
ROLES = {"<|sistema|>": "system", "<|usuario|>": "user", "<|tertulia|>": "assistant"}


@dataclass(frozen=True)
class Piece:
    """As model.engine.request's, which imports torch."""

    text: str
    ids: tuple[int, ...]
    finish: str | None = None


class EchoModel:
    """As much of a model as is told about it."""

    config = SimpleNamespace(block_size=None, n_positions=2048)

    def parameters(self) -> list[Any]:
        return []


class EchoEngine:
    """The engine's face; any number of replies at the same time."""

    context = 2048

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._opens = {tokenizer.special_id(name): role for name, role in ROLES.items()}
        self._word_s = float(os.environ.get("ECHO_WORD_S", "0.01"))
        self._prompts = os.environ.get("ECHO_PROMPTS")
        self.num_running = self.num_waiting = self.cache_bytes = 0

    def submit(
        self,
        ids: Sequence[int],
        params: SamplingParams,
        *,
        stop_ids: Collection[int] = (),
        stop_strings: Sequence[str] = (),
        cancel: threading.Event | None = None,
        **_: Any,
    ) -> Iterator[Piece]:
        if self._prompts:
            roles = [self._opens[i] for i in ids if i in self._opens]
            with Path(self._prompts).open("a", encoding="utf-8") as file:
                file.write(json.dumps(roles) + "\n")
        return self._stream(self._last_user_text(list(ids)), cancel or threading.Event())

    def close(self) -> None:
        pass

    def _last_user_text(self, ids: list[int]) -> str:
        starts = [at for at, i in enumerate(ids) if self._opens.get(i) == "user"]
        return self._tokenizer.decode(ids[starts[-1] + 1 : -1]).strip()

    def _stream(self, text: str, cancel: threading.Event) -> Iterator[Piece]:
        words = f"eco: {text}.".split(" ")
        for at, word in enumerate(words):
            if cancel.wait(self._word_s):
                yield Piece("", (), "cancelled")
                return
            last = at == len(words) - 1
            piece = word if at == 0 else " " + word
            yield Piece(piece, tuple(self._tokenizer.encode(piece)), "stop" if last else None)


def load(settings: Settings, *_: Any, **__: Any) -> bot.loading.Loaded:
    bot.loading.set_up_logging(settings.log_level)
    tokenizer = Tokenizer.from_pretrained(EMBEDDED)
    time.sleep(float(os.environ.get("ECHO_LOAD_S", "0")))
    return bot.loading.Loaded(
        name="eco",
        folder=EMBEDDED,
        adapter=None,
        model=EchoModel(),
        tokenizer=tokenizer,
        service=ChatService(EchoEngine(tokenizer), tokenizer, get_format("tertulia")),
        params=settings.sampling(),
    )


if __name__ == "__main__":
    bot.loading.load = load
    main()
