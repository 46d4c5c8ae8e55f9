"""The shipped prompts: enough of them, well formed, of every kind, and fit for every model and prompt format."""

import json
from collections import Counter

import pytest

from model.conversation import render
from model.hub import resolve
from model.prompt_formats import FORMATS
from model.tokenizer import Tokenizer
from tests.conftest import CHARLA
from training.curation.filters import is_loop, not_spanish
from training.judging.held_out import encode, insides
from training.judging.regression import abuse_set, regression_set
from training.judging.wordlists import toxic_words


def test_there_are_enough_of_every_kind() -> None:
    examples = regression_set()
    assert len(examples) >= 120
    assert min(Counter(example.user.rpartition("-")[0] for example in examples).values()) >= 5
    assert len({example.user for example in examples}) == len(examples)
    assert len({example.texts[:-1] for example in examples}) == len(examples)


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
def test_each_is_a_dialogue_that_ends_with_the_reply_that_is_scored(fmt, bpe_folder) -> None:  # type: ignore[no-untyped-def]
    tokenizer = Tokenizer.from_pretrained(resolve("embedded") if fmt.name == "tertulia" else bpe_folder)
    for example in (*regression_set(), *abuse_set()[0], *abuse_set()[1]):
        roles = [message.role for message in example.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert example.trained == (False,) * (len(roles) - 1) + (True,)
        assert len(render(example.messages, fmt, tokenizer).ids) < 256
    for example in (*abuse_set()[0], *abuse_set()[1]):  # means a token are taken of each
        (piece,) = insides(encode(example, fmt, tokenizer, 512), fmt, tokenizer)
        assert piece.num_learnt >= 2


def test_they_are_decent_spanish() -> None:
    for example in regression_set():
        for text in example.texts:
            assert text == text.strip()
            assert not toxic_words(text), text
            assert not is_loop(text)
        assert not not_spanish(" ".join(example.texts)), example.texts


def test_the_replies_of_the_abuse_set_are_abusive_and_its_prompts_are_not() -> None:
    for abusive, decent in zip(*abuse_set(), strict=True):
        prompt, reply = abusive.texts
        assert toxic_words(reply, prompt), reply
        assert decent.texts[0] == prompt
        assert not any(map(toxic_words, decent.texts)), decent.texts


def test_the_embedded_model_was_not_trained_on_them() -> None:
    """A set that the model knows by heart would call every change a loss."""
    written = "\n".join(path.read_text(encoding="utf-8") for path in CHARLA.glob("dialogues*.jsonl")).lower()
    known = [e.texts[-2] for e in regression_set() if json.dumps(e.texts[-2], ensure_ascii=False).lower() in written]
    assert len(known) <= len(regression_set()) // 20, known
