"""Decoding in slots against the naive oracle, as it runs without a GPU: the step itself, not its capture."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor

from model import GPTJ8bitForCausalLM
from model.engine import graph
from model.engine.cache import KeyValues
from model.engine.capture import Kind
from model.engine.graph import SlotDecode, doubled
from model.engine.params import SamplingParams
from model.engine.runner import Runner, Segment
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
    """Some cross the bound of the places that are looked at, one joins late, one pauses while the others go on.

    What earlier conversations left in the slots does not come through the mask, be it NaN.
    """
    monkeypatch.setattr(graph, "SPAN", 16)
    runner = Runner(model)
    slots = Slots(runner.layout, 5)
    slots.pool.fill_(torch.nan)
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
    drawing, _ = begin(decode, slots, random_ids(5, seed=4), SamplingParams(temperature=1.0))

    def held() -> list[Tensor]:
        own = [tensor[kept] for tensor in (decode.tokens, decode.places, decode.sampling.said)]
        return [each.clone() for each in (slots.pool[:, :, kept, :, : slots.nowhere], *own)]

    before = held()
    for step in range(40):
        decode.run([busy, drawing] if step % 2 else [busy])
    assert [torch.equal(now, then) for now, then in zip(held(), before, strict=True)] == [True] * 4
    assert int(decode.places[busy]) == 45


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
    with pytest.raises(AssertionError, match="a slot is full: it holds 640 of 640 places"):
        decode.run([slot])


def test_logits_that_are_not_finite_are_told_of_their_slot_alone(model: GPTJ8bitForCausalLM) -> None:
    """The penalty can take finite logits beyond what float32 holds."""
    runner = Runner(model)
    slots = Slots(runner.layout, 3)
    decode = SlotDecode(runner, slots)
    begin(decode, slots, random_ids(6, seed=1))
    begin(decode, slots, random_ids(6, seed=2))
    slots.pool[0, 1, 1, :, 3] = torch.nan
    told = decode.run([0, 1]).tolist()
    assert told[0] >= 0
    assert told[1] == -1
    begin(decode, slots, random_ids(6, seed=3), SamplingParams(temperature=0.0, repetition_penalty=1e-45))
    decode.sampling.said[2] = True
    told = decode.run([0, 2]).tolist()
    assert told[0] >= 0
    assert told[2] == -1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_sixteen_bits_give_the_runners_logits(
    model: GPTJ8bitForCausalLM, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within what one rounding of a number changes, in all."""
    runner = Runner(deepcopy(model).to(dtype))
    slots = Slots(runner.layout, 1)
    decode, prompt = SlotDecode(runner, slots), random_ids(40)
    slot, token = begin(decode, slots, prompt)
    found, logits = [], runner.logits
    with monkeypatch.context() as patch:
        patch.setattr(runner, "logits", lambda *given: found.append(logits(*given)) or found[-1])
        said = [token, *(decode.run([slot]).tolist()[slot] for _ in range(20))]
    assert said[1:] == [int(row.argmax()) for row in found]
    kv = KeyValues(runner.layout, None)
    runner.forward([Segment(kv, prompt)])
    expected = torch.cat([runner.forward([Segment(kv, [each])]) for each in said[:-1]]).float()
    error = (torch.cat(found).float() - expected).norm() / expected.norm()
    assert error < torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_products_of_queries_and_keys_are_not_rounded_to_sixteen_bits(dtype: torch.dtype) -> None:
    """GPT-J's are large: in float16 some were infinite, and bfloat16 keeps three digits of them."""
    torch.manual_seed(2)
    query, keys = (60 * torch.randn(2, 3, n, 256).to(dtype) for n in (1, 50))
    found = graph.scores(query, keys)
    assert found.dtype == torch.float32
    assert float(found.abs().max()) > 65504
    torch.testing.assert_close(found.double(), query.double() @ keys.double().transpose(-1, -2), rtol=1e-5, atol=0.1)


def test_what_is_computed_is_doubled_with_the_slots_and_places_in_use(
    model: GPTJ8bitForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind is a graph of its own: they are to be few."""
    monkeypatch.setattr(graph, "SPAN", 16)
    runner = Runner(model)
    slots = Slots(runner.layout, 3)
    decode, kinds = SlotDecode(runner, slots), []
    step = decode.step
    monkeypatch.setattr(decode, "step", lambda kind: (kinds.append(kind), step(kind)))
    first, _ = begin(decode, slots, random_ids(14))
    for _ in range(20):
        decode.run([first])
    assert kinds == [Kind(1, 16, False, None)] * 2 + [Kind(1, 32, False, None)] * 16 + [Kind(1, 64, False, None)] * 2
    for seed in (1, 2):
        begin(decode, slots, random_ids(3, seed=seed), SamplingParams(temperature=1.0))
    decode.run([1])
    decode.run([0, 2])
    assert kinds[-2:] == [Kind(2, 16, True, None), Kind(3, 64, True, None)]
    assert [doubled(number, 256, 640) for number in (1, 256, 257, 600)] == [256, 256, 512, 640]


def test_what_is_made_in_inference_mode_serves_outside_it(model: GPTJ8bitForCausalLM) -> None:
    with torch.inference_mode():
        runner = Runner(model)
        slots = Slots(runner.layout, 1)
        decode = SlotDecode(runner, slots)
    prompt = random_ids(5)
    slot, token = begin(decode, slots, prompt, SamplingParams(temperature=0.0, repetition_penalty=1.0001))
    said = [token, *(decode.run([slot]).tolist()[slot] for _ in range(5))]
    assert prompt + said == generate_naive(model, prompt, 6)


def test_what_a_slot_cannot_do_is_refused(model: GPTJ8bitForCausalLM) -> None:
    runner = Runner(model)
    decode = SlotDecode(runner, Slots(runner.layout, 1))
    with pytest.raises(ValueError, match="no seed"):
        decode.join(0, 3, 7, SamplingParams(seed=1), [7])
    with pytest.raises(ValueError, match="place is 640: expected 0 to 639"):
        decode.join(0, 640, 7, GREEDY, [7])
