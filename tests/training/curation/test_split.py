"""Who is held out follows from the person alone, and somebody always is if there are two."""

import pytest

from training.curation.split import FEWEST_TO_WATCH, MIN_PEOPLE, WATCHED_SHARE, held_out_people, place, watched_people

USERS = [f"person{n}" for n in range(200)]


def test_a_persons_side_does_not_depend_on_the_others() -> None:
    """A person who moved to the held-out side would be judged on an adapter that learnt from them."""
    held_out = held_out_people(USERS, 0.2)
    for num in (40, 100, 199):
        assert held_out_people(USERS[:num], 0.2) == held_out & set(USERS[:num])
    assert held_out_people(reversed(USERS), 0.2) == held_out
    assert 25 <= len(held_out) <= 55


def test_the_split_is_the_same_in_every_release() -> None:
    assert place("person0") == pytest.approx(0.0810, abs=1e-4)


def test_new_people_never_send_a_trained_one_to_the_held_out() -> None:
    """With few people the least hashes are held out; as people come, only who is held out may move."""
    for num in range(2 * MIN_PEOPLE, 60):
        before, after = held_out_people(USERS[:num], 0.05), held_out_people(USERS[: num + 1], 0.05)
        assert after - before <= {USERS[num]}


@pytest.mark.parametrize("num", [2, 3, 5, 9, 10, 30])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
def test_both_sides_have_people_and_a_verdict_has_enough(num: int, share: float) -> None:
    held_out = held_out_people(USERS[:num], share)
    assert min(MIN_PEOPLE, num // 2) <= len(held_out) < num


def test_one_person_or_none_is_not_held_out() -> None:
    assert held_out_people(["one", "one"], 0.5) == frozenset()
    assert held_out_people([], 0.2) == frozenset()


def test_who_is_watched_does_not_depend_on_the_others() -> None:
    """Of many people it is those whose hash is small; of few at least the smallest, which may move to the trained."""
    watched = watched_people(USERS)
    assert watched == {user for user in USERS if place(user, "watched") < WATCHED_SHARE}
    assert 10 <= len(watched) <= 30
    for num in (60, 100, 199):
        assert watched_people(USERS[:num]) == watched & set(USERS[:num])
    assert watched_people(reversed(USERS)) == watched


def test_new_people_never_take_a_trained_one_to_the_watched() -> None:
    """Unless most of a few people stand near, and half of them is the limit: then as many as it grows by."""
    for num in range(FEWEST_TO_WATCH, 60):
        assert watched_people(USERS[: num + 1]) - watched_people(USERS[:num]) <= {USERS[num]}


@pytest.mark.parametrize("num", [4, 5, 9, 10, 30, 200])
def test_at_least_one_is_watched_and_never_more_than_half(num: int) -> None:
    assert 1 <= len(watched_people(USERS[:num])) <= num // 2
    near = [user for user in USERS if place(user, "watched") < WATCHED_SHARE]
    assert len(watched_people(near)) == len(near) // 2  # all of them would be


@pytest.mark.parametrize("num", range(FEWEST_TO_WATCH))
def test_of_fewer_than_four_nobody_is_watched(num: int) -> None:
    assert watched_people(USERS[:num]) == frozenset()


@pytest.mark.parametrize("num", [5, 8, 30, 200])
def test_who_is_watched_is_neither_trained_on_nor_judged_by(num: int) -> None:
    held_out = held_out_people(USERS[:num], 0.2)
    assert not watched_people(set(USERS[:num]) - held_out) & held_out
    assert place("person0", "watched") != place("person0"), "the places of the one would follow from the other"
