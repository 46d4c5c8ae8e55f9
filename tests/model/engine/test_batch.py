"""Many at once: batched equals alone, owners are served fairly, slots and memory come back, errors stay at home."""

import threading
import time
from collections.abc import Iterator
from random import Random

import pytest
import torch

from model import GPTJ8bitForCausalLM, Tokenizer
from model.engine import batch
from model.engine.adapters import Adapter
from model.engine.cache import KeyValues
from model.engine.engine import Engine, Piece
from model.engine.params import SamplingParams
from model.engine.request import Request
from model.errors import EngineBusy
from model.gptj import generate_naive
from tests.model.engine.test_engine import GREEDY, ids_of, random_ids, text_of

LONG = SamplingParams(temperature=0.0, max_new_tokens=400)


def together(jobs: list[threading.Thread]) -> None:
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
        assert not job.is_alive()


def test_a_hundred_mixed_prompts_at_once_give_what_each_gives_alone(model: GPTJ8bitForCausalLM, engine: Engine) -> None:
    """Lengths from 1 to several passes beside replies, some sharing beginnings, joining and leaving at any time."""
    rng, found = Random(3), {}
    stem = random_ids(40, seed=99)
    prompts = [
        (stem[: rng.randint(0, 40)] if rng.random() < 0.3 else [])
        + random_ids(rng.choice((1, 3, 9, 30, 90, 300)), seed=i)
        for i in range(100)
    ]
    sizes = [rng.randint(1, 12) for _ in prompts]

    def ask(i: int) -> None:
        params = SamplingParams(temperature=0.0, max_new_tokens=sizes[i])
        found[i] = ids_of(list(engine.submit(prompts[i], params)))

    together([threading.Thread(target=ask, args=(i,)) for i in range(100)])
    for i, prompt in enumerate(prompts):
        assert prompt + found[i] == generate_naive(model, prompt, sizes[i]), i


def test_a_prompt_read_in_small_pieces_gives_what_it_gives_whole(
    model: GPTJ8bitForCausalLM, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = random_ids(50)
    whole = ids_of(list(Engine(model, tokenizer).submit(prompt, GREEDY)))
    monkeypatch.setattr(batch, "PREFILL_TOKENS", 7)
    assert ids_of(list(Engine(model, tokenizer).submit(prompt, GREEDY))) == whole


def test_a_running_reply_flows_on_while_a_long_prompt_is_read(engine: Engine) -> None:
    running = engine.submit(random_ids(5), LONG)
    next(running)
    late = engine.submit(random_ids(400, seed=2), SamplingParams(temperature=0.0, max_new_tokens=1))
    list(late)
    passes = -(-400 // batch.PREFILL_BESIDE)
    said = 0
    while not running._request.pieces.empty():
        said += len(next(running).ids)
    assert said >= passes - 2
    running.close()


def test_a_cancelled_reply_frees_its_slot_and_the_rest_goes_on(engine: Engine) -> None:
    streams = [engine.submit(random_ids(4, seed=i), LONG) for i in range(100)]
    for stream in streams[:8]:
        next(stream)
    for stream in streams:
        stream.close()
    assert len(ids_of(list(engine.submit(random_ids(4), GREEDY)))) == 24
    assert (engine.num_running, engine.num_waiting) == (0, 0)


def test_a_stream_nobody_reads_any_more_is_cancelled(engine: Engine) -> None:
    stream = engine.submit(random_ids(4), LONG)
    next(stream)
    del stream
    list(engine.submit(random_ids(4, seed=1), GREEDY))
    assert engine.num_running == 0


def test_an_error_in_one_request_leaves_the_others_right(
    model: GPTJ8bitForCausalLM, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose drawing fails, and one whose pass fails: an adapter with a matrix of the wrong width."""
    accepted = Request.accept

    def accept(self: Request, token: int) -> None:
        if self.owner == "broken" and len(self.generated) == 3:
            raise ZeroDivisionError("drawing")
        accepted(self, token)

    monkeypatch.setattr(Request, "accept", accept)
    wrong = Adapter("wrong", {"transformer.h.1.attn.q_proj": (torch.zeros(2, 3), torch.zeros(64, 2), 1.0)})
    good = [engine.submit(random_ids(6, seed=i), GREEDY) for i in range(3)]
    broken = engine.submit(random_ids(6, seed=7), GREEDY, owner="broken")
    misfit = engine.submit(random_ids(6, seed=8), GREEDY, adapter=wrong)
    with pytest.raises(ZeroDivisionError):
        list(broken)
    with pytest.raises(RuntimeError, match="mat1"):
        list(misfit)
    for i, stream in enumerate(good):
        prompt = random_ids(6, seed=i)
        assert prompt + ids_of(list(stream)) == generate_naive(model, prompt, 24)
    assert engine.num_running == 0


def test_a_conversation_that_gets_no_memory_ends_alone(
    model: GPTJ8bitForCausalLM, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It once took the engine's thread with it, and every stream waited for ever."""
    take = engine._batch.cache.take

    def refuse(ids: list[int], adapter: object | None) -> KeyValues:
        if len(ids) == 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return take(ids, adapter)

    monkeypatch.setattr(engine._batch.cache, "take", refuse)
    streams = [engine.submit(random_ids(size), GREEDY) for size in (5, 6, 5, 7)]
    for stream in streams[::2]:
        with pytest.raises(torch.OutOfMemoryError):
            list(stream)
    for stream, size in zip(streams[1::2], (6, 7), strict=True):
        assert random_ids(size) + ids_of(list(stream)) == generate_naive(model, random_ids(size), 24)


def test_a_full_line_says_busy_at_once_and_one_owner_cannot_fill_it(
    model: GPTJ8bitForCausalLM, tokenizer: Tokenizer
) -> None:
    engine = Engine(model, tokenizer, max_batch=1, max_waiting=8)
    first = engine.submit(random_ids(4), LONG)
    next(first)
    flood = [engine.submit(random_ids(4), LONG, owner="flood") for _ in range(2)]  # a quarter of the line
    with pytest.raises(EngineBusy, match="try again"):
        engine.submit(random_ids(4), LONG, owner="flood")
    others = [engine.submit(random_ids(4), LONG, owner=f"chat {i}") for i in range(6)]
    with pytest.raises(EngineBusy, match="8 replies"):
        engine.submit(random_ids(4), GREEDY, owner="one more")
    for stream in (first, *flood, *others):
        stream.close()
    engine.close()


def test_owners_take_turns(model: GPTJ8bitForCausalLM, tokenizer: Tokenizer) -> None:
    engine = Engine(model, tokenizer, max_batch=1, max_waiting=64)
    first = engine.submit(random_ids(4), SamplingParams(temperature=0.0, max_new_tokens=60))
    order: list[str] = []
    lock = threading.Lock()

    def read(owner: str, stream: Iterator[Piece]) -> None:
        list(stream)
        with lock:
            order.append(owner)

    short = SamplingParams(temperature=0.0, max_new_tokens=5)
    asked = [("flood", engine.submit(random_ids(4, seed=i), short, owner="flood")) for i in range(10)]
    asked += [(f"chat {i}", engine.submit(random_ids(4), short, owner=f"chat {i}")) for i in range(3)]
    jobs = [threading.Thread(target=read, args=one) for one in asked]
    together(jobs)
    list(first)
    assert {"chat 0", "chat 1", "chat 2"} <= set(order[:6])
    engine.close()


def test_small_requests_do_not_pass_a_large_one_that_waits_for_room(
    model: GPTJ8bitForCausalLM, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for 1,024 tokens: beside 500 of them every small request fits, the large one of 600 does not."""
    engine = Engine(model, tokenizer, max_batch=16, cache_mb=1)
    let_in: list[int] = []
    take = engine._batch.cache.take

    def watched(ids: list[int], adapter: object | None) -> KeyValues:
        let_in.append(len(ids))
        return take(ids, adapter)

    monkeypatch.setattr(engine._batch.cache, "take", watched)
    sizes = [(300, 200), (500, 100), *[(4, 60)] * 20]  # of the prompt, of the reply
    streams = [
        engine.submit(
            random_ids(length, seed=i), SamplingParams(temperature=0.0, max_new_tokens=new), owner=f"chat {i}"
        )
        for i, (length, new) in enumerate(sizes)
    ]
    for stream in streams:
        list(stream)
    assert let_in == [length for length, _ in sizes]
    engine.close()


def test_log_probabilities_are_the_models_own(model: GPTJ8bitForCausalLM, engine: Engine) -> None:
    prompt = random_ids(9)
    pieces = list(engine.submit(prompt, SamplingParams(temperature=2.0, seed=4, max_new_tokens=10), logprobs=True))
    ids, scores = ids_of(pieces), [score for piece in pieces for score in piece.logprobs]
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1, : engine.tokenizer.num_tokens]
    expected = logits.log_softmax(-1)[torch.arange(len(ids)), torch.tensor(ids)]
    torch.testing.assert_close(torch.tensor(scores), expected, atol=2e-3, rtol=1e-4)


def test_a_closed_engine_ends_what_runs_and_takes_no_more(model: GPTJ8bitForCausalLM, tokenizer: Tokenizer) -> None:
    engine = Engine(model, tokenizer)
    stream = engine.submit(random_ids(4), LONG)
    next(stream)
    engine.close()
    assert list(stream)[-1].finish == "cancelled"
    with pytest.raises(RuntimeError, match="closed"):
        engine.submit(random_ids(4), GREEDY)


def test_an_idle_engine_gives_up_its_thread_and_takes_it_up_again(
    model: GPTJ8bitForCausalLM, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.engine.engine.IDLE_S", 0.01)
    engine = Engine(model, tokenizer)
    first = text_of(list(engine.submit(random_ids(4), GREEDY)))
    deadline = time.monotonic() + 10
    while engine._thread is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert engine._thread is None
    assert text_of(list(engine.submit(random_ids(4), GREEDY))) == first
