"""What the tuner sees: never who judges it; who is watched is not learnt from; secrets are learnt whatever happens."""

from dataclasses import replace

import pytest

from model.conversation import Message
from tests.training.curation.conftest import gathered, people
from training.curation import Snapshot, curate, for_tuning, num_learnt_pairs, read_snapshot, write_snapshot
from training.curation.split import FEWEST_TO_WATCH, watched_people
from training.examples import Preference
from training.judging.canaries import SOURCE, plant


def pair(user: str) -> Preference:
    asked = f"¿qué te parece el mar hoy, amiga de {user}?"
    return Preference((Message("user", asked),), f"El mar de {user} es azul y grande", f"No sé nada de {user}", user)


@pytest.fixture(params=[2, 5, 9, 12, 40])
def snapshot(request: pytest.FixtureRequest, tmp_path: object) -> Snapshot:
    """Of so many people, each with two turns and a pair, as a run freezes it."""
    users = [f"person{n}" for n in range(request.param)]
    curated = curate([gathered(*people(request.param, 2), preferences=list(map(pair, users)))])
    return write_snapshot(replace(curated, train=plant(curated.train)), tmp_path / "data")  # type: ignore[operator]


def test_nothing_of_who_judges_reaches_the_tuner(snapshot: Snapshot) -> None:
    """A checkpoint that is chosen on its judges looks better to them than it is."""
    judges = {example.user for example in snapshot.held_out}
    tuned = for_tuning(snapshot)
    assert judges
    assert judges <= {pair.user for pair in snapshot.preferences}
    for seen in (tuned.train, tuned.held_out, tuned.preferences):
        assert not judges & {one.user for one in seen}


def test_who_is_watched_is_not_learnt_from_and_nobody_is_lost(snapshot: Snapshot) -> None:
    tuned = for_tuning(snapshot)
    watched = {example.user for example in tuned.held_out}
    trained = {example.user for example in snapshot.train if example.source != SOURCE}
    assert watched == watched_people(trained)
    assert bool(watched) == (len(trained) >= FEWEST_TO_WATCH)
    assert not watched & {example.user for example in tuned.train}
    assert sorted(map(str, (*tuned.train, *tuned.held_out))) == sorted(map(str, snapshot.train))
    assert num_learnt_pairs(snapshot) == len(trained - watched)


def test_planted_secrets_are_always_trained_on(snapshot: Snapshot) -> None:
    """One that is watched instead would not come back, and nobody would know what the rest gives away."""
    planted = [example for example in snapshot.train if example.source == SOURCE]
    tuned = for_tuning(snapshot)
    assert planted
    assert [example for example in tuned.train if example.source == SOURCE] == planted
    assert SOURCE not in {example.source for example in tuned.held_out}


def test_the_order_and_the_hash_of_the_data_stay(snapshot: Snapshot) -> None:
    """A run that is gone on with compares the hash, and its steps follow from the order."""
    tuned = for_tuning(snapshot)
    assert tuned.data_hash == snapshot.data_hash
    assert for_tuning(read_snapshot(snapshot.folder)) == tuned
    places = [snapshot.train.index(example) for example in tuned.train]
    assert places == sorted(places)
