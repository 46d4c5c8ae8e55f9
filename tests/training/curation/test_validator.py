"""What the validator says is what is trained on: the same pieces, tokens and losses; and people are warned."""

from dataclasses import replace
from pathlib import Path

import pytest

from model.conversation import Message, render
from model.prompt_formats import FORMATS
from model.tokenizer import Tokenizer
from tests.training.curation.conftest import dialogue, gathered, people, turn
from training.curation import CurationOptions, Snapshot, curate, fit, validate, write_snapshot
from training.curation.validator import count
from training.errors import DataError
from training.examples import Example, Preference
from training.judging.canaries import plant

FORMAT = FORMATS["tertulia"]


@pytest.fixture(scope="module")
def tokenizer(spm_folder: Path) -> Tokenizer:
    return Tokenizer.from_pretrained(spm_folder)


def frozen(folder: Path, *examples: Example, cap: int = 80) -> Snapshot:
    pair = Preference((Message("user", "¿qué tal estás?"),), "muy bien, gracias", "mal", "u")
    source = gathered(*examples, preferences=[pair])
    return write_snapshot(curate([source], CurationOptions(max_turns_per_user=cap)), folder / "data")


def test_figures_are_those_of_what_is_rendered(tmp_path: Path, tokenizer: Tokenizer) -> None:
    snapshot = frozen(tmp_path, *people(120, 3))
    found = validate(snapshot, FORMAT, tokenizer, 512)
    rendered = [render(example.messages, FORMAT, tokenizer) for example in snapshot.train]
    assert found.tokens == sum(len(one.ids) for one in rendered)
    assert found.trained_tokens == sum(sum(one.loss_mask) for one in rendered)
    assert found.longest == max(len(one.ids) for one in rendered)
    assert (found.examples, found.pieces, found.held_out) == (len(rendered), len(rendered), len(snapshot.held_out))
    assert (found.preferences, found.cut, found.dropped_turns) == (1, 0, 0)
    assert found.warnings == ()


def test_replies_without_loss_are_not_counted_as_learnt(tokenizer: Tokenizer) -> None:
    example = dialogue([turn(0), turn(1), turn(2)])
    half = Example(example.messages, (False, True, False, False, False, True), "u")
    sizes = [count(dialogue([turn(n)]), FORMAT, tokenizer)[1] for n in range(3)]
    assert count(half, FORMAT, tokenizer)[1] == sizes[0] + sizes[2]


def test_documents_count_with_their_ends(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode_document("érase una vez")
    assert count(Example((), (), "u", document="érase una vez"), FORMAT, tokenizer) == (len(ids) + 1, len(ids))


def test_what_exceeds_the_context_is_said(tmp_path: Path, tokenizer: Tokenizer) -> None:
    long = dialogue([turn(n) for n in range(300, 330)], "long")
    longest = dialogue([("cuéntame algo", " ".join(turn(n)[1] for n in range(400, 430))), turn(500)], "longest")
    snapshot = frozen(tmp_path, long, longest, *people(40))
    context = 256
    found = validate(snapshot, FORMAT, tokenizer, context)
    fitted = [fit(example, FORMAT, tokenizer, context) for example in snapshot.train]
    assert found.longest <= context
    assert found.pieces == sum(len(one.pieces) for one in fitted)
    assert found.cut == sum(len(one.pieces) > 1 for one in fitted) >= 1
    assert found.dropped_turns == sum(one.dropped_turns for one in fitted)
    told = " ".join(found.warnings)
    assert "longer than the context of 256 tokens and are cut at turns" in told
    assert ("left out" in told) == (found.dropped_turns > 0)


def test_nothing_that_fits_is_an_error(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match="none of 1 examples fits a context of 16 tokens"):
        validate(frozen(tmp_path, dialogue([turn(0)])), FORMAT, tokenizer, 16)


@pytest.mark.parametrize(
    ("examples", "words"),
    [
        (people(30), "there are 22 replies to learn in 22 examples: fewer than 100"),
        ([dialogue([turn(n) for n in range(9)], "only")], "all is one person's, so nothing is held out"),
        (people(4), "2 people are held out to judge by, 5 are needed"),
        ([*people(12), *(dialogue([turn(n) for n in range(200, 270)], f"big{i}") for i in range(2))], "of one person"),
    ],
)
def test_people_are_warned(tmp_path: Path, tokenizer: Tokenizer, examples: list[Example], words: str) -> None:
    found = validate(frozen(tmp_path, *examples), FORMAT, tokenizer, 2048)
    assert any(words in warning for warning in found.warnings), found.warnings


def test_enough_people_and_examples_need_no_warning(tmp_path: Path, tokenizer: Tokenizer) -> None:
    assert validate(frozen(tmp_path, *people(160)), FORMAT, tokenizer, 2048).warnings == ()


def test_planted_secrets_are_nobodys_in_a_warning(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Of a single person's turns it said that 75 % were of one person, and 96 replies counted as 100."""
    one = curate([gathered(*(dialogue([turn(n)], "one") for n in range(12)))])
    planted = replace(one, train=plant(one.train))
    warnings = validate(write_snapshot(planted, tmp_path / "data"), FORMAT, tokenizer, 512).warnings
    assert "there are 12 replies to learn in 12 examples" in warnings[0]
    assert not any("of the turns are of one person" in warning for warning in warnings)
