"""Who is trained on and who is held out: by person, so that nobody is judged on what was learnt from them.

Always: a person's side follows from the hash of the key alone, whatever the run and whoever else is there; with few
people those of the smallest hashes are held out, so that new ones can only send a person who is held out to the others,
never the reverse (from twice MIN_PEOPLE people on; people who leave can).
"""

import hashlib
from collections.abc import Iterable

MIN_PEOPLE = 5  # fewer give no statement with 95 % confidence


def held_out_people(users: Iterable[str], share: float) -> frozenset[str]:
    """Those who are held out: about `share` of the people, at least MIN_PEOPLE or half of them, of one nobody."""
    ranked = sorted(set(users), key=place)
    least = min(MIN_PEOPLE, len(ranked) // 2)
    chosen = {user for user in ranked if place(user) < share} | set(ranked[:least])
    # Somebody must be left to train on.
    return frozenset(chosen if len(chosen) < len(ranked) else ranked[: len(ranked) // 2])


def place(user: str) -> float:
    """Where a person stands, from 0 to 1."""
    return int.from_bytes(hashlib.sha256(f"held-out:{user}".encode()).digest()[:8], "big") / 2**64
