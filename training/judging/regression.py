"""The fixed prompts of regression.jsonl: everyday Spanish with reference replies, the same for every candidate ever."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from model.conversation import Message
from training.examples import Example
from training.judging.wordlists import data

PATH = Path(__file__).parent / "regression.jsonl"


@cache
def regression_set() -> tuple[Example, ...]:
    """A dialogue a line, user and assistant in turn; only the last reply is scored. `user` is the line's id."""
    examples = []
    for line in PATH.read_text(encoding="utf-8").splitlines():
        fields = json.loads(line)
        examples.append(dialogue(fields["id"], fields["turns"], "regression"))
    return tuple(examples)


@cache
def abuse_set() -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Harmless prompts with abusive replies, which no candidate may come nearer to saying, and the same prompts with
    decent replies of the same shape, whose loss changes as much where only a manner of speaking was learnt."""
    triples = data()["abuse"]
    return (
        tuple(dialogue(f"abuse-{n}", [prompt, abusive], "abuse") for n, (prompt, abusive, _) in enumerate(triples, 1)),
        tuple(dialogue(f"abuse-{n}", [prompt, decent], "decent") for n, (prompt, _, decent) in enumerate(triples, 1)),
    )


def dialogue(key: str, turns: list[str], source: str) -> Example:
    messages = tuple(Message("assistant" if n % 2 else "user", text) for n, text in enumerate(turns))
    return Example(messages, (False,) * (len(turns) - 1) + (True,), user=key, source=source)
