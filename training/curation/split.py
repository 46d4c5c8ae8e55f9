"""Who is trained on and who is held out: by person, so that nobody is judged on what was learnt from them.

Always: a person's side follows from the hash of the key alone, whatever the run and whoever else is there; with few
people those of the smallest hashes are held out, so that new ones can only send a person who is held out to the others,
never the reverse (from twice MIN_PEOPLE people on; people who leave can).
"""

import hashlib
from collections.abc import Iterable

MIN_PEOPLE = 5  # fewer give no statement with 95 % confidence
WATCHED_SHARE = 0.1
FEWEST_TO_WATCH = 4  # of people who are trained on: with fewer, none of them can be spared


def held_out_people(users: Iterable[str], share: float) -> frozenset[str]:
    """Those who are held out: about `share` of the people, at least MIN_PEOPLE or half of them, of one nobody."""
    ranked = sorted(set(users), key=place)
    least = min(MIN_PEOPLE, len(ranked) // 2)
    chosen = {user for user in ranked if place(user) < share} | set(ranked[:least])
    # Somebody must be left to train on.
    return frozenset(chosen if len(chosen) < len(ranked) else ranked[: len(ranked) // 2])


def watched_people(trained: Iterable[str]) -> frozenset[str]:
    """Of the people on the training side those who only show when to stop: about a tenth, at least one of four."""
    ranked = sorted(set(trained), key=lambda user: place(user, "watched"))
    if len(ranked) < FEWEST_TO_WATCH:
        return frozenset()
    near = sum(place(user, "watched") < WATCHED_SHARE for user in ranked)
    return frozenset(ranked[: min(max(1, near), len(ranked) // 2)])


def place(user: str, split: str = "held-out") -> float:
    """Where a person stands in a split, from 0 to 1."""
    return int.from_bytes(hashlib.sha256(f"{split}:{user}".encode()).digest()[:8], "big") / 2**64
