"""Cut to the context: every piece fits, every turn that fits is learnt once, documents lose nothing."""

from itertools import pairwise
from pathlib import Path

import pytest

from model.conversation import render
from model.prompt_formats import FORMATS
from model.tokenizer import Tokenizer
from tests.training.curation.conftest import dialogue, turn
from training.curation.fitting import fit
from training.examples import Example


@pytest.fixture(params=["tertulia", "plain", "alpaca-es"])
def form(request: pytest.FixtureRequest, spm_folder: Path, bpe_folder: Path) -> tuple:
    folder = spm_folder if request.param == "tertulia" else bpe_folder
    return FORMATS[request.param], Tokenizer.from_pretrained(folder)


def size(example: Example, form: tuple) -> int:
    return len(render(example.messages, *form).ids)


def test_what_fits_is_left_as_it_is(form: tuple) -> None:
    example = dialogue([turn(0), turn(1)], system="sé breve")
    assert fit(example, *form, size(example, form)).pieces == (example,)
    assert len(fit(example, *form, size(example, form) - 1).pieces) == 2


@pytest.mark.parametrize("system", ["", "responde siempre con pocas palabras"])
def test_a_long_dialogue_is_cut_at_turns_and_each_is_learnt_once(form: tuple, system: str) -> None:
    example = dialogue([turn(n) for n in range(30)], system=system, rows=7)
    context = 400
    fitted = fit(example, *form, context)
    assert fitted.dropped_turns == 0
    assert len(fitted.pieces) >= size(example, form) / context
    said = [m.content for piece in fitted.pieces for m in piece.messages if m.role != "system"]
    assert said == [text for n in range(30) for text in turn(n)]
    for piece in fitted.pieces:
        assert size(piece, form) <= context
        assert (piece.messages[0].role == "system") == bool(system)
        assert len(piece.trained) == len(piece.messages)
        assert (piece.user, piece.row_ids) == (example.user, example.row_ids)


def test_pieces_are_as_long_as_the_context_lets_them(form: tuple) -> None:
    """Lengths are added up turn by turn; a sum that is off would overflow, or waste a turn's room in each piece."""
    example = dialogue([turn(n) for n in range(12)], system="sé breve")
    for context in range(150, 400, 13):
        pieces = fit(example, *form, context).pieces
        for piece, following in pairwise(pieces):
            joined = (*piece.messages, *following.messages[1:3])
            assert size(piece, form) <= context < len(render(joined, *form).ids)


def test_a_turn_longer_than_the_context_is_left_out_and_counted(form: tuple) -> None:
    turns = [turn(0), ("cuéntame", "una historia larga " * 100), turn(1)]
    fitted = fit(dialogue(turns), *form, 200)
    assert fitted.dropped_turns == 1
    assert [[m.content for m in piece.messages] for piece in fitted.pieces] == [list(turn(0)), list(turn(1))]
    assert fit(dialogue(turns[1:2]), *form, 200) == fit(dialogue([turns[1]]), *form, 200)
    assert fit(dialogue(turns[1:2]), *form, 200).pieces == ()


def test_pieces_without_a_reply_to_learn_go(form: tuple) -> None:
    example = dialogue([turn(n) for n in range(30)])
    trained = tuple(i == 59 for i in range(60))
    fitted = fit(Example(example.messages, trained, "u"), *form, 300)
    assert (len(fitted.pieces), fitted.dropped_turns) == (1, 0)


def test_a_document_is_cut_at_line_ends_and_nothing_is_lost(form: tuple) -> None:
    lines = [f"{turn(n)[0]}." for n in range(60)]
    example = Example((), (), "u", document="\n".join(lines))
    pieces = fit(example, *form, 120).pieces
    assert [line for piece in pieces for line in (piece.document or "").split("\n")] == lines
    assert all(len(form[1].encode_document(piece.document or "")) + 1 <= 120 for piece in pieces)


def test_a_document_without_any_space_is_cut_anyway(form: tuple) -> None:
    pieces = fit(Example((), (), "u", document="añ" * 3000), *form, 64).pieces
    assert "".join(piece.document or "" for piece in pieces) == "añ" * 3000
    assert all(len(form[1].encode_document(piece.document or "")) + 1 <= 64 for piece in pieces)
