"""A memory budget for training: every way to spend it learns the same, and the fastest that fits is taken."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from tests.training.tuning.small import QUICK, snapshot
from training.errors import TuneError
from training.tuning import fitting
from training.tuning.dataset import Encoded
from training.tuning.fitting import WAYS, Candidate, Cost, choose, row_sizes
from training.tuning.learner import Learner, load_base
from training.tuning.presets import ALL_TARGETS, TuneOptions
from training.tuning.processes import Processes
from training.tuning.random_rows import full_row, random_unit
from training.tuning.trainer import measure_step, tune

UNITS = [random_unit(length, 1, 900) for length in (12, 30, 25, 40)]
CPU = range(1, len(WAYS))


def learner_of(tiny: Path, **changes: object) -> Learner:
    options = replace(QUICK, **changes)
    return Learner(load_base(tiny, torch.device("cpu")), options, Processes("cpu"), "float32")


def gradients(learner: Learner) -> tuple[float, dict[str, torch.Tensor]]:
    loss = learner.step(UNITS, 0, 10)
    return loss, {name: p.grad.clone() for name, p in learner.trained.items() if p.grad is not None}


@pytest.mark.parametrize("way", range(len(WAYS)), ids=[way[2] for way in WAYS])
@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), ALL_TARGETS], ids=["q and v", "all"])
def test_every_way_gives_the_same_loss_and_gradients(tiny: Path, way: int, targets: tuple[str, ...]) -> None:
    loss, plain = gradients(learner_of(tiny, targets=targets, checkpointing="none", row_tokens=160))
    options = replace(QUICK, targets=targets)
    for row_tokens in (160, 40):
        chosen = asdict(Candidate(way, row_tokens).of(options))
        other, found = gradients(learner_of(tiny, **chosen))
        assert other == pytest.approx(loss, rel=1e-5)
        assert found.keys() == plain.keys()
        for name, gradient in plain.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-6)


def test_what_is_computed_again_drops_the_same(tiny: Path) -> None:
    """Dropout drawn anew on the way back gives gradients of another network, and no error."""
    for way in CPU:
        chosen = {**asdict(Candidate(way, 160).of(QUICK)), "dropout": 0.5}
        loss, found = gradients(learner_of(tiny, **chosen))
        if way == CPU[0]:
            first, expected = loss, found
        assert loss == first
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-7)


def kept_bytes(learner: Learner, way: int) -> int:
    """What the graph of one way forward holds on to, the model's own tensors left out."""
    learner.use(Candidate(way, 160).of(learner.options))
    own = {t.untyped_storage().data_ptr() for t in (*learner.model.parameters(), *learner.model.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    block = learner.model.get_base_model().transformer.h[1]
    x = torch.randn(1, 120, 64, requires_grad=True)
    turn = (torch.randn(1, 120, 1, 4), torch.randn(1, 120, 1, 4))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = block(x, turn, None, None)
    assert out.requires_grad
    return sum(kept.values())


def test_the_ways_stand_in_the_order_of_what_they_keep(tiny: Path) -> None:
    """The search climbs in this order and stops at what does not fit: another order would miss what does."""
    learner = learner_of(tiny)
    kept = [kept_bytes(learner, way) for way in CPU]
    assert kept == sorted(kept), kept
    assert kept[0] < kept[-1] / 3


def test_a_rehearsal_leaves_nothing_behind(tiny: Path) -> None:
    learner, fresh = learner_of(tiny), learner_of(tiny)
    learner.rehearse(full_row(160, learner.options, learner.model.config))
    assert all(p.grad is None for p in learner.parameters)
    assert [learner.step(UNITS, i, 10) for i in range(2)] == [fresh.step(UNITS, i, 10) for i in range(2)]


def modelled(per_token: dict[int, float], base_mb: float = 1000.0) -> Callable[[Candidate], Cost]:
    """Memory that grows with the row, speed with the row and the way."""

    def measure(candidate: Candidate) -> Cost:
        peak = base_mb + per_token[candidate.way] * candidate.row_tokens
        return Cost(peak, 100 * (1 + 0.2 * candidate.way) * (1 - 8 / candidate.row_tokens))

    return measure


PER_TOKEN = {1: 0.5, 2: 1.0, 3: 2.0, 4: 4.0}
ROWS = [64, 128, 256, 512, 1024]


@pytest.mark.parametrize("budget_gb", [1.1, 1.2, 1.3, 1.6, 2.0, 3.0, 9.0])
def test_the_fastest_that_fits_is_found_with_few_measurements(budget_gb: float) -> None:
    measure = modelled(PER_TOKEN)
    all_of_them = {Candidate(way, row): measure(Candidate(way, row)) for way in CPU for row in ROWS}
    good = [cost.tokens_per_s for cost in all_of_them.values() if fitting.fits(cost, budget_gb)]
    chosen, cost, tried = choose(CPU, ROWS, budget_gb, measure)
    assert fitting.fits(cost, budget_gb)
    assert cost.tokens_per_s == max(good), chosen
    assert tried <= len(CPU) + len(ROWS) + 3


def test_no_candidate_is_tried_far_beyond_the_budget() -> None:
    """On a CPU nothing stops a process that takes too much but the system, which kills it."""
    peaks = []

    def measure(candidate: Candidate) -> Cost:
        peaks.append(modelled(PER_TOKEN)(candidate).peak_mb)
        return Cost(peaks[-1], 1.0)

    choose(CPU, ROWS, 1.3, measure)
    assert max(peaks) - 1000 <= 2 * 300


def test_what_does_not_fit_is_refused_with_what_would() -> None:
    with pytest.raises(TuneError) as caught:
        choose(CPU, ROWS, 0.5, modelled(PER_TOKEN))
    assert str(caught.value) == (
        "memory_gb is 0.5: nothing fits; the least, rows of 64 tokens, every layer computed again, takes 1.1 GB, or "
        "less with a shorter context"
    )
    choose(CPU, ROWS, 1.1, modelled(PER_TOKEN))
    with pytest.raises(TuneError, match="takes more than there is"):
        choose(CPU, ROWS, 0.5, lambda candidate: Cost(math.inf, 0.0))


def test_rows_are_halved_down_to_the_longest_example() -> None:
    assert row_sizes(2048, 300, 10_000) == [300, 512, 1024, 2048]
    assert row_sizes(2048, 300, 700) == [300, 350, 700]
    assert row_sizes(2048, 3000, 10_000) == [3000]
    assert row_sizes(2048, 10, 80) == [64, 80]
    assert row_sizes(32, 10, 1000) == [32]
    assert fitting.bounds([(Encoded([1] * n, [True] * n),) for n in (5, 9, 7)], replace(QUICK, batch_size=2)) == (9, 16)


def train(tiny: Path, folder: Path, **changes: object) -> tuple[object, list[str]]:
    said: list[str] = []
    options = replace(QUICK, **changes)
    return tune(tiny, snapshot(), options, folder, device="cpu", dtype="float32", say=said.append), said


def test_a_run_within_a_budget_learns_what_it_learns_without(tiny: Path, tmp_path: Path) -> None:
    free, silent = train(tiny, tmp_path / "free")
    kept, (said,) = train(tiny, tmp_path / "kept", memory_gb=100)
    assert silent == []
    assert said.startswith("within 100 GB: rows of ")
    assert kept.fitted == said
    for (_, loss), (_, other) in zip(free.losses, kept.losses, strict=True):
        assert other == pytest.approx(loss, rel=2e-3)


def test_a_budget_that_nothing_fits_ends_the_run_in_one_line(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(
        TuneError, match=r"^memory_gb is 0.01: nothing fits; the least, rows of \d+ tokens.* GB"
    ) as caught:
        train(tiny, tmp_path / "run", memory_gb=0.01)
    assert "\n" not in str(caught.value)


def test_a_resumed_run_keeps_what_was_chosen(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chosen anew, by other measurements, its rows would add up to other bits."""
    whole, _ = train(tiny, tmp_path / "whole", memory_gb=100, checkpoint_s=0.0)
    fitted = whole.fitted

    class Killed(Exception):
        pass

    def kill(progress: object) -> None:
        if progress.step == 5:
            raise Killed

    monkeypatch.setattr(fitting, "_measure", lambda learner, tokens: Cost(1.0, float(tokens == 40)))
    options = replace(QUICK, memory_gb=100, checkpoint_s=0.0)
    with pytest.raises(Killed):
        tune(tiny, snapshot(), options, tmp_path / "cut", device="cpu", dtype="float32", on_progress=kill)
    monkeypatch.setattr(fitting, "_measure", lambda learner, tokens: pytest.fail("measured again"))
    said: list[str] = []
    resumed = tune(tiny, snapshot(), options, tmp_path / "cut", device="cpu", dtype="float32", say=said.append)
    assert resumed.steps == whole.steps
    assert said == [resumed.fitted]
    assert fitted.startswith("within 100 GB")


def test_a_measured_step_says_what_was_chosen(tiny: Path) -> None:
    options = replace(QUICK, row_tokens=128, memory_gb=100)
    cost = measure_step(tiny, options, device="cpu", dtype="float32", longest=60)
    assert cost.fitted.startswith("within 100 GB: rows of ")
    assert cost.peak_mb > 0
    assert measure_step(tiny, replace(options, memory_gb=0.0), device="cpu", dtype="float32").fitted == ""


def test_bad_numbers_are_named() -> None:
    with pytest.raises(TuneError, match="memory_gb is -1: expected 0 to 100000"):
        TuneOptions(memory_gb=-1)
    with pytest.raises(TuneError, match="checkpointing is 'some': expected one of none, mlp, attention, layers"):
        TuneOptions(checkpointing="some")  # type: ignore[arg-type]
