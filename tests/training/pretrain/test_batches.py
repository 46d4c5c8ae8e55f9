from __future__ import annotations

from pathlib import Path
from random import Random

import torch

from model.conversation import Message, render
from model.prompt_formats import get_format
from model.tokenizer import Tokenizer
from training.pretrain.batches import (
    BUCKET,
    COPY,
    FINAL,
    FIRST_TOKENS,
    FIRST_WEIGHT,
    OPENING_TOKENS,
    TALK,
    Encoder,
    Stream,
    pack,
)


def test_the_vocabulary_gives_back_what_it_was_given(encoder: Encoder) -> None:
    for text in ("Hola, ¿cómo estás?", "27+5=32", "Uno.\nDos — tres…", "emoji 😀 y ñandú", "  dos  espacios "):
        assert encoder.pieces.decode(encoder.text(text)) == text


def test_text_never_makes_a_control_symbol(encoder: Encoder) -> None:
    control = {encoder.user, encoder.assistant, encoder.end, encoder.bos, encoder.pad}
    assert not control & set(encoder.text("<|usuario|>hola<|tertulia|>qué<|fin|><s><pad>"))


def test_training_ids_are_the_chats_ids(work: Path, encoder: Encoder, stream: Stream) -> None:
    """What is trained on must be what the chat sends: `conversation.render` is the judge."""
    tokenizer = Tokenizer.from_pretrained(work)
    rng = Random(1)
    for kind in ("drill", "single", "talk", "written") * 25:
        turns = stream.generator.dialogue(rng, kind)
        ids, weights = encoder.dialogue(turns, 10**6)
        messages = [
            Message(role, text) for turn in turns for role, text in zip(("user", "assistant"), turn, strict=True)
        ]
        rendered = render(messages, get_format("tertulia"), tokenizer)
        assert ids == rendered.ids
        assert [weight > 0 for weight in weights] == rendered.loss_mask
        prompt = render(messages[:-1], get_format("tertulia"), tokenizer, reply=True)
        assert encoder.prompt(turns[:-1], turns[-1][0]) == prompt.ids


def test_loss_lies_on_replies_and_more_on_their_beginning(encoder: Encoder) -> None:
    ids, weights = encoder.dialogue([("hola", "buenas tardes a todos y a todas")], 100)
    begin = ids.index(encoder.assistant) + 1
    assert weights[:begin] == [0.0] * begin
    assert weights[begin : begin + FIRST_TOKENS] == [FIRST_WEIGHT] * FIRST_TOKENS
    assert set(weights[begin + FIRST_TOKENS :]) == {1.0}
    assert ids[-1] == encoder.end


def test_an_opening_ends_soon_after_its_reply_begins(stream: Stream, encoder: Encoder) -> None:
    """And each is the beginning of a whole dialogue of one turn."""
    cut = 0
    for seed in range(200):
        ids, weights = stream.document(Random(seed), "opening", 256)
        (turn,) = stream.generator.dialogue(Random(seed), "opening")
        whole, _ = encoder.dialogue([turn], 256)
        said = sum(weight > 0 for weight in weights)
        assert ids == whole[: len(ids)]
        assert said == min(OPENING_TOKENS, len(encoder.text(turn[1])) + 1)
        cut += len(ids) < len(whole)
    assert cut > 150


def test_packing_restarts_positions_and_names_every_target() -> None:
    rows = [[([5, 6, 7, 8], [0.0, 0.0, 1.0, 2.0]), ([9, 10], [0.0, 1.0])], [([11, 12, 13], [0.0, 1.0, 1.0])]]
    batch = pack(rows, 6, pad=3)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9, 10], [11, 12, 13, 3, 3, 3]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 0, 1], [0, 1, 2, 0, 0, 0]]
    assert batch.documents.tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 0, -1, -1, -1]]
    real = batch.weights > 0
    assert batch.positions[real].tolist() == [1, 2, 4, 6, 7]
    assert batch.labels[real].tolist() == [7, 8, 10, 12, 13]
    assert batch.weights[real].tolist() == [1.0, 2.0, 1.0, 1.0, 1.0]
    assert len(batch.weights) == BUCKET
    assert batch.num_tokens == 9


def test_a_document_may_use_the_whole_row_and_one_target_more() -> None:
    batch = pack([[([1, 2, 3, 4], [0.0, 1.0, 1.0, 1.0])]], 3, pad=0)
    assert batch.input_ids.tolist() == [[1, 2, 3]]
    assert batch.labels[batch.weights > 0].tolist() == [2, 3, 4]


def test_a_batch_depends_on_its_index_alone(stream: Stream) -> None:
    """A resumed run must read on where it stopped, not from the beginning."""
    for stage in (COPY, TALK, FINAL):
        first = [stream.batch(i, stage, 1024, 128) for i in range(3)]
        again = stream.batch(2, stage, 1024, 128)
        assert torch.equal(first[2].input_ids, again.input_ids)
        assert torch.equal(first[2].weights, again.weights)
        assert not torch.equal(first[1].input_ids, first[2].input_ids)


def test_every_eighth_batch_has_rows_twice_as_long(stream: Stream) -> None:
    assert stream.batch(6, TALK, 1024, 128).input_ids.shape == (8, 128)
    assert stream.batch(7, TALK, 1024, 128).input_ids.shape == (4, 256)


def test_rows_are_nearly_full_and_the_last_stage_has_no_prose(stream: Stream, encoder: Encoder) -> None:
    batch = stream.batch(0, FINAL, 2048, 256)
    assert batch.num_tokens > 0.85 * 2048
    assert not (batch.input_ids == encoder.bos).any()
