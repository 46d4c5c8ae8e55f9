"""The held-out people: whose dialogues are scored, and how much of each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from random import Random

from model.conversation import Message, render
from model.prompt_formats import PromptFormat
from model.tokenizer import Tokenizer
from training.examples import Example
from training.tuning.dataset import Encoded, encode_examples

Encodings = list[tuple[str, Encoded]]  # each with the key of its unit


def choose(
    held_out: Sequence[Example], fmt: PromptFormat, tokenizer: Tokenizer, context: int, caps: tuple[int, int], seed: int
) -> Encodings:
    """At most caps[0] people drawn by the seed, of each whole examples until caps[1] learnt tokens are there."""
    people: dict[str, list[Example]] = defaultdict(list)
    for example in held_out:
        people[example.user].append(example)
    keys = sorted(people)
    Random(f"people/{seed}").shuffle(keys)
    chosen: Encodings = []
    for key in sorted(keys[: caps[0]]):
        Random(f"{key}/{seed}").shuffle(people[key])
        tokens = 0
        for example in people[key]:
            if tokens >= caps[1]:
                break
            pieces = encode(example, fmt, tokenizer, context)
            tokens += sum(piece.num_learnt for piece in pieces)
            chosen += [(key, piece) for piece in pieces]
    return chosen


def insides(pieces: Sequence[Encoded], fmt: PromptFormat, tokenizer: Tokenizer) -> list[Encoded]:
    """The same without loss on a reply's first token and its end: how one begins and ends is a style, which may be
    learnt; what is said between is what must not be lost. Of pieces whose one reply is learnt.
    """
    nothing = render([Message("user", ""), Message("assistant", "")], fmt, tokenizer)
    ending = sum(nothing.loss_mask)
    kept = []
    for piece in pieces:
        places = [at for at, learnt in enumerate(piece.learnt) if learnt]
        inside = set(places[1 : len(places) - ending])
        kept.append(Encoded(piece.ids, [at in inside for at in range(len(piece.ids))]))
    return kept


def encode(example: Example, fmt: PromptFormat, tokenizer: Tokenizer, context: int) -> list[Encoded]:
    """An example's pieces as training sees them; [] if nothing in it can be learnt."""
    return [unit[0] for unit in encode_examples([example], fmt, tokenizer, context).units]
