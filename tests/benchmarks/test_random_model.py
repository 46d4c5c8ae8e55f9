"""Random weights of a shape: sane enough to run, and laid out as the figures take for granted."""

import pytest
import torch

from benchmarks.machine import read_gbs
from benchmarks.random_model import UNUSED, Letters, linears, random_model
from benchmarks.replies import ask, ask_at_once, random_ids
from benchmarks.shapes import SHAPES
from model.engine.engine import Engine

TINY = SHAPES["tiny"]


@pytest.mark.parametrize("in_8bit", [True, False])
def test_logits_of_a_random_model_are_finite_and_differ(in_8bit: bool) -> None:
    model = random_model(TINY, torch.bfloat16, in_8bit=in_8bit)
    with torch.inference_mode():
        logits = model(torch.arange(12)[None]).logits[0, :, : TINY.num_tokens].float()
    assert torch.isfinite(logits).all()
    assert 0.1 < logits.std() < 10


def test_streamed_weights_are_those_of_the_layers_and_the_scan_reads_them_all() -> None:
    layers = linears(random_model(TINY, torch.bfloat16))
    weights = [layer.weight.data for layer in layers]
    assert sum(weight.numel() for weight in weights) == TINY.streamed_weights
    assert not any((weight == UNUSED).any() for weight in weights)
    assert len({weight.data_ptr() for weight in weights}) == len(weights)
    assert read_gbs(weights) > 0


def test_an_engine_asked_at_once_gives_every_token_its_time() -> None:
    engine = Engine(random_model(TINY, torch.bfloat16), Letters())  # type: ignore[arg-type]
    replies = ask_at_once(engine, [random_ids(engine, 5, seed) for seed in range(3)], 6)
    for reply in replies:
        assert (len(reply.ids), len(reply.times), reply.finish) == (6, 6, "length")
        assert reply.first_s > 0
        assert reply.tokens_between(reply.times[0], reply.times[-1]) == 5
    cancelled = ask(engine, random_ids(engine, 5, 9), 50, give_up_after=2)
    assert (cancelled.finish, len(cancelled.times)) == ("cancelled", 2)
    engine.close()
