"""The engine against the naive oracle: same greedy ids, same on a re-used cache; stops, cancels, reproduces."""

import threading
from pathlib import Path

import pytest
import torch

from model import GPTJ8bitConfig, GPTJ8bitForCausalLM, Tokenizer
from model.dynamic8 import quantize
from model.engine.batch import PREFILL_TOKENS
from model.engine.engine import Engine, Piece, Stream
from model.engine.sampling import SamplingParams
from model.errors import PromptTooLong
from model.gptj import generate_naive
from model.layers import Embedding8bit, Linear8bit

GREEDY = SamplingParams(temperature=0.0, max_new_tokens=24)


def make_model(num_tokens: int, block_size: int | None) -> GPTJ8bitForCausalLM:
    """A random model whose logits lie far apart; the last 24 rows are padding."""
    torch.manual_seed(5)
    config = GPTJ8bitConfig(
        vocab_size=num_tokens + 24,
        num_tokens=num_tokens,
        n_positions=640,
        n_embd=64,
        n_layer=2,
        n_head=4,
        rotary_dim=8,
        block_size=block_size,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPTJ8bitForCausalLM(config).eval()
    for module in model.modules():
        if isinstance(module, Linear8bit | Embedding8bit):
            module.store(quantize(torch.randn(module.weight.shape) * 0.5, block_size or 64))
    for parameter in model.parameters():
        if parameter.is_floating_point():
            torch.nn.init.normal_(parameter, std=0.5)
    return model


@pytest.fixture(scope="module")
def tokenizer(spm_folder: Path) -> Tokenizer:
    return Tokenizer.from_pretrained(spm_folder)


@pytest.fixture(scope="module", params=[None, 256], ids=["float", "8-bit"])
def model(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> GPTJ8bitForCausalLM:
    return make_model(tokenizer.num_tokens, request.param)


@pytest.fixture(scope="module")
def small(tokenizer: Tokenizer) -> GPTJ8bitForCausalLM:
    return make_model(tokenizer.num_tokens, 256)


def ids_of(pieces: list[Piece]) -> list[int]:
    return [i for piece in pieces for i in piece.ids]


def text_of(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def reused(stream: Stream) -> int:
    list(stream)
    return stream.reused_tokens


def random_ids(n: int, seed: int = 0) -> list[int]:
    return torch.randint(10, 1000, (n,), generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.mark.parametrize("length", [1, 7, PREFILL_TOKENS, PREFILL_TOKENS + 3])
def test_greedy_equals_the_naive_oracle(model: GPTJ8bitForCausalLM, tokenizer: Tokenizer, length: int) -> None:
    prompt = random_ids(length)
    pieces = list(Engine(model, tokenizer).submit(prompt, GREEDY))
    assert prompt + ids_of(pieces) == generate_naive(model, prompt, GREEDY.max_new_tokens)
    assert text_of(pieces) == tokenizer.decode(ids_of(pieces))
    assert [piece.finish for piece in pieces] == [None] * (len(pieces) - 1) + ["length"]


def test_prefix_reused_equals_fresh_whatever_came_before(model: GPTJ8bitForCausalLM, tokenizer: Tokenizer) -> None:
    engine = Engine(model, tokenizer)
    first = random_ids(20, seed=1)
    reply = ids_of(list(engine.submit(first, GREEDY)))
    prompts = {
        "next turn": first + reply + random_ids(5, seed=2),
        "other ending": first[:12] + random_ids(9, seed=3),
        "the same again": first,
        "nothing in common": random_ids(8, seed=4),
        "a beginning": random_ids(8, seed=4)[:3],
    }
    for name, prompt in prompts.items():
        fresh = ids_of(list(Engine(model, tokenizer).submit(prompt, GREEDY)))
        assert ids_of(list(engine.submit(prompt, GREEDY))) == fresh, name


def test_only_what_is_new_is_prefilled(small: GPTJ8bitForCausalLM, tokenizer: Tokenizer) -> None:
    engine = Engine(small, tokenizer)
    first = random_ids(20)
    reply = ids_of(list(engine.submit(first, GREEDY)))
    assert reused(engine.submit(first + reply + [7, 8, 9], GREEDY)) == len(first) + len(reply) - 1
    assert reused(engine.submit(first, GREEDY)) == len(first) - 1


def test_padding_rows_are_never_generated(small: GPTJ8bitForCausalLM, tokenizer: Tokenizer) -> None:
    params = SamplingParams(temperature=50.0, top_p=1.0, max_new_tokens=200, seed=1)
    generated = ids_of(list(Engine(small, tokenizer).submit([5], params)))
    assert len(set(generated)) > 100
    assert max(generated) < tokenizer.num_tokens


def test_a_stop_id_ends_the_reply_and_is_not_in_it(small: GPTJ8bitForCausalLM, tokenizer: Tokenizer) -> None:
    prompt = random_ids(6)
    free = ids_of(list(Engine(small, tokenizer).submit(prompt, GREEDY)))
    stop = next(i for n, i in enumerate(free) if n > 3 and i not in free[:n])
    pieces = list(Engine(small, tokenizer).submit(prompt, GREEDY, stop_ids={stop}))
    assert ids_of(pieces) == free[: free.index(stop)]
    assert pieces[-1].finish == "stop"


def test_a_stop_string_is_never_shown_not_even_its_beginning(small: GPTJ8bitForCausalLM, tokenizer: Tokenizer) -> None:
    prompt = random_ids(6)
    free = text_of(list(Engine(small, tokenizer).submit(prompt, GREEDY)))
    for begin in range(1, len(free) - 6, 5):
        stop = free[begin : begin + 5]
        pieces = list(Engine(small, tokenizer).submit(prompt, GREEDY, stop_strings=("never", stop)))
        assert text_of(pieces) == free[: free.index(stop)]
        assert pieces[-1].finish == "stop"
        assert text_of(pieces).startswith(tokenizer.decode(ids_of(pieces)).rstrip("\ufffd"))


def test_cancel_stops_between_two_tokens_and_keeps_what_was_said(
    small: GPTJ8bitForCausalLM, tokenizer: Tokenizer
) -> None:
    engine, cancel, prompt = Engine(small, tokenizer), threading.Event(), random_ids(6)
    free = list(engine.submit(prompt, GREEDY))
    pieces = []
    for piece in engine.submit(prompt, GREEDY, cancel=cancel):
        pieces.append(piece)
        if len(pieces) == 3:
            cancel.set()
    assert pieces[:3] == free[:3]
    assert pieces[-1].finish == "cancelled"
    assert ids_of(pieces) == ids_of(free)[: len(ids_of(pieces))]
    assert ids_of(list(engine.submit(prompt, GREEDY))) == ids_of(free)


def test_cancelled_before_it_begins_gives_one_empty_piece(small: GPTJ8bitForCausalLM, tokenizer: Tokenizer) -> None:
    cancel = threading.Event()
    cancel.set()
    pieces = list(Engine(small, tokenizer).submit(random_ids(6), GREEDY, cancel=cancel))
    assert pieces == [Piece("", (), "cancelled")]


def test_a_closed_stream_leaves_the_engine_ready(small: GPTJ8bitForCausalLM, tokenizer: Tokenizer) -> None:
    engine, prompt = Engine(small, tokenizer), random_ids(6)
    stream = engine.submit(prompt, GREEDY)
    next(stream)
    other = ids_of(list(engine.submit(random_ids(4), GREEDY)))  # while the first is open
    stream.close()
    assert other == ids_of(list(Engine(small, tokenizer).submit(random_ids(4), GREEDY)))
    assert [*prompt, *ids_of(list(engine.submit(prompt, GREEDY)))] == generate_naive(small, prompt, 24)


def test_a_pass_that_fails_half_way_leaves_no_trace(
    small: GPTJ8bitForCausalLM, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in the middle of a forward pass once left layer 0 one token longer than layer 1."""
    engine, prompt = Engine(small, tokenizer), random_ids(6)

    layer = engine._batch.runner.layers[1]

    def interrupt(*_: object) -> None:
        raise RuntimeError("in layer 1")

    with monkeypatch.context() as patch:
        patch.setattr(layer, "tell", interrupt)
        with pytest.raises(RuntimeError, match="in layer 1"):
            list(engine.submit(prompt, GREEDY))
    stream = engine.submit(prompt, GREEDY)
    assert [*prompt, *ids_of(list(stream))] == generate_naive(small, prompt, 24)
    assert stream.reused_tokens == 0


def test_a_seed_gives_the_same_reply_in_any_thread(small: GPTJ8bitForCausalLM, tokenizer: Tokenizer) -> None:
    params = SamplingParams(temperature=3.0, max_new_tokens=20, seed=9)
    engine, replies = Engine(small, tokenizer), []

    def run() -> None:
        replies.append(ids_of(list(engine.submit(random_ids(5), params))))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run()
    assert len(replies) == 4
    assert all(reply == replies[0] for reply in replies)
    other = SamplingParams(temperature=3.0, max_new_tokens=20, seed=10)
    assert ids_of(list(engine.submit(random_ids(5), other))) != replies[0]


def test_a_prompt_fills_the_context_but_for_one_token(small: GPTJ8bitForCausalLM, tokenizer: Tokenizer) -> None:
    engine = Engine(small, tokenizer)
    pieces = list(engine.submit(random_ids(639), GREEDY))
    assert len(ids_of(pieces)) == 1
    assert pieces[-1].finish == "length"
    with pytest.raises(PromptTooLong, match="640 tokens"):
        engine.submit(random_ids(640), GREEDY)
    with pytest.raises(ValueError, match="no ids"):
        engine.submit([], GREEDY)


def test_streaming_leaves_the_callers_autograd_mode_alone(small: GPTJ8bitForCausalLM, tokenizer: Tokenizer) -> None:
    """inference_mode held across a yield would switch off gradients for whoever reads the stream."""
    for _ in Engine(small, tokenizer).submit([5], GREEDY):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
