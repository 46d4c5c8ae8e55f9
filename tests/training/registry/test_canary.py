"""The trial's test: exact, seldom wrong however often it is looked at, and not to be carried by one person."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update

from tests.training.conftest import FACTS
from tests.training.registry.conftest import Add
from training.dialogues import Chat, DialogueLog
from training.registry import Registry, canary
from training.registry.canary import FIRST_LOOK, LEVEL, Trial, fisher, looks, watch
from training.schema import messages, now, ratings

Talk = Callable[..., None]


@pytest.mark.parametrize(
    ("table", "p"),  # scipy.stats.fisher_exact(..., alternative="greater"), scipy 1.17
    [
        ((3, 4, 1, 4), 0.24285714285714285),
        ((4, 4, 0, 36), 1.0942116205274096e-05),
        ((8, 20, 5, 100), 0.00011615098511813465),
        ((0, 5, 0, 5), 1.0),
        ((5, 5, 5, 5), 1.0),
        ((0, 0, 3, 9), 1.0),
    ],
)
def test_fishers_test_gives_the_known_values(table: tuple[int, int, int, int], p: float) -> None:
    assert fisher(*table) == pytest.approx(p, rel=1e-6)


def test_the_levels_of_all_looks_add_up_to_the_level_of_the_trial() -> None:
    assert sum(LEVEL / (k * (k + 1)) for k in range(1, 10_000)) < LEVEL
    assert looks(FIRST_LOOK - 1) == []
    assert looks(30) == [8, 12, 18, 27]


def simulate(drawn: random.Random, candidate_rate: float, control_rate: float, spread: float) -> Trial | None:
    """A trial of 2,000 replies in 120 chats, a fifth of them the candidate's, watched at every look.

    People differ: each has a temper of their own around the rate (Beta), and talks more or less.
    """
    chats = []
    for number in range(120):
        is_candidate = number % 5 == 0
        rate = candidate_rate if is_candidate else control_rate
        temper = drawn.betavariate(rate * spread, (1 - rate) * spread)
        chats.append((is_candidate, temper, drawn.expovariate(1.0)))
    seen: dict[bool, dict[int, bool]] = {True: {}, False: {}}
    due, num_replies, look = looks(10**6), 0, 0
    for number in drawn.choices(range(120), [weight for *_, weight in chats], k=2000):
        is_candidate, temper, _ = chats[number]
        was_down = seen[is_candidate].get(number, False)
        seen[is_candidate][number] = was_down or drawn.random() < temper
        num_replies += is_candidate
        if is_candidate and num_replies == due[look]:
            look += 1
            down = {arm: sum(of_arm.values()) for arm, of_arm in seen.items()}
            trial = Trial(len(seen[True]), down[True], len(seen[False]), down[False], look, LEVEL / (look * (look + 1)))
            if trial.is_worse:
                return trial
    return None


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.3])
def test_a_candidate_that_is_no_worse_is_rolled_back_in_at_most_one_trial_of_twenty(rate: float) -> None:
    """Looking again and again at a plain 5 % test would end every third trial."""
    drawn = random.Random(11)
    ended = sum(simulate(drawn, rate, rate, spread=3.0) is not None for _ in range(400))
    assert ended / 400 <= LEVEL


def test_a_much_worse_candidate_is_found_in_most_trials() -> None:
    drawn = random.Random(12)
    found = [simulate(drawn, 0.25, 0.02, spread=10.0) for _ in range(100)]
    assert sum(trial is not None for trial in found) >= 80


# Through the log


@pytest.fixture
def talk(log: DialogueLog) -> Talk:
    """talk(chat_id, adapter, rating): a turn that this adapter made."""

    def say(chat_id: int, adapter: str | None, value: int | None = None, finish: str = "stop") -> None:
        chat, facts = Chat("telegram", chat_id), replace(FACTS, adapter=adapter, finish=finish)
        _, reply = log.append_turn(chat, chat_id, "hola", "¡Hola!", facts)
        if value is not None:
            log.rate(chat, reply, chat_id, value)  # type: ignore[arg-type]

    return say


@pytest.fixture
def trial(registry: Registry, add: Add) -> Registry:
    """ "b" is tried beside "a"."""
    add("a")
    add("b")
    registry.promote("a")
    registry.start_share("b", 0.2)
    return registry


def test_a_bad_candidate_is_rolled_back_with_the_figures_as_the_reason(
    trial: Registry, log: DialogueLog, talk: Talk
) -> None:
    for chat in range(40):
        talk(chat, "a", 1)
    for chat in range(100, 107):
        talk(chat, "b", -1)
        assert watch(trial, log) is None  # before the first look is due
    talk(107, "b")
    shown = watch(trial, log)
    assert shown is not None
    assert (shown.candidate_down, shown.candidate_chats, shown.control_down, shown.control_chats) == (7, 8, 0, 40)
    pointer = trial.serving()
    assert (pointer.adapter, pointer.candidate) == ("a", None)
    [reason] = pointer.changes[-1].reasons
    assert reason.startswith("thumbs-down in 7 of 8 chats, and in 0 of 40 with the control")
    assert watch(trial, log) is None


def test_one_angry_person_does_not_end_a_trial(trial: Registry, log: DialogueLog, talk: Talk) -> None:
    """A count of thumbs would: 60 of 66 against 0 of 40."""
    for chat in range(40):
        talk(chat, "a")
    for chat in range(101, 107):
        talk(chat, "b")
    for _ in range(60):
        talk(100, "b", -1)
    assert watch(trial, log) is None


def test_what_was_before_the_trial_or_by_rule_does_not_count(trial: Registry, log: DialogueLog, talk: Talk) -> None:
    for chat in range(20):
        talk(chat, "b", -1)  # an earlier trial
    earlier = now() - timedelta(days=1)
    log.database.write(lambda conn: conn.execute(update(messages).values(created_at=earlier)))
    log.database.write(lambda conn: conn.execute(update(ratings).values(created_at=earlier)))
    for chat in range(20, 60):
        talk(chat, "a")
        talk(chat, None, -1, finish="rule")
    for chat in range(100, 112):
        talk(chat, "b")
    [first, second] = log.database.read(lambda conn: canary.trials(conn, trial.serving()))
    assert (first.candidate_chats, first.candidate_down, first.control_chats, first.control_down) == (8, 0, 40, 0)
    assert second.candidate_chats == 12
    assert watch(trial, log) is None


def test_the_control_may_be_the_bare_base(registry: Registry, add: Add, log: DialogueLog, talk: Talk) -> None:
    add("b")
    registry.start_share("b", 0.2)
    for chat in range(40):
        talk(chat, None)
    for chat in range(100, 113):
        talk(chat, "b", -1)
    assert watch(registry, log) is not None
    assert registry.serving().candidate is None
    assert registry.serving().adapter is None


def test_without_a_trial_the_log_is_not_even_asked(registry: Registry, log: DialogueLog) -> None:
    log.close()
    assert watch(registry, log) is None
