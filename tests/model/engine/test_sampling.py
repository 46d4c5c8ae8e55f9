"""Each step of sampling against a slow formula written out in plain Python."""

import math

import pytest
import torch

from model.engine.sampling import SamplingParams, keep_top_k, likeliest, make_generator, penalize, sample
from model.errors import ModelError

LOGITS = torch.randn(40, generator=torch.Generator().manual_seed(3)) * 3


def softmax(scores: list[float]) -> list[float]:
    top = max(scores)
    powers = [math.exp(score - top) for score in scores]
    return [power / sum(powers) for power in powers]


def counts(logits: torch.Tensor, params: SamplingParams, generated: tuple[int, ...] = (), n: int = 4000) -> list[float]:
    generator = torch.Generator().manual_seed(1)
    drawn = [sample(logits, params, generator, generated) for _ in range(n)]
    return [drawn.count(i) / n for i in range(logits.numel())]


def assert_close(found: list[float], expected: list[float]) -> None:
    for i, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert abs(one - other) < 0.03, i  # three standard deviations of 4,000 draws
        assert (other > 0) or one == 0


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_temperature_divides_the_logits(temperature: float) -> None:
    found = counts(LOGITS, SamplingParams(temperature=temperature, top_p=1.0))
    assert_close(found, softmax([x / temperature for x in LOGITS.tolist()]))


def test_temperature_zero_takes_the_likeliest_and_draws_nothing() -> None:
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    assert sample(LOGITS, SamplingParams(temperature=0.0), generator, ()) == LOGITS.argmax()
    assert torch.equal(generator.get_state(), before)


def test_a_tiny_temperature_is_greedy_and_not_nan() -> None:
    assert sample(LOGITS, SamplingParams(temperature=1e-40), torch.Generator(), ()) == LOGITS.argmax()


@pytest.mark.parametrize("k", [1, 3, 39, 40, 100])
def test_top_k_keeps_the_k_highest(k: int) -> None:
    kept = sorted(LOGITS.tolist(), reverse=True)[:k]
    expected = softmax([x if x in kept else -math.inf for x in LOGITS.tolist()])
    assert_close(counts(LOGITS, SamplingParams(temperature=1.0, top_p=1.0, top_k=k)), expected)
    if k < 40:
        assert int(keep_top_k(LOGITS, k).isfinite().sum()) == k


@pytest.mark.parametrize("p", [0.01, 0.5, 0.9, 0.999])
def test_top_p_keeps_the_fewest_that_reach_p(p: float) -> None:
    probabilities = softmax(LOGITS.tolist())
    kept: list[int] = []
    for i in sorted(range(40), key=lambda i: -probabilities[i]):
        if sum(probabilities[j] for j in kept) < p:
            kept.append(i)
    found, order = likeliest(LOGITS.softmax(-1), p)
    assert order.tolist() == kept
    assert found.tolist() == pytest.approx([probabilities[i] for i in kept])
    total = sum(probabilities[i] for i in kept)
    expected = [probabilities[i] / total if i in kept else 0.0 for i in range(40)]
    assert_close(counts(LOGITS, SamplingParams(temperature=1.0, top_p=p)), expected)


@pytest.mark.parametrize("penalty", [0.5, 1.3])
def test_penalty_changes_generated_ids_once_each(penalty: float) -> None:
    generated = (0, 1, 1, 7, 0)
    expected = LOGITS.tolist()
    for i in set(generated):
        expected[i] = expected[i] / penalty if expected[i] > 0 else expected[i] * penalty
    assert penalize(LOGITS, generated, penalty).tolist() == pytest.approx(expected)
    params = SamplingParams(temperature=1.0, top_p=1.0, repetition_penalty=penalty)
    assert_close(counts(LOGITS, params, generated), softmax(expected))


def test_masked_ids_are_never_drawn() -> None:
    logits = LOGITS.clone()
    logits[20:] = -math.inf
    found = counts(logits, SamplingParams(temperature=5.0, repetition_penalty=1.2), (20, 3))
    assert sum(found[20:]) == 0


def test_a_seed_gives_the_same_draws_and_leaves_the_global_generator_alone() -> None:
    params = SamplingParams(temperature=1.5, seed=11)
    before = torch.random.get_rng_state()
    draws = []
    for _ in range(2):
        generator = make_generator(params.seed)
        draws.append([sample(LOGITS, params, generator, ()) for _ in range(20)])
    assert draws[0] == draws[1]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert make_generator(None).initial_seed() != make_generator(None).initial_seed()


def test_nan_logits_are_an_error_and_not_a_token() -> None:
    logits = LOGITS.clone()
    logits[5] = math.nan
    for temperature in (0.0, 1.0):
        with pytest.raises(ModelError, match="NaN"):
            sample(logits, SamplingParams(temperature=temperature), torch.Generator(), ())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", "hot"),
        ("top_p", 0),
        ("top_p", 1.01),
        ("top_k", -1),
        ("top_k", 2.5),
        ("repetition_penalty", 0),
        ("max_new_tokens", 0),
        ("max_new_tokens", True),
        ("seed", -1),
    ],
)
def test_a_value_out_of_range_is_named(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} is {value!r}: expected"):
        SamplingParams(**{field: value})  # type: ignore[arg-type]


def test_top_p_of_a_flat_distribution_takes_more_than_the_first_few() -> None:
    flat = torch.full((1000,), 1e-3)
    found, order = likeliest(flat, 0.5)
    assert abs(len(found) - 500) <= 1
    assert len(set(order.tolist())) == len(found)


@pytest.mark.parametrize("min_p", [0.05, 0.5, 1.0])
def test_min_p_keeps_what_is_likely_enough_against_the_likeliest(min_p: float) -> None:
    probabilities = softmax(LOGITS.tolist())
    kept = [i for i in range(40) if probabilities[i] >= min_p * max(probabilities)]
    total = sum(probabilities[i] for i in kept)
    expected = [probabilities[i] / total if i in kept else 0.0 for i in range(40)]
    params = SamplingParams(temperature=1.0, top_p=1.0, min_p=min_p)
    assert_close(counts(LOGITS, params), expected)
