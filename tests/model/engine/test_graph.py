"""Decoding in fixed slots against the naive oracle, as it runs without a GPU: the step itself, not its capture."""

from collections import Counter

import pytest
import torch

from model import GPTJ8bitForCausalLM
from model.engine import graph
from model.engine.cache import KeyValues
from model.engine.graph import StaticDecode
from model.engine.params import SamplingParams
from model.engine.runner import Runner, Segment
from model.gptj import generate_naive
from tests.model.engine.test_engine import make_model, random_ids


@pytest.fixture(scope="module", params=[None, 256], ids=["float", "8-bit"])
def model(request: pytest.FixtureRequest) -> GPTJ8bitForCausalLM:
    return make_model(1000, request.param)


def read(runner: Runner, ids: list[int]) -> tuple[KeyValues, int]:
    """What a conversation holds after its prompt, and its first token."""
    kv = KeyValues(runner.layout, None)
    return kv, int(runner.forward([Segment(kv, ids)])[0].argmax())


def test_slots_of_all_lengths_give_what_each_gives_alone(
    model: GPTJ8bitForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some cross the bound of the places that are looked at; one joins late, in a slot that stood idle."""
    monkeypatch.setattr(graph, "SPAN", 16)
    runner = Runner(model)
    prompts = [random_ids(n, seed=n) for n in (1, 12, 40, 15)]
    static = StaticDecode(runner, slots=4, context=80)
    said: list[list[int]] = [[] for _ in prompts]
    for step in range(24):
        for slot in (0, 1, 2) if step == 0 else (3,) if step == 6 else ():
            kv, token = read(runner, prompts[slot])
            static.load(slot, kv, token)
            said[slot].append(token)
        for slot, token in enumerate(static.run().tolist()):
            if said[slot]:
                said[slot].append(token)
    for prompt, found in zip(prompts, said, strict=True):
        assert prompt + found == generate_naive(model, prompt, len(found))
    assert len(said[0]) == 25


def test_draws_follow_the_probabilities_and_top_p(model: GPTJ8bitForCausalLM) -> None:
    """Slots draw on their own, and a greedy one among them does not draw."""
    runner = Runner(model)
    kv, token = read(runner, random_ids(9))
    static = StaticDecode(runner, slots=512, context=16)
    for slot in range(511):
        static.load(slot, kv, token, SamplingParams(temperature=4.0, top_p=0.5))
    static.load(511, kv, token)
    torch.manual_seed(0)
    *drawn, likeliest = static.run().tolist()
    assert likeliest == generate_naive(model, [*kv.ids, token], 1)[-1]
    logits = runner.forward([Segment(KeyValues(runner.layout, None), [*kv.ids, token])])[0]
    ordered, order = (logits / 4).softmax(-1).sort(descending=True)
    count = int((ordered.cumsum(-1) - ordered < 0.5).sum())
    assert count > 1
    found, shares = Counter(drawn), (ordered[:count] / ordered[:count].sum()).tolist()
    assert set(found) <= set(order[:count].tolist())
    for candidate, share in zip(order[:3].tolist(), shares[:3], strict=False):
        assert found[candidate] / 511 == pytest.approx(share, abs=0.08)


def test_a_full_slot_stays_and_harms_no_other(model: GPTJ8bitForCausalLM) -> None:
    runner = Runner(model)
    static = StaticDecode(runner, slots=2, context=20)
    full, short = random_ids(17), random_ids(3, seed=4)
    for slot, prompt in enumerate((full, short)):
        static.load(slot, *read(runner, prompt))
    said = [static.run().tolist() for _ in range(12)]
    first = read(runner, short)[1]
    assert [*short, first, *(pair[1] for pair in said)] == generate_naive(model, short, 13)
    assert [pair[0] for pair in said[:2]] == generate_naive(model, full, 3)[-2:]


def test_what_a_slot_cannot_do_is_refused(model: GPTJ8bitForCausalLM) -> None:
    runner = Runner(model)
    static = StaticDecode(runner, slots=1, context=20)
    kv, token = read(runner, random_ids(5))
    for params in (SamplingParams(seed=1), SamplingParams(top_k=4), SamplingParams(min_p=0.1)):
        with pytest.raises(ValueError, match="a slot takes the bare model"):
            static.load(0, kv, token, params)
    with pytest.raises(ValueError, match="less than 20 tokens"):
        static.load(0, *read(runner, random_ids(20)))
