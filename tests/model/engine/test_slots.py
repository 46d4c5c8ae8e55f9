"""The engine with conversations in slots: few of them, all kinds of requests, memory that is taken once."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from model import GPTJ8bitForCausalLM, Tokenizer
from model.engine.adapters import Adapter
from model.engine.cache import Layout
from model.engine.engine import Engine
from model.engine.params import SamplingParams
from model.engine.slots import SlotCache, Slots
from model.errors import ModelError
from model.gptj import generate_naive
from tests.model.engine.test_engine import GREEDY, ids_of, make_model, random_ids


@pytest.fixture(scope="module")
def tokenizer(spm_folder: Path) -> Tokenizer:
    return Tokenizer.from_pretrained(spm_folder)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> GPTJ8bitForCausalLM:
    return make_model(tokenizer.num_tokens, 256)


@pytest.fixture
def engine(model: GPTJ8bitForCausalLM, tokenizer: Tokenizer) -> Iterator[Engine]:
    """Room for three contexts of 640 tokens, each 640 KiB."""
    engine = Engine(model, tokenizer, cache_mb=2, in_slots=True)
    assert engine._batch.slots is not None
    assert engine._batch.slots.decode.slots.count == 3
    yield engine
    engine.close()


def test_more_replies_than_slots_wait_and_all_come_right(model: GPTJ8bitForCausalLM, engine: Engine) -> None:
    prompts = [random_ids(n, seed=n) for n in (1, 7, 90, 3, 300, 12, 40, 2)]
    streams = [engine.submit(prompt, GREEDY) for prompt in prompts]
    for prompt, stream in zip(prompts, streams, strict=True):
        assert prompt + ids_of(list(stream)) == generate_naive(model, prompt, 24)


def test_seeds_and_log_probabilities_come_beside_slots(
    model: GPTJ8bitForCausalLM, tokenizer: Tokenizer, engine: Engine
) -> None:
    """The same as without slots, while another reply is written in one."""
    seeded = SamplingParams(temperature=2.0, max_new_tokens=20, seed=9)
    plain = Engine(model, tokenizer)
    alone = ids_of(list(plain.submit(random_ids(5), seeded)))
    alone_scored = list(plain.submit(random_ids(6), GREEDY, logprobs=True))
    beside = engine.submit(random_ids(9), SamplingParams(temperature=0.0, max_new_tokens=60))
    next(beside)
    assert ids_of(list(engine.submit(random_ids(5), seeded))) == alone
    scored = list(engine.submit(random_ids(6), GREEDY, logprobs=True))
    assert ids_of(scored) == ids_of(alone_scored)
    scores = [[score for piece in pieces for score in piece.logprobs] for pieces in (scored, alone_scored)]
    torch.testing.assert_close(torch.tensor(scores[0]), torch.tensor(scores[1]), atol=1e-3, rtol=1e-4)
    beside.close()


def test_a_chat_goes_on_in_its_slot_and_the_oldest_gives_way(engine: Engine) -> None:
    first = random_ids(20, seed=1)
    reply = ids_of(list(engine.submit(first, GREEDY)))
    again = engine.submit(first + reply + [7, 8, 9], GREEDY)
    list(again)
    assert again.reused_tokens == len(first) + len(reply) - 1
    for seed in (2, 3, 4):
        list(engine.submit(random_ids(20, seed=seed), GREEDY))
    forgotten, kept = engine.submit(first, GREEDY), engine.submit(random_ids(20, seed=4), GREEDY)
    list(forgotten)
    list(kept)
    assert (forgotten.reused_tokens, kept.reused_tokens) == (0, 19)


def test_one_slot_serves_a_shared_beginning_by_cutting_what_it_holds() -> None:
    layout = Layout(1, 1, 4, 64, torch.float32, torch.device("cpu"))
    cache = SlotCache(Slots(layout, 1))
    kv = cache.take(range(50), None)
    kv.advance(range(50))
    cache.give(kv)
    again = cache.take([*range(20), 99], None)
    assert (again is kv, len(again.ids), cache.idle, cache.slots.free) == (True, 20, [], [])


@pytest.mark.parametrize("count", [2, 3])
def test_a_copy_is_made_where_another_slot_can_be_had(count: int) -> None:
    layout = Layout(1, 1, 4, 64, torch.float32, torch.device("cpu"))
    cache = SlotCache(Slots(layout, count))
    taken = [cache.take(range(start, start + 50), None) for start in (0, 100)]
    for start, kv in zip((0, 100), taken, strict=True):
        kv.buffer[:, :, :50] = torch.randn(1, 2, 50, 1, 4)
        kv.advance(range(start, start + 50))
        cache.give(kv)
    copy = cache.take([*range(20), 999], None)
    assert copy is not taken[0]
    assert torch.equal(copy.buffer[:, :, :20], taken[0].buffer[:, :, :20])
    assert len(cache.idle) == count - 1


def test_a_step_that_fails_leaves_its_replies_to_the_runner(
    model: GPTJ8bitForCausalLM, engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As when a driver cannot capture a graph: told once, slower from then on, nothing lost."""
    slots = engine._batch.slots
    assert slots is not None
    run, steps = slots.decode.run, []

    def failing(asked: list[int], adapter: Adapter | None) -> torch.Tensor:
        steps.append(asked)
        if len(steps) == 5:
            run(asked, adapter)  # the device is a step ahead of what the host knows
            raise RuntimeError("no graph")
        return run(asked, adapter)

    monkeypatch.setattr(slots.decode, "run", failing)
    with caplog.at_level(logging.WARNING):
        streams = [engine.submit(random_ids(6, seed=i), GREEDY) for i in range(3)]
        for i, stream in enumerate(streams):
            assert random_ids(6, seed=i) + ids_of(list(stream)) == generate_naive(model, random_ids(6, seed=i), 24)
    assert caplog.text.count("decoding in slots failed") == 1
    assert len(steps) == 5


def test_logits_that_are_not_finite_end_that_reply_alone(
    model: GPTJ8bitForCausalLM, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = engine._batch.slots
    assert slots is not None
    run = slots.decode.run

    def broken(asked: list[int], adapter: Adapter | None) -> torch.Tensor:
        told = run(asked, adapter).clone()
        told[0] = -1
        return told

    monkeypatch.setattr(slots.decode, "run", broken)
    streams = [engine.submit(random_ids(6, seed=i), GREEDY) for i in range(2)]
    with pytest.raises(ModelError, match="NaN or infinite"):
        list(streams[0])
    assert random_ids(6, seed=1) + ids_of(list(streams[1])) == generate_naive(model, random_ids(6, seed=1), 24)


def test_slots_come_back_after_a_bug_and_at_the_end(
    model: GPTJ8bitForCausalLM, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(model, tokenizer, cache_mb=2, in_slots=True)
    cache = engine._batch.cache
    assert isinstance(cache, SlotCache)

    def bug(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    streams = [engine.submit(random_ids(4, seed=i), SamplingParams(max_new_tokens=400)) for i in range(3)]
    next(streams[0])
    with monkeypatch.context() as patch:
        patch.setattr(engine._batch, "_parts", bug)
        for stream in streams:
            with pytest.raises(ZeroDivisionError):
                list(stream)
    assert len(ids_of(list(engine.submit(random_ids(9), GREEDY)))) == 24
    last = engine.submit(random_ids(4), SamplingParams(max_new_tokens=400))
    next(last)
    engine.close()
    assert list(last)[-1].finish == "cancelled"
    assert len(cache.slots.free) + len(cache.idle) == 3
