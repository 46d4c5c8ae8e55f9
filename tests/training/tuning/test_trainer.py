"""Whole training runs on the tiny model: what is learnt, what ends a run, what its adapter's folder is good for."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import GPTJForCausalLM

from model.conversation import Message
from model.export import export
from model.gptj import GPTJ8bitForCausalLM
from model.lora import ADAPTER_CONFIG, ADAPTER_WEIGHTS, load_adapter
from model.tokenizer import Tokenizer
from tests.training.tuning.small import QUICK, save_model, snapshot
from training.curation import Snapshot
from training.errors import TuneError
from training.tuning.learner import learning_rate
from training.tuning.presets import ALL_TARGETS, PRESETS, TuneOptions, preset
from training.tuning.results import TuneProgress, TuneResult
from training.tuning.trainer import forecast, measure_step, tune

Train = Callable[..., TuneResult]


@pytest.fixture
def train(tiny: Path, tmp_path: Path) -> Train:
    def run(data: Snapshot | None = None, model: Path = tiny, name: str = "run", **changes: object) -> TuneResult:
        outer = {key: changes.pop(key) for key in ("parent", "on_progress", "may_run", "dtype") if key in changes}
        options = replace(QUICK, **changes)
        outer = {"dtype": "float32", **outer}
        return tune(model, data or snapshot(), options, tmp_path / name, device="cpu", **outer)

    return run


WILD = {"learning_rate": 0.05, "epochs": 4, "evaluations": 6}  # steps so large that the held-out loss soon gets worse


def unlike() -> Snapshot:
    """Held-out replies that are not in the style of the training's."""
    data = snapshot()
    reply = Message("assistant", "No lo sé, dígame usted.")
    return replace(data, held_out=tuple(replace(e, messages=(e.messages[0], reply)) for e in data.held_out))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_learns_and_keeps_the_best(train: Train, dtype: str) -> None:
    result = train(dtype=dtype, epochs=5, targets=ALL_TARGETS)
    held_out = dict(result.held_out_losses)
    assert held_out[result.best_step] == min(held_out.values()) < held_out[0] - 0.5
    assert result.losses[-1][1] < result.losses[0][1] - 0.5
    assert (result.steps, result.stopped) == (15, "finished")
    assert result.tokens > 0
    assert result.peak_mb > 0


@pytest.mark.parametrize("changes", [{"schedule": "cosine"}, {"dropout": 0.1, "neftune": 5.0}, {"method": "dpo"}])
def test_every_kind_of_run_learns(train: Train, changes: dict) -> None:
    result = train(epochs=4, **changes)
    assert min(loss for _, loss in result.held_out_losses) < result.held_out_losses[0][1] - 0.02


def test_dpo_without_a_better_reply_anywhere_is_refused(train: Train) -> None:
    with pytest.raises(TuneError, match="no pair of a better and a worse reply"):
        train(replace(snapshot(), preferences=()), method="dpo")


def test_the_adapter_serves_here_and_on_stock_peft_in_16_bits(train: Train, tiny: Path, tmp_path: Path) -> None:
    """A file that only this project reads, or that means something else to another, would be a trap for its owner."""
    result = train(epochs=5, targets=ALL_TARGETS)
    ids = torch.arange(10, 50)[None]
    base = GPTJ8bitForCausalLM.from_pretrained(tiny)
    stock = GPTJForCausalLM.from_pretrained(export(tiny, tmp_path / "stock", "float16"), dtype=torch.float16)
    with torch.no_grad():
        bare = base(ids).logits
        ours = load_adapter(base, result.adapter)(ids).logits
        theirs = PeftModel.from_pretrained(stock, result.adapter)(ids).logits.float()
    assert (ours - theirs).abs().max() < 0.02  # the rounding of 16 bits
    assert (ours - bare).abs().max() > 0.5
    assert sorted(path.name for path in result.adapter.iterdir()) == [ADAPTER_CONFIG, ADAPTER_WEIGHTS]
    assert json.loads((result.adapter / ADAPTER_CONFIG).read_text())["base_model_name_or_path"] is None


def test_the_loss_in_the_result_is_the_one_of_the_adapter_that_was_written(train: Train, tiny: Path) -> None:
    """The best adapter is written, not the last."""
    result = train(unlike(), patience=0, **WILD)
    assert result.best_step < result.steps
    again = train(unlike(), name="again", parent=result.adapter, **WILD)
    assert again.held_out_losses[0][1] == pytest.approx(dict(result.held_out_losses)[result.best_step])


def test_a_run_goes_on_from_a_parent_of_its_own_kind_only(train: Train) -> None:
    first = train(epochs=1)
    with pytest.raises(TuneError, match="has r 4, the options say 8"):
        train(name="other", parent=first.adapter, rank=8)
    with pytest.raises(TuneError, match=r"lacks adapter_config.json"):
        train(name="none", parent=first.adapter.parent)


def test_without_a_better_held_out_loss_the_run_stops(train: Train) -> None:
    result = train(unlike(), patience=2, **WILD)
    assert result.stopped == "no-improvement"
    assert result.best_step == 2
    assert result.steps == 6  # an evaluation every second step


def test_the_plan_is_cut_to_the_time_budget(train: Train) -> None:
    """Cut off at its full learning rate, a run is worse than one of fewer steps whose rate has come down."""
    shown: list[TuneProgress] = []
    result = train(epochs=1000, time_budget_s=2.0, on_progress=shown.append, evaluations=2)
    assert result.stopped == "time-budget"
    assert result.steps <= shown[-1].total_steps < 3000


def test_without_held_out_data_the_last_step_is_kept(train: Train) -> None:
    result = train(replace(snapshot(), held_out=()))
    assert result.held_out_losses == []
    assert result.best_step == result.steps == 9


def test_an_empty_snapshot_is_refused_with_the_reasons(train: Train) -> None:
    with pytest.raises(TuneError, match=r"no example to train on.*the snapshot has none.*collect"):
        train(replace(snapshot(), train=()))
    unlearnt = tuple(replace(e, trained=(False,) * len(e.messages)) for e in snapshot().train)
    with pytest.raises(TuneError, match="12 examples with nothing to learn"):
        train(replace(snapshot(), train=unlearnt))


@pytest.fixture
def poisoned(spm_folder: Path, tmp_path: Path) -> Path:
    """A model with a token whose embedding is as large as a float can be: a text with it has no finite loss."""
    token = Tokenizer.from_pretrained(spm_folder).encode(POISON)[-1]

    def poison(model: GPTJ8bitForCausalLM) -> None:
        embedding = model.transformer.wte
        embedding.absmax[token * embedding.embedding_dim // embedding.block_size] = torch.finfo(torch.float32).max

    return save_model(tmp_path / "poisoned", spm_folder, poison)


POISON = "{"


def with_poison() -> Snapshot:
    """One more example in the training data, with the token that is poisoned."""
    data = snapshot("poisoned")
    first = data.train[0]
    asked = replace(first.messages[0], content=POISON * 3)
    return replace(data, train=(*data.train, replace(first, messages=(asked, *first.messages[1:]))))


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good(train: Train, poisoned: Path) -> None:
    """One step with NaN makes every weight NaN; nothing of it may reach the adapter or a checkpoint."""
    one_by_one = {"epochs": 1, "batch_size": 1, "checkpoint_s": 0.0}
    result = train(with_poison(), poisoned, **one_by_one)
    assert result.stopped == "not-finite"
    assert 0 < result.steps < 13
    assert all(math.isfinite(loss) for _, loss in [*result.losses, *result.held_out_losses])
    tuned = load_adapter(GPTJ8bitForCausalLM.from_pretrained(poisoned), result.adapter)
    assert all(p.isfinite().all() for name, p in tuned.named_parameters() if "lora" in name)
    assert train(with_poison(), poisoned, **one_by_one) == result


def test_a_loss_that_is_never_a_number_is_an_error(train: Train, poisoned: Path) -> None:
    data = with_poison()
    with pytest.raises(TuneError, match="loss of the first step is not finite"):
        train(replace(data, train=data.train[-1:]), poisoned)
    with pytest.raises(TuneError, match="held-out loss is not finite before the first step"):
        train(replace(data, held_out=data.train[-1:]), poisoned, name="other")


def test_progress_tells_loss_speed_end_and_memory(train: Train) -> None:
    shown: list[TuneProgress] = []
    train(on_progress=shown.append)
    steps = [progress for progress in shown if progress.phase == "training"]
    assert [progress.step for progress in steps] == list(range(1, 10))
    for progress in steps:
        assert progress.loss is not None
        assert progress.eta_s is not None
        assert progress.tokens_per_s > 0
        assert progress.memory_mb > 0
    assert steps[-1].eta_s == 0
    assert shown[0].phase == "loading"
    assert "evaluating" in {progress.phase for progress in shown}


def test_a_run_waits_while_it_may_not_run_and_waiting_is_not_training_time(train: Train) -> None:
    """The trainer and a reply share the machine: between two steps the trainer gives way."""
    answers = iter([True, False, False])
    shown: list[TuneProgress] = []
    result = train(may_run=lambda: next(answers, True), on_progress=shown.append)
    phases = [progress.phase for progress in shown]
    first = phases.index("waiting")
    assert phases[first : first + 2] == ["waiting", "waiting"]
    assert shown[first].step == 1
    assert result.losses == train(name="unhindered").losses


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rank": 0}, "rank is 0: expected 1 to 512"),
        ({"targets": ("lm_head",)}, "targets are lm_head: expected some of q_proj"),
        ({"targets": ()}, "targets are none"),
        ({"schedule": "step"}, "schedule is 'step': expected one of linear, cosine, constant"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
    ],
)
def test_bad_numbers_are_named(changes: dict, words: str) -> None:
    with pytest.raises(TuneError, match=words):
        replace(QUICK, **changes)


def test_bad_surroundings_are_named(train: Train, tmp_path: Path) -> None:
    with pytest.raises(TuneError, match="dtype is 'int8': expected float32 or bfloat16"):
        train(dtype="int8")
    with pytest.raises(TuneError, match="context is 4096: the model reads at most 128"):
        train(context=4096)
    with pytest.raises(TuneError, match="preset is 'big': expected one of lora-gpt3, lora-gpt2, notebook"):
        preset("big")


def test_the_presets_are_the_literatures(train: Train) -> None:
    """Hu et al. 2021, tables 11 and 12, and the notebook of the published 8-bit model."""
    gpt3, gpt2, notebook = (PRESETS[name] for name in ("lora-gpt3", "lora-gpt2", "notebook"))
    assert (gpt3.rank, gpt3.targets, gpt3.learning_rate) == (8, ("q_proj", "v_proj"), 2e-4)
    assert (gpt3.weight_decay, gpt3.epochs, gpt3.schedule) == (0.1, 2, "linear")
    assert (gpt2.rank, gpt2.alpha, gpt2.dropout, gpt2.learning_rate, gpt2.warmup_steps) == (4, 32, 0.1, 2e-4, 500)
    assert (gpt2.weight_decay, gpt2.batch_size, gpt2.epochs) == (0.01, 8, 5)
    assert (notebook.rank, notebook.alpha, notebook.targets, notebook.learning_rate) == (16, 16, ALL_TARGETS, 1e-5)


def test_the_learning_rate_rises_and_falls_to_nothing() -> None:
    for schedule, middle in (("linear", 0.5), ("cosine", 0.5), ("constant", 1.0)):
        options = TuneOptions(learning_rate=1.0, warmup_steps=100, schedule=schedule)
        rates = [learning_rate(step, 1000, options) for step in range(1000)]
        assert rates[:100] == sorted(rates[:100])
        assert rates[100] == max(rates) == 1.0
        assert rates[550] == pytest.approx(middle)
        assert schedule == "constant" or rates[-1] < 0.01
    assert learning_rate(1, 20, TuneOptions(warmup_steps=500)) < learning_rate(2, 20, TuneOptions(warmup_steps=500))


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_a_measured_step_gives_a_forecast(tiny: Path, method: str) -> None:
    options = replace(QUICK, method=method, row_tokens=200)
    cost = measure_step(tiny, options, device="cpu", dtype="float32")
    assert 190 <= cost.tokens <= 200
    assert cost.seconds > 0
    assert cost.peak_mb > 0
    assert forecast(cost.tokens * 10, cost, options) == pytest.approx(30 * cost.seconds)
