"""The curation of what was gathered: from sources to the examples that are trained on and held out.

Always: the steps go in this order, each counts what it changes or drops, and the same sources give the same result.
Counts are of turns (a message and its reply; a document is one), but for those that name another thing.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from model.conversation import Message
from model.user_text import clean
from training import schema
from training.curation.duplicates import Seen
from training.curation.filters import not_spanish, refusal, too_long, too_short
from training.curation.redaction import redact
from training.curation.sources import Gathered
from training.curation.split import held_out_people
from training.errors import DataError
from training.examples import Example, Preference

_CONTEXT = 2 * 8  # messages that stay before the first reply that is learnt


@dataclass(frozen=True)
class CurationOptions:
    """What is kept. `max_turns_per_user`: of one person's turns the newest; 100 poisoned ones can bend a model.
    `near_duplicate`: from this Jaccard similarity on. `min_chars`: letters and digits of a message and its reply."""

    max_turns_per_user: int = 80
    held_out_share: float = 0.2
    min_chars: int = 8
    near_duplicate: float = 0.85
    only_spanish: bool = True

    def __post_init__(self) -> None:
        if self.max_turns_per_user < 1:
            raise ValueError(f"max_turns_per_user is {self.max_turns_per_user}: expected 1 or more")
        if not 0 <= self.held_out_share <= 0.5:
            raise ValueError(f"held_out_share is {self.held_out_share}: expected 0 to 0.5")
        if not 0 < self.near_duplicate <= 1:
            raise ValueError(f"near_duplicate is {self.near_duplicate}: expected more than 0, at most 1")


@dataclass(frozen=True)
class Curated:
    """Examples in a fixed order, and how many each step saw, changed or dropped. Pairs are of people of both sides.

    `seen_ids`: all rows of the log that were looked at, also those that were dropped.
    """

    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    preferences: tuple[Preference, ...]
    counts: Mapping[str, int]
    seen_ids: tuple[int, ...] = ()


def curate(sources: Iterable[Gathered], options: CurationOptions | None = None) -> Curated:
    """Clean, redact, filter, deduplicate, cap and split. Raises DataError if nothing is left to train on."""
    options, sources = options or CurationOptions(), list(sources)
    counts: Counter[str] = Counter()
    for source in sources:
        counts.update(source.counts)
    seen_ids = sorted({row for source in sources for example in source.examples for row in example.row_ids})
    examples = [_redacted(example, counts) for source in sources for example in source.examples]
    preferences = [_redacted_pair(pair) for source in sources for pair in source.preferences]
    examples = [_filtered(example, options, counts) for example in examples]
    seen = Seen(options.near_duplicate)
    examples = [_unseen(example, seen, counts) for example in examples]
    examples = _capped(examples, options.max_turns_per_user, counts)
    examples = [_trimmed(example) for example in examples if example.num_turns]
    if not examples:
        raise DataError(f"nothing is left to train on: {_why(sources, counts)}")
    held_out_users = held_out_people((example.user for example in examples), options.held_out_share)
    train = tuple(example for example in examples if example.user not in held_out_users)
    held_out = tuple(example for example in examples if example.user in held_out_users)
    pairs = _wanted(preferences, options, counts)
    for name, side in (("train", train), ("held_out", held_out)):
        counts[f"{name}_examples"] = len(side)
        counts[f"{name}_turns"] = sum(example.num_turns for example in side)
        counts[f"{name}_users"] = len({example.user for example in side})
    counts["preferences"] = len(pairs)
    counted = {name: number for name, number in counts.items() if number}
    return Curated(train, held_out, pairs, counted, tuple(seen_ids))


def _redacted(example: Example, counts: Counter[str]) -> Example:
    """With texts that are safe to show and to render; ids that a model made say the old text and go."""
    if example.document is not None:
        found = redact(schema.clean(example.document))
        counts.update(f"redacted_{kind}" for kind in found.kinds)
        return replace(example, document=found.text)
    return replace(example, messages=tuple(_message(message, counts) for message in example.messages))


def _message(message: Message, counts: Counter[str]) -> Message:
    found = redact(clean(message.content))
    counts.update(f"redacted_{kind}" for kind in found.kinds)
    return Message(message.role, found.text)


def _redacted_pair(pair: Preference) -> Preference:
    none: Counter[str] = Counter()  # what is found in a pair is counted in the dialogue it is from
    return replace(
        pair,
        history=tuple(_message(message, none) for message in pair.history),
        chosen=redact(clean(pair.chosen)).text,
        rejected=redact(clean(pair.rejected)).text,
    )


def _filtered(example: Example, options: CurationOptions, counts: Counter[str]) -> Example:
    """Without loss on replies that a filter refuses; a refused document has no turns left."""
    if example.document is not None:
        text = example.document
        name = "too_short" if too_short("", text, options.min_chars) else None
        if name is None and options.only_spanish and not_spanish(text):
            name = "not_spanish"
        counts.update([name] if name else [])
        return replace(example, document=None) if name else example
    trained = list(example.trained)
    for i in _learnt(example):
        texts = example.messages[i - 1].content, example.messages[i].content
        name = refusal(*texts, options.min_chars, options.only_spanish)
        if name is not None:
            trained[i] = False
            counts[name] += 1
    return replace(example, trained=tuple(trained))


def _unseen(example: Example, seen: Seen, counts: Counter[str]) -> Example:
    """Without loss on turns that were there before."""
    if example.document is not None:
        name = seen.check(example.document)
        counts.update([name] if name else [])
        return replace(example, document=None) if name else example
    trained = list(example.trained)
    for i in _learnt(example):
        name = seen.check(example.messages[i - 1].content, example.messages[i].content)
        if name is not None:
            trained[i] = False
            counts[name] += 1
    return replace(example, trained=tuple(trained))


def _capped(examples: list[Example], most: int, counts: Counter[str]) -> list[Example]:
    """Without loss on a person's turns before the newest `most`."""
    room: dict[str, int] = {}
    capped: list[Example] = []
    for example in reversed(examples):
        left = room.setdefault(example.user, most)
        room[example.user] = max(0, left - example.num_turns)
        counts["over_cap"] += max(0, example.num_turns - left)
        if example.num_turns > left:
            keep = set(_learnt(example)[-left:] if left else ())
            trained = tuple(i in keep for i in range(len(example.messages)))
            example = replace(example, trained=trained, document=None)
        capped.append(example)
    return capped[::-1]


def _trimmed(example: Example) -> Example:
    """Without what comes after the last reply that is learnt, and long before the first; also without its rows."""
    if example.document is not None:
        return example
    learnt = _learnt(example)
    head = 1 if example.messages[0].role == "system" else 0
    begin, end = max(head, learnt[0] - 1 - _CONTEXT), learnt[-1] + 1
    rows = example.row_ids
    told = len(rows) - (len(example.messages) - head)  # a row of the system text comes first, if it has one
    return replace(
        example,
        messages=(*example.messages[:head], *example.messages[begin:end]),
        trained=(*example.trained[:head], *example.trained[begin:end]),
        row_ids=(*rows[:told], *rows[told + begin - head : told + end - head]) if rows else (),
    )


def _wanted(pairs: list[Preference], options: CurationOptions, counts: Counter[str]) -> tuple[Preference, ...]:
    """Pairs that differ, whose chosen reply is worth learning, within the cap a person."""
    kept: list[Preference] = []
    of_user: Counter[str] = Counter()
    seen: set[tuple[str, str, str]] = set()
    for pair in reversed(pairs):
        asked = pair.history[-1].content
        key = (asked, pair.chosen, pair.rejected)
        unfit = refusal(asked, pair.chosen, options.min_chars, options.only_spanish)
        if unfit or too_long(pair.rejected) or pair.chosen == pair.rejected or key in seen:
            counts["preferences_dropped"] += 1
        elif of_user[pair.user] >= options.max_turns_per_user:
            counts["preferences_over_cap"] += 1
        else:
            kept.append(pair)
            of_user[pair.user] += 1
            seen.add(key)
    return tuple(reversed(kept))


def _learnt(example: Example) -> list[int]:
    return [i for i, learnt in enumerate(example.trained) if learnt]


def _why(sources: list[Gathered], counts: Counter[str]) -> str:
    if not sources:
        return "no source was given"
    remarks = [f"{source.name}: {source.remark}" for source in sources if source.remark]
    if any(source.examples for source in sources):
        steps = ("thumbs_down", "too_short", "too_long", "loops", "not_spanish", "duplicates", "near_duplicates")
        dropped = ", ".join(f"{name} {counts[name]}" for name in steps if counts[name])
        remarks.append(f"every turn was dropped ({dropped or 'none was a reply'}); docs/learning.md says what is")
    return "; ".join(remarks) or f"{', '.join(source.name for source in sources)}: no message has a reply"
