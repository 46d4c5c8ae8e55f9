"""What is learnt of a dialogue, and packing: no example sees another, none is lost, none is repeated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.conversation import Message, render
from model.gptj import GPTJ8bitForCausalLM
from model.prompt_formats import FORMATS
from model.tokenizer import Tokenizer
from tests.training.tuning.small import dialogue, snapshot
from training.examples import Example
from training.tuning.dataset import (
    Encoded,
    batch,
    encode_examples,
    encode_preferences,
    pack,
    size,
    steps_per_epoch,
)

TERTULIA = FORMATS["tertulia"]


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> Tokenizer:
    return Tokenizer.from_pretrained(tiny)


def learnt_text(encoded: Encoded, tokenizer: Tokenizer) -> str:
    ids = [token for token, learnt in zip(encoded.ids, encoded.learnt, strict=True) if learnt]
    return tokenizer.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("name", FORMATS)
def test_the_ids_are_those_of_the_chat_and_only_replies_are_learnt(
    name: str, spm_folder: Path, bpe_folder: Path
) -> None:
    """A format of its own for training would teach the model a prompt that the chat never gives."""
    tokenizer = Tokenizer.from_pretrained(spm_folder if name == "tertulia" else bpe_folder)
    example = dialogue("el mar", "u", "¿seguro?")
    [(encoded,)] = encode_examples([example], FORMATS[name], tokenizer, 500).units
    rendered = render(example.messages, FORMATS[name], tokenizer)
    assert encoded.ids == rendered.ids
    assert encoded.learnt == rendered.loss_mask
    text = learnt_text(encoded, tokenizer)
    assert "compadre" in text
    assert "piensas" not in text
    assert "seguro, compadre" not in text.split("Claro")[0]


def test_a_reply_that_people_disliked_is_context_and_not_learnt(tokenizer: Tokenizer) -> None:
    """Marks and replies are matched by order; one off by one teaches the very reply that got the thumbs-down."""
    example = dialogue("el mar", "u", "uno", "dos")
    example = replace(example, trained=(False, True, False, False, False, True))
    [(encoded,)] = encode_examples([example], TERTULIA, tokenizer, 500).units
    text = learnt_text(encoded, tokenizer)
    assert "Viva" in text
    assert "dos" in text
    assert "uno" not in text
    assert "uno" in tokenizer.decode(encoded.ids)


def test_a_system_text_shifts_no_marks(tokenizer: Tokenizer) -> None:
    example = dialogue("el mar", "u", "uno")
    messages = (Message("system", "Eres breve."), *example.messages)
    example = replace(example, messages=messages, trained=(False, False, False, False, True))
    [(encoded,)] = encode_examples([example], TERTULIA, tokenizer, 500).units
    assert "Viva" not in learnt_text(encoded, tokenizer)
    assert "Claro" in learnt_text(encoded, tokenizer)


def test_a_document_is_learnt_whole_with_its_end(tokenizer: Tokenizer) -> None:
    example = Example((), (), user="file:a:1", document="Había una vez un barco.")
    [(encoded,)] = encode_examples([example], TERTULIA, tokenizer, 500).units
    assert encoded.ids[-1] == tokenizer.eos_id
    assert encoded.learnt == [False] + [True] * (len(encoded.ids) - 1)


def test_a_long_document_is_cut_and_no_token_is_lost(tokenizer: Tokenizer) -> None:
    text = "Había una vez un barco chiquitito. " * 20
    example = Example((), (), user="file:a:1", document=text)
    pieces = [unit[0] for unit in encode_examples([example], TERTULIA, tokenizer, 64).units]
    assert len(pieces) > 1
    assert all(len(piece.ids) <= 64 for piece in pieces)
    assert "".join(tokenizer.decode(piece.ids) for piece in pieces).replace(" ", "") == text.replace(" ", "")


def test_what_cannot_be_used_is_counted(tokenizer: Tokenizer) -> None:
    """Nothing is left out in silence."""
    unlearnt = replace(dialogue("el mar", "u"), trained=(False, False))
    examples = [unlearnt, dialogue("el mar " * 60, "u", "uno"), dialogue("el mar", "u")]
    dataset = encode_examples(examples, TERTULIA, tokenizer, 64)
    assert len(dataset.units) == 2
    assert dataset.dropped == {"examples with nothing to learn": 1, "turns longer than the context": 1}


def test_a_pair_differs_in_its_last_reply_alone(tokenizer: Tokenizer) -> None:
    dataset = encode_preferences(snapshot().preferences, TERTULIA, tokenizer, 500)
    for chosen, rejected in dataset.units:
        assert "Viva" in learnt_text(chosen, tokenizer)
        assert "No sé" in learnt_text(rejected, tokenizer)
    same = replace(snapshot().preferences[0], rejected=snapshot().preferences[0].chosen)
    assert encode_preferences([same], TERTULIA, tokenizer, 500).dropped == {"pairs of the same reply": 1}


def test_each_epoch_sees_every_example_once_in_an_order_of_its_own() -> None:
    """A resumed run has nothing but the step's number to know what comes next."""
    per_epoch = steps_per_epoch(11, 4)
    epochs = [[i for step in range(e * per_epoch, (e + 1) * per_epoch) for i in batch(11, 4, 7, step)] for e in (0, 1)]
    assert all(sorted(epoch) == list(range(11)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert batch(11, 4, 7, 0) != batch(11, 4, 8, 0)


def units_of(*lengths: int) -> list[tuple[Encoded, ...]]:
    generator = torch.Generator().manual_seed(len(lengths))
    return [
        (Encoded(torch.randint(10, 900, (n,), generator=generator).tolist(), [False] + [True] * (n - 1)),)
        for n in lengths
    ]


@pytest.mark.parametrize(("lengths", "at_least", "rows"), [((9, 9, 9), 1, 1), ((30, 30, 30), 1, 2), ((9, 9, 9), 2, 2)])
def test_rows_are_few_and_none_is_longer_than_allowed(lengths: tuple[int, ...], at_least: int, rows: int) -> None:
    packed = pack(units_of(*lengths), 64, at_least)
    assert len(packed) == rows
    assert all(row.input_ids.shape[1] <= 64 for row in packed)
    assert sorted(length for row in packed for length in row.lengths) == sorted(lengths)


def test_a_long_example_has_a_row_of_its_own_and_pairs_stay_together() -> None:
    packed = pack([*units_of(100), *units_of(5, 6)], 64)
    assert sorted(row.input_ids.shape[1] for row in packed) == [11, 100]
    pair = (units_of(40)[0][0], units_of(40)[0][0])
    assert [row.lengths for row in pack([pair], 64)] == [[40, 40]]
    assert size(pair) == 80


def logits_of(model: GPTJ8bitForCausalLM, row: object) -> torch.Tensor:
    with torch.no_grad():
        return model(row.input_ids, position_ids=row.position_ids, use_cache=False).logits[0]  # type: ignore[attr-defined]


def test_packed_examples_do_not_see_one_another_at_all(tiny: Path) -> None:
    """Cross-talk: with another text beside it, an example's logits keep their bits; alone they are the same too."""
    model = GPTJ8bitForCausalLM.from_pretrained(tiny)
    mine, beside, other = units_of(20, 20, 20)
    [first], [second] = pack([mine, beside], 64), pack([mine, other], 64)
    assert first.input_ids[0, :20].tolist() == second.input_ids[0, :20].tolist() == mine[0].ids
    assert not torch.equal(first.input_ids, second.input_ids)
    assert torch.equal(logits_of(model, first)[:20], logits_of(model, second)[:20])
    [behind], [behind_other] = pack([beside, mine], 64), pack([other, mine], 64)
    assert torch.equal(logits_of(model, behind)[20:], logits_of(model, behind_other)[20:])
    [alone] = pack([mine], 64)
    torch.testing.assert_close(logits_of(model, behind)[20:], logits_of(model, alone), rtol=1e-5, atol=1e-5)


def test_the_target_of_a_place_is_the_next_token_of_the_same_example(tokenizer: Tokenizer) -> None:
    """The last token of one example must not be asked for the first of the next."""
    units = encode_examples([dialogue("el mar", "u"), dialogue("el pan", "u", "uno")], TERTULIA, tokenizer, 500).units
    [row] = pack(units, 500)
    ids, starts = row.input_ids[0], [i for i, p in enumerate(row.position_ids[0].tolist()) if p == 0]
    assert torch.equal(ids[row.kept + 1], row.targets)
    assert not set(row.targets.tolist()) & {int(ids[start]) for start in starts}
    assert not {int(place) + 1 for place in row.kept} & set(starts)
    assert sum(row.counts) == len(row.kept)
