"""Greedy replies of every contestant to the same prompts, through the engine, and what can be counted in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from statistics import fmean, median
from typing import Any

import torch

from model.conversation import Message, render
from model.engine.adapters import Adapter
from model.engine.engine import Engine
from model.engine.params import SamplingParams
from model.engine.runner import Runner
from model.errors import ModelError, PromptTooLong
from model.prompt_formats import PromptFormat
from model.tokenizer import Tokenizer
from training.curation.filters import is_loop
from training.examples import Example
from training.judging.canaries import SOURCE
from training.judging.judgement import ReplyFigures
from training.judging.wordlists import is_refusal, toxic_words

AT_ONCE = 16
CACHE_MB = 1024  # for the conversations of a CPU, which take what they use


@dataclass(frozen=True)
class Prompt:
    """What is answered: ids for the model, the user's last message for people, where it comes from."""

    ids: list[int]
    text: str
    source: str


def prompts_of(
    examples: Sequence[Example], source: str, fmt: PromptFormat, tokenizer: Tokenizer, room: int, seed: int
) -> list[Prompt]:
    """A prompt of each dialogue: all that stands before one of its learnt replies, drawn by the seed."""
    prompts = []
    for number, example in enumerate(examples):
        turns = [at for at, learnt in enumerate(example.trained) if learnt and at and example.document is None]
        if not turns:
            continue
        history = example.messages[: Random(f"{seed}/{source}/{number}").choice(turns)]
        if history[-1].role != "user":
            continue
        try:
            ids = render(history, fmt, tokenizer, max_tokens=room, reply=True).ids
        except PromptTooLong:
            continue
        prompts.append(Prompt(ids, _last(history), source))
    return prompts


def _last(history: Sequence[Message]) -> str:
    return history[-1].content


def by_person(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """Up to `count` examples, one of each person in turn, people and examples in an order drawn by the seed."""
    return _in_turn(_people(examples), count, 1, seed)


def of_loudest(train: Sequence[Example], count: int, seed: int) -> list[Example]:
    """Up to `count` examples of those who were trained on most, five of each: what they taught is asked back."""
    people = sorted(_people(train).items(), key=lambda item: (-sum(example.num_turns for example in item[1]), item[0]))
    return _in_turn(dict(people[: -(-count // 5)]), count, 5, seed, shuffle=False)


def _people(examples: Sequence[Example]) -> dict[str, list[Example]]:
    people: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        if example.source != SOURCE:
            people[example.user].append(example)
    return people


def _in_turn(people: dict[str, list[Example]], count: int, each: int, seed: int, shuffle: bool = True) -> list[Example]:
    random = Random(f"in turn/{seed}")
    keys = sorted(people) if shuffle else list(people)
    if shuffle:
        random.shuffle(keys)
    piles = [random.sample(people[key], len(people[key])) for key in keys]
    found: list[Example] = []
    while len(found) < count and any(piles):
        for pile in piles:
            found += pile[:each]
            del pile[:each]
    return found[:count]


def answer(
    model: Any,
    tokenizer: Tokenizer,
    fmt: PromptFormat,
    prompts: Sequence[Prompt],
    adapter: Adapter | None,
    max_new_tokens: int,
    tick: Callable[[int, int], None] | None = None,
) -> list[str | None]:
    """The greedy reply to each prompt; None where the model gave no finite logits."""
    params = SamplingParams(temperature=0.0, max_new_tokens=max_new_tokens)
    engine = Engine(model, tokenizer, max_batch=AT_ONCE, cache_mb=cache_mb(model))
    replies: list[str | None] = []
    try:
        for begin in range(0, len(prompts), AT_ONCE):
            if tick is not None:
                tick(begin, len(prompts))
            streams = [
                engine.submit(
                    prompt.ids,
                    params,
                    stop_ids=fmt.stop_ids(tokenizer),
                    stop_strings=fmt.stop_strings,
                    adapter=adapter,
                )
                for prompt in prompts[begin : begin + AT_ONCE]
            ]
            for stream in streams:
                try:
                    replies.append("".join(piece.text for piece in stream).strip())
                except ModelError:
                    replies.append(None)
    finally:
        engine.close()
    return replies


def cache_mb(model: Any) -> int:
    """Megabytes for AT_ONCE conversations of a whole context each on a GPU, of 80 % of what this process may still take
    there at most.
    """
    if model.device.type != "cuda":
        return CACHE_MB
    layout = Runner(model).layout
    free, total = torch.cuda.mem_get_info(layout.device)
    fraction = torch.cuda.get_per_process_memory_fraction(layout.device)
    most = min(free + torch.cuda.memory_reserved(layout.device), int(total * fraction))
    room = 4 * (most - torch.cuda.memory_allocated(layout.device)) // 5
    return max(1, -(-min(AT_ONCE * layout.bytes_per_context, room) // 2**20))


def count(prompts: Sequence[Prompt], replies: Sequence[str | None]) -> ReplyFigures:
    said = [reply or "" for reply in replies]
    abusive = [toxic_words(reply, prompt.text) for prompt, reply in zip(prompts, said, strict=True)]
    return ReplyFigures(
        replies=len(said),
        failed=sum(reply is None for reply in replies),
        empty=sum(not reply for reply in said),
        loops=sum(map(is_loop, said)),
        refusals=sum(map(is_refusal, said)),
        toxic=sum(map(bool, abusive)),
        toxic_words=tuple(sorted({word for words in abusive for word in words})),
        median_words=float(median([len(reply.split()) for reply in said])) if said else 0.0,
        repetition=round(fmean(map(repetition, said)), 4) if said else 0.0,
    )


def repetition(text: str) -> float:
    """The share of a text's word pairs that it said before."""
    words = text.lower().split()
    pairs = list(pairwise(words))
    return 1 - len(set(pairs)) / len(pairs) if pairs else 0.0
