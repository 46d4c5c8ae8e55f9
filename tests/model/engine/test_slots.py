"""The engine with conversations in slots: few of them, all kinds of requests, memory that is taken once."""

import logging
from collections import Counter
from collections.abc import Iterator

import pytest
import torch

from model import GPTJ8bitForCausalLM, Tokenizer
from model.engine.adapters import Adapter
from model.engine.cache import Layout
from model.engine.capture import CaptureError
from model.engine.engine import Engine
from model.engine.params import SamplingParams
from model.engine.sampling import penalize
from model.engine.slot_replies import SlotReplies
from model.engine.slots import SlotCache, Slots
from model.errors import ModelError
from model.gptj import generate_naive
from tests.model.engine.test_engine import GREEDY, ids_of, random_ids


def replies_of(engine: Engine) -> SlotReplies:
    assert engine._batch.slot_replies is not None
    return engine._batch.slot_replies


@pytest.fixture
def failing(model: GPTJ8bitForCausalLM, tokenizer: Tokenizer) -> Iterator[Engine]:
    """Room for three contexts of 640 tokens, each 640 KiB."""
    engine = Engine(model, tokenizer, cache_mb=2, in_slots=True)
    yield engine
    engine.close()


@pytest.fixture
def engine(failing: Engine, caplog: pytest.LogCaptureFixture) -> Iterator[Engine]:
    """The same, and no step may fail: the runner would make up for it unseen."""
    yield failing
    assert "decoding in slots failed" not in [record.getMessage()[:24] for record in caplog.get_records("call")]


def test_more_replies_than_slots_wait_and_all_come_right(model: GPTJ8bitForCausalLM, engine: Engine) -> None:
    prompts = [random_ids(n, seed=n) for n in (1, 7, 90, 3, 300, 12, 40, 2)]
    streams = [engine.submit(prompt, GREEDY) for prompt in prompts]
    for prompt, stream in zip(prompts, streams, strict=True):
        assert prompt + ids_of(list(stream)) == generate_naive(model, prompt, 24)


def test_as_many_run_at_once_as_there_are_slots_and_the_log_says_so(
    model: GPTJ8bitForCausalLM, tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    """An owner's share is of the slots there are; what the pool takes is held from the beginning."""
    with caplog.at_level(logging.INFO):
        engine = Engine(model, tokenizer, cache_mb=5, in_slots=True)
    assert "8 conversations are answered side by side: each takes 0 of 5 MB (TERTULIA_CACHE_MB) on cpu" in caplog.text
    assert engine._batch.max_batch == 8
    assert engine.cache_bytes == replies_of(engine).decode.slots.pool.nbytes >= 5 * 2**20
    streams = [engine.submit(random_ids(4, seed=i), GREEDY, owner="one") for i in range(8)]
    highest = 0
    for stream in streams:
        for _ in stream:
            highest = max(highest, engine.num_running)
    assert highest <= 2
    engine.close()


def test_a_pool_that_does_not_fit_is_told_by_the_name_of_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "zeros", full)
    layout = Layout(28, 16, 256, 2048, torch.float32, torch.device("cpu"))
    with pytest.raises(ModelError, match=r"no room for .* 2 conversations of 1,792 MB: set TERTULIA_CACHE_MB lower"):
        Slots(layout, 2)


def test_a_penalty_reaches_the_reply_in_a_slot(
    model: GPTJ8bitForCausalLM, tokenizer: Tokenizer, engine: Engine
) -> None:
    """Without temperature, so that the whole reply is known, beside others that draw."""
    params = SamplingParams(temperature=0.0, repetition_penalty=8.0, max_new_tokens=24)
    prompt, expected = random_ids(6), []
    for _ in range(24):
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + expected])).logits[0, -1, : tokenizer.num_tokens]
        expected.append(int((penalize(logits, expected, 8.0) if expected else logits).argmax()))
    assert expected != generate_naive(model, prompt, 24)[6:]
    beside = [engine.submit(random_ids(9, seed=i), SamplingParams(max_new_tokens=60)) for i in (1, 2)]
    for stream in beside:
        next(stream)
    assert ids_of(list(engine.submit(prompt, params))) == expected
    assert [list(stream)[-1].finish for stream in beside] == ["length"] * 2


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


@pytest.mark.parametrize("error", [RuntimeError("no memory"), CaptureError("no graph")], ids=lambda error: str(error))
def test_a_step_that_fails_leaves_its_replies_to_the_runner(
    model: GPTJ8bitForCausalLM,
    failing: Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: RuntimeError,
) -> None:
    """As when a driver cannot capture a graph: told once, slower from then on, nothing lost."""
    decode = replies_of(failing).decode
    run, steps = decode.run, []

    def fail(asked: list[int], adapter: Adapter | None) -> torch.Tensor:
        steps.append(asked)
        if len(steps) == 5:
            run(asked, adapter)  # the device is a step ahead of what the host knows
            raise error
        return run(asked, adapter)

    monkeypatch.setattr(decode, "run", fail)
    with caplog.at_level(logging.WARNING):
        streams = [failing.submit(random_ids(6, seed=i), GREEDY) for i in range(3)]
        for i, stream in enumerate(streams):
            assert random_ids(6, seed=i) + ids_of(list(stream)) == generate_naive(model, random_ids(6, seed=i), 24)
    assert caplog.text.count("decoding in slots failed") == 1
    assert len(steps) == 5


@pytest.mark.parametrize("error", [RuntimeError, CaptureError])
def test_an_adapter_that_fails_is_left_alone_and_a_capture_that_fails_ends_them_all(
    model: GPTJ8bitForCausalLM,
    failing: Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: type[RuntimeError],
) -> None:
    """A capture that fails would fail under every adapter, each time after a warm-up."""
    decode, tried = replies_of(failing).decode, Counter[str]()
    run, adapters = decode.run, [Adapter(name, {}) for name in ("first", "second", "third")]

    def fail(asked: list[int], adapter: Adapter) -> torch.Tensor:
        tried[adapter.name] += 1
        if adapter.name != "third":
            raise error("not under this one")
        return run(asked, adapter)

    monkeypatch.setattr(decode, "run", fail)
    for adapter in adapters:
        for i in range(2):
            prompt = random_ids(6, seed=i)
            found = ids_of(list(failing.submit(prompt, GREEDY, adapter=adapter)))
            assert prompt + found == generate_naive(model, prompt, 24)
    expected = {"first": 1} if error is CaptureError else {"first": 1, "second": 1, "third": 46}
    assert tried == expected
    assert caplog.text.count("decoding in slots failed") == len(expected) - (error is RuntimeError)


def test_a_reply_that_ended_is_not_held(engine: Engine) -> None:
    """Nor with it the adapter that it was written under."""
    adapter = Adapter("held", {})
    for cancelled in (False, True):
        stream = engine.submit(random_ids(6), SamplingParams(max_new_tokens=60), adapter=adapter)
        next(stream)
        if cancelled:
            stream.close()
        else:
            list(stream)
    list(engine.submit(random_ids(6), GREEDY))
    engine.close()
    assert replies_of(engine)._joined == {}


def test_logits_that_are_not_finite_end_that_reply_alone_and_nobody_goes_on_from_there(
    model: GPTJ8bitForCausalLM, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN among a slot's keys once came back in every conversation that had the slot later."""
    slots = replies_of(engine).decode.slots
    run, steps = replies_of(engine).decode.run, []

    def broken(asked: list[int], adapter: Adapter | None) -> torch.Tensor:
        steps.append(asked)
        if len(steps) == 5:
            slots.pool[:, :, 0, :, : slots.nowhere] = torch.nan
        return run(asked, adapter)

    monkeypatch.setattr(replies_of(engine).decode, "run", broken)
    prompts = [random_ids(6, seed=i) for i in range(2)]
    streams = [engine.submit(prompt, GREEDY) for prompt in prompts]
    with pytest.raises(ModelError, match="NaN or infinite"):
        list(streams[0])
    assert prompts[1] + ids_of(list(streams[1])) == generate_naive(model, prompts[1], 24)
    again = [engine.submit(prompt, GREEDY) for prompt in (prompts[0], random_ids(3, seed=7), random_ids(30, seed=8))]
    for prompt, stream in zip((prompts[0], random_ids(3, seed=7), random_ids(30, seed=8)), again, strict=True):
        assert prompt + ids_of(list(stream)) == generate_naive(model, prompt, 24)
        assert stream.reused_tokens == 0


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
