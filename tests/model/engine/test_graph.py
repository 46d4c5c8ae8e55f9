"""Decoding in slots against the naive oracle, as it runs without a GPU: the step itself, not its capture."""

import math
from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from model import GPTJ8bitForCausalLM
from model.engine import graph
from model.engine.graph import SlotDecode
from model.engine.params import SamplingParams
from model.engine.runner import Runner, Segment
from model.engine.sampling import make_generator, sample
from model.engine.slot_sampling import SlotSampling
from model.engine.slots import Slots
from model.gptj import generate_naive
from tests.model.engine.test_engine import make_model, random_ids

GREEDY = SamplingParams(temperature=0.0)


@pytest.fixture(scope="module", params=[None, 256], ids=["float", "8-bit"])
def model(request: pytest.FixtureRequest) -> GPTJ8bitForCausalLM:
    return make_model(1000, request.param)


def begin(decode: SlotDecode, slots: Slots, ids: list[int], params: SamplingParams = GREEDY) -> tuple[int, int]:
    """Read a prompt into a free slot -> the slot, and the first token of its reply."""
    kv = slots.take(None)
    token = int(decode.runner.forward([Segment(kv, ids)])[0].argmax())
    assert kv.slot is not None
    decode.join(kv.slot, len(ids), token, params, [token])
    return kv.slot, token


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_slots_of_all_lengths_give_what_each_gives_alone(
    model: GPTJ8bitForCausalLM, monkeypatch: pytest.MonkeyPatch, compiled: bool
) -> None:
    """Some cross the bound of the places that are looked at, one joins late, one pauses while the others go on."""
    monkeypatch.setattr(graph, "SPAN", 16)
    runner = Runner(model)
    slots = Slots(runner.layout, 5)
    decode = SlotDecode(runner, slots, compiled=compiled)
    prompts = [random_ids(n, seed=n) for n in (1, 12, 40, 15)]
    said: dict[int, list[int]] = {}
    prompt_of: dict[int, list[int]] = {}
    for step in range(24):
        for prompt in prompts[:3] if step == 0 else prompts[3:] if step == 6 else ():
            slot, token = begin(decode, slots, prompt)
            said[slot], prompt_of[slot] = [token], prompt
        asked = [slot for slot in said if slot != 1 or not 8 <= step < 15]
        told = decode.run(asked).tolist()
        for slot in asked:
            said[slot].append(told[slot])
    for slot, found in said.items():
        assert prompt_of[slot] + found == generate_naive(model, prompt_of[slot], len(found))
    assert sorted(map(len, said.values())) == [18, 19, 25, 25]


def test_a_slot_that_is_not_asked_for_keeps_what_it_holds(model: GPTJ8bitForCausalLM) -> None:
    runner = Runner(model)
    slots = Slots(runner.layout, 3)
    decode = SlotDecode(runner, slots)
    kept, _ = begin(decode, slots, random_ids(30))
    busy, _ = begin(decode, slots, random_ids(5, seed=3))
    before = slots.pool[:, :, kept, :, : slots.nowhere].clone()
    for _ in range(40):
        decode.run([busy])
    assert torch.equal(slots.pool[:, :, kept, :, : slots.nowhere], before)


def test_the_last_place_of_the_context_is_used(model: GPTJ8bitForCausalLM) -> None:
    runner = Runner(model)
    slots = Slots(runner.layout, 1)
    decode = SlotDecode(runner, slots)
    prompt = random_ids(slots.layout.context - 4)
    slot, token = begin(decode, slots, prompt)
    said = [token, *(decode.run([slot]).tolist()[slot] for _ in range(4))]
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + said[:4]])).logits[0, -5:, : runner.num_tokens]
    assert said == logits.argmax(-1).tolist()


def test_logits_that_are_not_finite_are_told(model: GPTJ8bitForCausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner(model)
    slots = Slots(runner.layout, 2)
    decode = SlotDecode(runner, slots)
    for seed in (1, 2):
        begin(decode, slots, random_ids(6, seed=seed))
    logits = runner.logits

    def broken(x: Tensor, adapted: Sequence[graph.Adapted]) -> Tensor:
        return logits(x, adapted).index_fill(0, torch.tensor([1]), math.nan)

    monkeypatch.setattr(runner, "logits", broken)
    told = decode.run([0, 1]).tolist()
    assert told[0] >= 0
    assert told[1] == -1


def test_what_a_slot_cannot_do_is_refused(model: GPTJ8bitForCausalLM) -> None:
    runner = Runner(model)
    decode = SlotDecode(runner, Slots(runner.layout, 1))
    with pytest.raises(ValueError, match="no seed"):
        decode.join(0, 3, 7, SamplingParams(seed=1), [7])
    with pytest.raises(ValueError, match="place is 640: expected 0 to 639"):
        decode.join(0, 640, 7, GREEDY, [7])


# --- drawing ------------------------------------------------------------------------------------------------------

LOGITS = torch.randn(40, generator=torch.Generator().manual_seed(3)) * 3


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=1.0, top_p=1.0),
        SamplingParams(temperature=2.5, top_p=0.5),
        SamplingParams(temperature=1.0, top_p=1.0, top_k=3),
        SamplingParams(temperature=2.0, top_p=0.9, min_p=0.1, top_k=100),
        SamplingParams(temperature=1.5, top_p=0.95, repetition_penalty=1.8),
        SamplingParams(temperature=0.0, repetition_penalty=5.0),
        SamplingParams(temperature=1e-40),
    ],
    ids=str,
)
def test_draws_follow_the_sampler_of_one_row(params: SamplingParams) -> None:
    """4,000 slots draw at once; the share of each token is that of as many draws one by one."""
    said, count = LOGITS.topk(3).indices.tolist(), 4000
    sampling = SlotSampling(count, 40, torch.device("cpu"))
    for slot in range(count):
        sampling.set(slot, params, said)
    torch.manual_seed(0)
    found = Counter(sampling.draw(LOGITS.expand(count, -1)).tolist())
    generator = make_generator(1)
    expected = Counter(sample(LOGITS, params, generator, said) for _ in range(count))
    assert set(found) <= set(expected) | {token for token in found if found[token] < 5}
    for token in range(40):
        assert abs(found[token] - expected[token]) / count < 0.045, token  # four standard deviations


def test_slots_with_all_kinds_of_parameters_draw_side_by_side() -> None:
    sampling = SlotSampling(300, 40, torch.device("cpu"))
    for slot in range(300):
        sampling.set(slot, SamplingParams(temperature=9.0, top_p=1.0, top_k=2) if slot % 3 == 1 else GREEDY, ())
    assert sampling.is_plain([0, 3])
    assert not sampling.is_plain([0, 1])
    drawn = sampling.draw(LOGITS.expand(300, -1)).tolist()
    first, second = LOGITS.topk(2).indices.tolist()
    assert set(drawn[::3]) == set(drawn[2::3]) == {first}
    assert set(drawn[1::3]) == {first, second}


def test_what_a_slot_said_is_penalized_from_then_on() -> None:
    sampling = SlotSampling(2, 40, torch.device("cpu"))
    for slot in (0, 1):
        sampling.set(slot, SamplingParams(temperature=0.0, repetition_penalty=100.0), ())
    first, second = LOGITS.topk(2).indices.tolist()
    both = LOGITS.expand(2, -1)
    drawn = sampling.draw(both)
    assert drawn.tolist() == [first, first]
    sampling.note(drawn, torch.tensor([True, False]))
    assert sampling.draw(both).tolist() == [second, first]
