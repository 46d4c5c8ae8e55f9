"""The bootstrap keeps its promise: by simulation, a candidate that is no better is rarely called better."""

from collections.abc import Callable

import numpy as np
import pytest

from training.judging import bootstrap
from training.judging.bootstrap import bound, student

Draw = Callable[[np.random.Generator, int], np.ndarray]
NORMAL: Draw = lambda rng, n: rng.normal(size=n)  # noqa: E731
HEAVY: Draw = lambda rng, n: rng.standard_t(3, size=n)  # noqa: E731


def share_called_better(draw: Draw, people: int, shift: float, weigh: bool, runs: int = 300) -> float:
    rng = np.random.default_rng(people)
    called = 0
    for seed in range(runs):
        differences = draw(rng, people) + shift
        weights = rng.lognormal(size=people) if weigh else np.ones(people)
        found = bound(differences.tolist(), np.minimum(weights, np.median(weights)).tolist(), seed=seed)
        called += found.upper < 0
    return called / runs


@pytest.mark.parametrize("people", [5, 8, 30])
@pytest.mark.parametrize("weigh", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("draw", [NORMAL, HEAVY], ids=["normal", "heavy tails"])
def test_without_a_difference_one_in_twenty_is_called_better(
    monkeypatch: pytest.MonkeyPatch, draw: Draw, people: int, weigh: bool
) -> None:
    """The plain percentile interval is too narrow for five people and errs twice as often as it says."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 600)
    # 5 % and three standard errors of 300 runs; the plain percentiles of five people err at 10 %
    assert share_called_better(draw, people, 0.0, weigh) < 0.05 + 0.038


def test_a_real_difference_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interval that never speaks would pass the test above."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 1000)
    assert share_called_better(NORMAL, 30, -1.0, weigh=False, runs=100) > 0.98
    assert share_called_better(NORMAL, 6, -3.0, weigh=False, runs=100) > 0.9


@pytest.mark.parametrize("carriers", [1, 2])
def test_one_or_two_people_cannot_carry_a_difference(carriers: int) -> None:
    """A poisoner among the held-out people, with a huge gain, would decide a test over tokens or over turns."""
    differences = [-50.0] * carriers + [0.01] * (12 - carriers)
    found = bound(differences, [1.0] * 12)
    assert found.mean < -4
    assert found.upper > 0
    if carriers == 1:
        assert found.without_any == pytest.approx(0.01)


def test_a_tie_has_bounds_of_zero() -> None:
    found = bound([0.0] * 9, [1.0] * 9)
    assert (found.mean, found.lower, found.upper, found.without_any) == (0.0, 0.0, 0.0, 0.0)


def test_the_same_seed_gives_the_same_bounds() -> None:
    differences = np.random.default_rng(3).normal(size=20).tolist()
    assert bound(differences, [1.0] * 20, seed=4) == bound(differences, [1.0] * 20, seed=4)
    assert bound(differences, [1.0] * 20, seed=4) != bound(differences, [1.0] * 20, seed=5)


def test_bounds_equal_students_interval_for_normal_differences() -> None:
    """Over many people both are the same; the bootstrap needs no normal differences."""
    differences = np.random.default_rng(1).normal(0.3, 1.0, size=200)
    found = bound(differences.tolist(), [1.0] * 200)
    half = student(0.95, 199) * differences.std(ddof=1) / 200**0.5
    assert found.upper == pytest.approx(differences.mean() + half, abs=0.01)
    assert found.lower == pytest.approx(differences.mean() - half, abs=0.01)


@pytest.mark.parametrize(
    ("share", "freedom", "quantile"),
    [(0.95, 1, 6.3138), (0.95, 2, 2.9200), (0.95, 3, 2.3534), (0.95, 4, 2.1318), (0.95, 10, 1.8125), (0.99, 4, 3.7469)],
)
def test_students_quantiles_are_the_tables(share: float, freedom: int, quantile: float) -> None:
    assert student(share, freedom) == pytest.approx(quantile, rel=0.005)


@pytest.mark.parametrize(("differences", "weights"), [([0.1], [1.0]), ([0.1, 0.2], [1.0]), ([0.1, 0.2], [1.0, 0.0])])
def test_too_few_or_weightless_units_are_refused(differences: list[float], weights: list[float]) -> None:
    with pytest.raises(ValueError, match="expected two or more, all weights above 0"):
        bound(differences, weights)
