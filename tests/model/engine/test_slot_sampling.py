"""Drawing for all slots at once against the sampler of one row."""

from collections import Counter

import pytest
import torch
from torch import Tensor

from model.engine import sampling as one_row
from model.engine.params import SamplingParams
from model.engine.sampling import make_generator, penalize, sample
from model.engine.slot_sampling import SlotSampling

GREEDY = SamplingParams(temperature=0.0)
LOGITS = torch.randn(40, generator=torch.Generator().manual_seed(3)) * 3
SAID = LOGITS.topk(3).indices.tolist()


def drawn(sampling: SlotSampling, logits: Tensor) -> list[int]:
    return sampling.draw(sampling.penalize(logits)).tolist()


def shares_of_one_row(params: SamplingParams, monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """What `sample` would draw each id by: torch.multinomial is asked for every place in turn."""
    found: dict[int, float] = {}
    place = size = 0

    def multinomial(shares: Tensor, num_samples: int, *, generator: torch.Generator) -> Tensor:
        nonlocal size
        assert num_samples == 1
        size = len(shares)
        asked.append(float(shares[place] / shares.sum()))
        return torch.tensor([place])

    with monkeypatch.context() as patch:
        patch.setattr(one_row.torch, "multinomial", multinomial)
        while place <= size - 1 or not place:
            asked: list[float] = []
            token = sample(LOGITS, params, make_generator(0), SAID)
            found[token] = asked[0]
            place += 1
    return found


FILTERS = [
    SamplingParams(temperature=1.0, top_p=1.0),
    SamplingParams(temperature=2.5, top_p=0.5),
    SamplingParams(temperature=1.0, top_p=1.0, top_k=3),
    SamplingParams(temperature=2.0, top_p=0.9, min_p=0.1, top_k=100),
    SamplingParams(temperature=1.5, top_p=0.95, repetition_penalty=1.8),
    SamplingParams(temperature=30.0, top_p=0.3, top_k=7, min_p=0.02, repetition_penalty=0.5),
]


@pytest.mark.parametrize("params", FILTERS, ids=str)
def test_what_each_id_is_drawn_by_is_the_sampler_of_one_rows(
    params: SamplingParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows but one have other parameters: none of them may reach into it."""
    expected = {token: share for token, share in shares_of_one_row(params, monkeypatch).items() if share}
    sampling = SlotSampling(8, 40, torch.device("cpu"))
    for slot in range(8):
        sampling.set(slot, params if slot == 3 else SamplingParams(temperature=9.0, top_k=slot + 1), SAID[:slot])
    sampling.set(3, params, SAID)
    shares, order = sampling.shares(sampling.penalize(LOGITS.expand(5, -1)))
    found = {int(token): float(share / shares[3].sum()) for token, share in zip(order[3], shares[3], strict=True)}
    assert {token: share for token, share in found.items() if share} == pytest.approx(expected, rel=1e-5)


def test_top_p_of_one_cuts_nothing() -> None:
    """The shares of many alike ids add up, rounded, to 1 before the last of them."""
    sampling = SlotSampling(1, 50000, torch.device("cpu"))
    sampling.set(0, SamplingParams(temperature=1.0, top_p=1.0), ())
    shares, _ = sampling.shares(torch.randn(1, 50000, generator=torch.Generator().manual_seed(1)))
    assert bool((shares > 0).all())


def test_draws_follow_the_shares() -> None:
    """4,000 slots draw at once; the share of each token is that of as many draws one by one."""
    params, count = SamplingParams(temperature=2.5, top_p=0.8), 4000
    sampling = SlotSampling(count, 40, torch.device("cpu"))
    for slot in range(count):
        sampling.set(slot, params, SAID)
    torch.manual_seed(0)
    found = Counter(drawn(sampling, LOGITS.expand(count, -1)))
    generator = make_generator(1)
    expected = Counter(sample(LOGITS, params, generator, SAID) for _ in range(count))
    assert set(found) == set(expected)
    for token in range(40):
        assert abs(found[token] - expected[token]) / count < 0.045, token  # four standard deviations


@pytest.mark.parametrize(
    "params", [GREEDY, SamplingParams(temperature=0.0, repetition_penalty=5.0), SamplingParams(temperature=1e-40)]
)
def test_without_temperature_it_is_the_likeliest(params: SamplingParams) -> None:
    sampling = SlotSampling(2, 40, torch.device("cpu"))
    for slot in (0, 1):
        sampling.set(slot, params, SAID)
    assert drawn(sampling, LOGITS.expand(2, -1)) == [sample(LOGITS, params, make_generator(0), SAID)] * 2


def test_the_likeliest_of_ids_alike_is_the_first_in_a_step_that_draws_too() -> None:
    """Sixteen-bit logits tie often: a greedy reply must not depend on who else is in the step."""
    logits = (LOGITS.repeat(100) / 3).round().expand(2, -1)
    sampling = SlotSampling(2, logits.shape[1], torch.device("cpu"))
    sampling.set(1, SamplingParams(temperature=1.0), ())
    assert drawn(sampling, logits)[0] == int(logits[0].argmax())


def test_slots_with_all_kinds_of_parameters_draw_side_by_side() -> None:
    sampling = SlotSampling(300, 40, torch.device("cpu"))
    for slot in range(300):
        sampling.set(slot, SamplingParams(temperature=9.0, top_p=1.0, top_k=2) if slot % 3 == 1 else GREEDY, ())
    assert sampling.is_plain([0, 3])
    assert not sampling.is_plain([0, 1])
    found = drawn(sampling, LOGITS.expand(300, -1))
    first, second = LOGITS.topk(2).indices.tolist()
    assert set(found[::3]) == set(found[2::3]) == {first}
    assert set(found[1::3]) == {first, second}


def test_what_a_slot_said_is_penalized_from_then_on() -> None:
    sampling = SlotSampling(3, 40, torch.device("cpu"))
    params = SamplingParams(temperature=0.0, repetition_penalty=100.0)
    for slot in range(3):
        sampling.set(slot, params, ())
    both, first = LOGITS.expand(2, -1), int(LOGITS.argmax())
    second = int(penalize(LOGITS, [first], 100.0).argmax())
    found = drawn(sampling, both)
    assert found == [first, first]
    sampling.note(torch.tensor(found), torch.tensor([True, False]))
    assert drawn(sampling, both) == [second, first]
    assert not bool(sampling.said[2].any())
