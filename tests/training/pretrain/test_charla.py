from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from training.pretrain import charla


def test_forms_that_differ_only_in_accents_marks_or_case_fall_on_the_same_side() -> None:
    """Else "como te llamas" would be trained and "¿Cómo te llamas?" called unseen."""
    for form in ("¿Cómo te llamas tú?", "Cuéntame un chiste muy malo", "Soy de {ciudad} y me gusta"):
        assert charla.held_out(form) == charla.held_out(charla.normal_form(form))
        assert charla.held_out(form) == charla.held_out(form.upper().replace("{CIUDAD}", "{ciudad}"))


def test_the_slots_name_does_not_decide_the_split() -> None:
    assert charla.held_out("me llamo de verdad {nombre}") == charla.held_out("me llamo de verdad {x}")


def test_one_and_two_word_forms_are_always_trained() -> None:
    assert not any(
        charla.held_out(word) for word in ("hola", "gracias", "buenos días", "adiós", "muy bien", "hasta luego")
    )


def test_no_form_is_both_trained_and_held_out(data: charla.Charla) -> None:
    items = [*data.intents.values(), *data.tables.values()]
    trained = {charla.normal_form(form) for item in items for form in item.forms}
    kept = {charla.normal_form(form) for item in items for form in item.held_out_forms}
    assert len(kept) > 500
    assert not {form for form in trained & kept if charla.held_out(form)}


def test_a_dialogue_with_a_held_out_form_is_not_trained(data: charla.Charla) -> None:
    items = [*data.intents.values(), *data.tables.values()]
    kept = {charla.normal_form(form) for item in items for form in item.held_out_forms}
    assert not [user for turns in data.dialogues for user, _ in turns if charla.normal_form(user) in kept]
    assert data.held_out_dialogues


def test_every_slot_of_every_form_and_reply_has_a_value(data: charla.Charla) -> None:
    for intent in data.intents.values():
        for text in (*intent.forms, *intent.held_out_forms, *intent.replies):
            assert set(charla.SLOT.findall(text)) <= {f"{{{name}}}" for name in intent.slots}, text
    for table in data.tables.values():
        for row in table.rows:
            for text in (*table.forms, *table.held_out_forms, *table.replies):
                charla.fill(text, row)


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "intents_x.jsonl").write_text('{"intent": "a"\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"intents_x\.jsonl, line 1"):
        charla.load(tmp_path)


def test_forms_for_an_unknown_intent_are_refused(tmp_path: Path) -> None:
    (tmp_path / "forms_x.jsonl").write_text('{"intent": "nada", "user": ["hola"]}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="nada"):
        charla.load(tmp_path)


def test_the_prompts_of_the_evaluation_are_reserved() -> None:
    """Written data came to hold "¿Hay alguien ahí?" by chance; what is measured must never have been trained on."""
    lines = (Path(__file__).parents[3] / "benchmarks" / "charla_prompts.jsonl").read_text(encoding="utf-8").splitlines()
    prompts = [json.loads(line)["prompt"] for line in lines]
    assert {charla.digest(charla.normal_form(prompt)) for prompt in prompts} == charla.reserved()
    assert all(charla.held_out(prompt) for prompt in prompts)


def test_a_form_with_alternatives_is_read_in_all_ways_but_never_in_a_held_out_one() -> None:
    form = "(Oye|Mira), estoy (mal|fatal)(| hoy)"
    readings = {charla.reading(Random(seed), form) for seed in range(200)}
    every = {f"{a}, estoy {b}{c}" for a in ("Oye", "Mira") for b in ("mal", "fatal") for c in ("", " hoy")}
    assert readings == {text for text in every if not charla.held_out(text)}


def test_an_empty_alternative_leaves_no_space_behind() -> None:
    assert charla.reading(Random(0), "Hola (|), ven (| )ya (|)") == "Hola, ven ya"
