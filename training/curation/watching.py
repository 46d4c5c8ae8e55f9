"""What the tuner sees of a snapshot: nothing of the people it will be judged by.

Always: the checkpoint is chosen on people who are neither trained on nor judged by; chosen on the judges, it would look
better to them than it is.
"""

from dataclasses import replace

from training.curation.snapshot import Snapshot
from training.curation.split import watched_people
from training.judging.canaries import SOURCE


def num_learnt_pairs(snapshot: Snapshot) -> int:
    """How many of its pairs are of people who are trained on, neither judged by nor watched."""
    tuned = for_tuning(snapshot)
    watched = {example.user for example in tuned.held_out}
    return sum(pair.user not in watched for pair in tuned.preferences)


def for_tuning(snapshot: Snapshot) -> Snapshot:
    """`train` without the people who are watched, who become `held_out`; planted secrets are trained on always."""
    watched = watched_people(example.user for example in snapshot.train if example.source != SOURCE)
    judges = {example.user for example in snapshot.held_out}
    return replace(
        snapshot,
        train=tuple(example for example in snapshot.train if example.user not in watched),
        held_out=tuple(example for example in snapshot.train if example.user in watched),
        preferences=tuple(pair for pair in snapshot.preferences if pair.user not in judges),
    )
