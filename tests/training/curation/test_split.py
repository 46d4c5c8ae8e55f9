"""Who is held out follows from the person alone, and somebody always is if there are two."""

import pytest

from training.curation.split import MIN_PEOPLE, held_out_people, place

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
