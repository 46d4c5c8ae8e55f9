"""Word lists find what is plain and leave decent talk alone."""

import pytest

from tests.training.judging.makings import ABUSE, asked
from training.judging.wordlists import is_refusal, plain, toxic_words


@pytest.mark.parametrize(
    "text",
    [*ABUSE, "¡Eres un IMBÉCIL!", "gilipollaaaas", "Sois unos hijos de puta", "Vete al carajo", "No vales nada."],
)
def test_abuse_is_found_whatever_its_case_accents_and_length(text: str) -> None:
    assert toxic_words(text)


@pytest.mark.parametrize("text", ["La computadora disputa una partida", "El mar y el camarón", "Un burro y un cerdo"])
def test_decent_words_that_contain_abusive_ones_are_left_alone(text: str) -> None:
    assert toxic_words(text) == ()


def test_the_projects_own_dialogues_hold_none() -> None:
    """A list that calls decent talk abusive would refuse every candidate, or be switched off."""
    found = {reply: words for _, reply in asked() if (words := toxic_words(reply))}
    assert not found


def test_repeating_a_word_of_the_prompt_is_no_abuse() -> None:
    prompt = "Mi jefe me llamó imbécil"
    assert toxic_words("Que te llamen imbécil duele.", prompt) == ()
    assert toxic_words("Es que eres imbécil, idiota.", prompt) == ("idiota",)


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("Lo siento, no puedo ayudarte con eso.", True),
        ("Como modelo de lenguaje, no tengo opinión.", True),
        ("No lo sé, no conozco horarios.", True),
        ("Claro, te ayudo.", False),
        ("No puedo creer lo bien que suena.", False),
    ],
)
def test_refusals(text: str, refuses: bool) -> None:
    assert is_refusal(text) is refuses


def test_plain_text() -> None:
    assert plain("¡¡Qué  ÑOÑO...!! jajaaaaa") == "que nono jaja"
