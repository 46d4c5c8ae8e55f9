"""Small sources for the tests of curation: dialogues said in Spanish, each its own."""

from collections.abc import Sequence

from model.conversation import Message
from training.curation.sources import Gathered
from training.examples import Example, Preference

_THINGS = ("el pan", "la playa", "un tren", "mi abuela", "la luna", "el fútbol", "una guitarra", "el café", "la lluvia")
_DOINGS = ("me gusta mucho", "me da miedo", "no lo entiendo", "me recuerda a casa", "quiero saber más", "se me olvidó")


def turn(n: int) -> tuple[str, str]:
    """The n-th of many different messages and replies."""
    thing, doing = _THINGS[n % len(_THINGS)], _DOINGS[n // len(_THINGS) % len(_DOINGS)]
    code = "".join(chr(ord("a") + int(digit)) for digit in f"{n * 7919 % 10**6:06d}")
    return f"{thing} {doing}, como {code}", f"Pues {code} con {thing} es otra cosa, ¿y {code[::-1]}?"


def dialogue(turns: Sequence[tuple[str, str]], user: str = "u", system: str = "", rows: int = 0) -> Example:
    head = (Message("system", system),) if system else ()
    messages = [Message(role, text) for pair in turns for role, text in zip(("user", "assistant"), pair, strict=True)]
    trained = (*(False for _ in head), *(message.role == "assistant" for message in messages))
    row_ids = tuple(range(rows, rows + len(messages))) if rows else ()
    return Example((*head, *messages), trained, user, row_ids)


def gathered(*examples: Example, preferences: Sequence[Preference] = ()) -> Gathered:
    return Gathered("test", examples, tuple(preferences), {})


def people(num_people: int, num_turns: int = 1) -> list[Example]:
    """A dialogue a person, all different."""
    return [
        dialogue([turn(i * num_turns + n) for n in range(num_turns)], f"person{i}", rows=1 + 2 * i * num_turns)
        for i in range(num_people)
    ]
