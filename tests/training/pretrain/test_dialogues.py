from __future__ import annotations

from random import Random

import pytest

from training.pretrain import noise
from training.pretrain.charla import Charla, held_out, normal_form
from training.pretrain.dialogues import Generator
from training.pretrain.drills import HELD_OUT_NAMES, calculation, facts, invented, operands, person
from training.pretrain.weights import OPEN_ENDED_CAP

KINDS = ("drill", "single", "opening", "talk", "written")


@pytest.fixture(scope="module")
def generator(data: Charla) -> Generator:
    return Generator(data)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_dialogues(generator: Generator, data: Charla, kind: str) -> None:
    one, other, rebuilt = Random(5), Random(5), Generator(data)
    assert [generator.dialogue(one, kind) for _ in range(50)] == [rebuilt.dialogue(other, kind) for _ in range(50)]


@pytest.mark.parametrize("kind", KINDS)
def test_no_held_out_form_is_ever_generated(generator: Generator, data: Charla, kind: str) -> None:
    """A leak would make the held-out figures say nothing."""
    kept = {normal_form(f) for item in (*data.intents.values(), *data.tables.values()) for f in item.held_out_forms}
    rng = Random(1)
    for _ in range(1500):
        for user, _ in generator.dialogue(rng, kind):
            assert normal_form(user) not in kept


def test_the_drills_own_ways_of_asking_respect_the_split() -> None:
    for fact in facts().values():
        assert fact.says
        assert fact.asks
        assert not [form for form in (*fact.says, *fact.asks) if held_out(form)]


def test_several_hundred_thousand_dialogues_are_distinct(generator: Generator) -> None:
    rng = Random(2)
    talks = {str(generator.dialogue(rng, "talk")) for _ in range(3000)}
    assert len(talks) > 2990


def test_talks_have_up_to_eight_turns_and_no_empty_message(generator: Generator) -> None:
    rng = Random(3)
    talks = [generator.dialogue(rng, "talk") for _ in range(500)]
    assert {len(turns) for turns in talks} == set(range(2, 9))
    assert all(user.strip() and reply.strip() for turns in talks for user, reply in turns)


def test_a_drill_answers_with_what_was_told(generator: Generator) -> None:
    rng = Random(4)
    for _ in range(300):
        turns = generator.drill(rng)
        assert len(turns) >= 2
        assert not any("{" in user + reply for user, reply in turns)


def test_names_for_measuring_are_never_drawn() -> None:
    rng = Random(6)
    assert not HELD_OUT_NAMES & {person(rng) for _ in range(20000)}
    assert len({invented(rng, 2) for _ in range(1000)}) > 700


def test_replies_per_intent_are_few(generator: Generator, data: Charla) -> None:
    for name, replies in generator.replies.items():
        assert 1 <= len(replies) <= OPEN_ENDED_CAP
        assert set(replies) <= set(data.intents[name].replies)


def test_sums_are_right() -> None:
    rng = Random(7)
    right = {"+": int.__add__, "-": int.__sub__, "x": int.__mul__, "double": int.__mul__, "half": int.__floordiv__}
    for _ in range(500):
        operation = rng.choice(list(right))
        a, b, result = operands(rng, operation)
        assert result == right[operation](a, b)
        assert result >= 0
    question, reply = calculation(rng)
    assert question
    assert reply.startswith("Son ")


def test_noise_keeps_a_name_as_it_was_written() -> None:
    rng = Random(8)
    for _ in range(500):
        assert "Ximenia" in noise.noisy(rng, "Hola, me llamo Ximenia", 1.0, keep="Ximenia")


def test_noise_drops_accents_but_not_the_letter_n_with_tilde() -> None:
    assert noise.without_accents("¿Mañana irá él, pingüino?") == "¿Mañana ira el, pinguino?"


def test_only_loose_noise_changes_or_drops_words() -> None:
    """Left out of "capital de Perú" the country would leave nothing to answer."""
    rng = Random(9)
    text = "dime la capital de la casa roja"
    strict = {noise.noisy(rng, text, 1.0) for _ in range(300)}
    loose = {noise.noisy(rng, text, 1.0, loose=True) for _ in range(300)}
    assert not any("decime" in said for said in strict)
    assert any("decime" in said for said in loose)
    assert {len(said.split()) for said in loose} >= {6, 7}
