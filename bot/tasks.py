"""Small jobs for the model (translate, sum up, ...): worked examples that go before the text, as data in tasks.jsonl.

A task is a conversation of examples, so it works in every prompt format and with a model that was never tuned to
instructions; the same for the Telegram bot's /traducir and for `tertulia task traducir`.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from model.conversation import Message
from model.engine.params import SamplingParams

PATH = Path(__file__).parent / "tasks.jsonl"


@dataclass(frozen=True)
class Example:
    """A text and what is to be made of it."""

    text: str
    answer: str


@dataclass(frozen=True)
class Task:
    """`ask` puts the instruction before a text; `history` is the examples as turns."""

    name: str
    about: str  # in a few words, for lists of commands
    instruction: str
    temperature: float
    max_new_tokens: int
    examples: tuple[Example, ...]

    @property
    def history(self) -> list[Message]:
        turns: list[Message] = []
        for example in self.examples:
            turns += [Message("user", self.ask(example.text)), Message("assistant", example.answer)]
        return turns

    def ask(self, text: str) -> str:
        """The instruction with the text that it is about."""
        return f"{self.instruction}\n{text}"

    def params(self, of_model: SamplingParams) -> SamplingParams:
        """How the answer is drawn: the task says how freely and how long, the rest is the model's."""
        return replace(of_model, temperature=self.temperature, max_new_tokens=self.max_new_tokens)


def _read() -> dict[str, Task]:
    tasks = {}
    for line in PATH.read_text(encoding="utf-8").splitlines():
        fields = json.loads(line)
        examples = tuple(Example(*pair) for pair in fields.pop("examples"))
        task = Task(**fields, examples=examples)
        tasks[task.name] = task
    return tasks


TASKS = _read()
