"""A training run from a frozen snapshot to an adapter's folder: data, base, loop, files.

Always: called again with the same arguments it goes on from the last checkpoint. An own loop (`run.Run`) and not
transformers' Trainer: that one's checkpoints are not atomic and it goes on in silence without a part of one, it counts
its batches in rows instead of examples, and it knows neither DPO nor idle time.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save

from model.atomic_folder import sha256, writing
from model.errors import CheckpointError, ModelError
from model.lora import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from model.prompt_formats import get_format
from model.tokenizer import Tokenizer
from training.errors import TuneError
from training.gpu_memory import at_most
from training.registry import base_hash
from training.tuning.dataset import Dataset, context_of, encode_examples, encode_preferences
from training.tuning.fitting import FITTED, bounds, fit
from training.tuning.learner import Learner, load_base
from training.tuning.measuring import forecast, measure_step
from training.tuning.presets import TuneOptions
from training.tuning.processes import Processes
from training.tuning.results import TuneProgress, TuneResult
from training.tuning.resume import Checkpoints, State
from training.tuning.run import MayRun, OnProgress, Run

if TYPE_CHECKING:
    from training.curation.snapshot import Snapshot

__all__ = ["forecast", "measure_step", "tune"]


def tune(
    model_folder: Path,
    snapshot: Snapshot,
    options: TuneOptions,
    folder: Path,
    *,
    parent: Path | None = None,
    device: str = "auto",
    dtype: str = "bfloat16",
    prompt_format: str | None = None,
    on_progress: OnProgress | None = None,
    may_run: MayRun | None = None,
    say: Callable[[str], None] | None = None,
) -> TuneResult:
    """Train an adapter on `snapshot` in `folder` (checkpoints/, adapter/); called again it goes on where it was.

    parent: the folder of an adapter to begin with. dtype: of the products, "float32" or "bfloat16". prompt_format: None
    takes the model's own. may_run is asked between steps, False waits; `say` is told what was chosen for a memory
    budget. Under `accelerate launch` every process calls this; only the main one writes, reports and asks may_run.
    Raises TuneError.
    """
    try:
        processes = Processes(device)
        identity = _identity(model_folder, snapshot, options, parent, dtype, prompt_format, processes)
        checkpoints = Checkpoints(folder / "checkpoints", identity)
        newest = processes.object_from_main(checkpoints.newest() if processes.is_main else None)
        there = processes.object_from_main(_has_adapter(folder / "adapter"))
        if newest is not None and newest.state.stopped and there:
            return _result(folder, newest.state)
        report = on_progress if on_progress is not None and processes.is_main else _silent
        report(TuneProgress("loading"))
        base = load_base(model_folder, processes.device)
        train, held_out = _datasets(snapshot, options, base.config, model_folder, prompt_format)
        learner = Learner(base, options, processes, dtype, parent)
        run = Run(learner, options, processes, checkpoints, train, held_out, report, may_run or _always)
        if options.memory_gb:
            state = run.state if newest is None else newest.state
            _keep_within(learner, state, train)
            if say is not None and processes.is_main:
                say(state.fitted["said"])
        run.begin(newest)
        run.go()
        if processes.is_main:
            _write_adapter(folder / "adapter", learner, run.best)
        processes.sum(0.0)  # all wait until it is there
        return _result(folder, run.state)
    except ModelError as error:
        raise TuneError(str(error)) from None


def _keep_within(learner: Learner, state: State, train: Dataset) -> None:
    """Choose how the memory budget is spent, or take what the run chose when it began: other rows give other bits."""
    if not state.fitted:
        found = fit(learner, *bounds(train.units, learner.options))
        state.fitted = {"said": found.said, **{name: getattr(found.options, name) for name in FITTED}}
        return
    learner.use(replace(learner.options, **{name: state.fitted[name] for name in FITTED}))
    at_most(str(learner.processes.device), learner.options.memory_gb)


def _datasets(
    snapshot: Snapshot, options: TuneOptions, config: Any, model_folder: Path, prompt_format: str | None
) -> tuple[Dataset, Dataset]:
    tokenizer = Tokenizer.from_pretrained(model_folder)
    try:
        fmt = get_format(prompt_format or config.prompt_format)
    except ValueError as error:
        raise TuneError(str(error)) from None
    context = context_of(options, config)
    if options.method == "sft":
        train = encode_examples(snapshot.train, fmt, tokenizer, context)
        held_out = encode_examples(snapshot.held_out, fmt, tokenizer, context)
    else:
        users = {example.user for example in snapshot.held_out}
        pairs = ([p for p in snapshot.preferences if (p.user in users) == held] for held in (False, True))
        train, held_out = (encode_preferences(part, fmt, tokenizer, context) for part in pairs)
    if not train.units:
        wanted = "example" if options.method == "sft" else "pair of a better and a worse reply"
        reasons = "; ".join(f"{count} {what}" for what, count in train.dropped.items()) or "the snapshot has none"
        raise TuneError(f"there is no {wanted} to train on ({reasons}); collect more dialogues")
    return train, held_out


def _identity(
    model_folder: Path,
    snapshot: Snapshot,
    options: TuneOptions,
    parent: Path | None,
    dtype: str,
    prompt_format: str | None,
    processes: Processes,
) -> dict[str, Any]:
    """All that a run's result depends on, by names that an error can show."""
    numbers = asdict(options)
    del numbers["checkpoint_s"]
    return {
        "base": base_hash(model_folder),
        "data": snapshot.data_hash,
        "people who show when to stop": sorted({example.user for example in snapshot.held_out}),
        "parent": None if parent is None else _adapter_hash(parent),
        "device": processes.device.type,
        "dtype": dtype,
        "prompt format": prompt_format,
        "number of processes": processes.count,
        **{f"option {name}": value for name, value in numbers.items()},
    }


def _adapter_hash(folder: Path) -> str:
    if not _has_adapter(folder):
        raise TuneError(f"the adapter to begin with: {folder} lacks {ADAPTER_CONFIG} or {ADAPTER_WEIGHTS}")
    return sha256(folder / ADAPTER_WEIGHTS)


def _has_adapter(folder: Path) -> bool:
    return all((folder / name).is_file() for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS))


def _write_adapter(folder: Path, learner: Learner, best: dict[str, Any]) -> None:
    """The adapter's folder in PEFT's format, whole or not at all."""
    weights = save(learner.peft_tensors(best), metadata={"format": "pt"})
    config = (json.dumps(learner.peft_config(), indent=2, sort_keys=True) + "\n").encode()

    def own(there: Path) -> None:
        if {path.name for path in there.iterdir()} - {ADAPTER_CONFIG, ADAPTER_WEIGHTS}:
            raise CheckpointError(f"{there} holds more than an adapter; move it elsewhere")

    with writing(folder, len(weights) + len(config), own) as partial:
        (partial / ADAPTER_WEIGHTS).write_bytes(weights)
        (partial / ADAPTER_CONFIG).write_bytes(config)


def _result(folder: Path, state: State) -> TuneResult:
    return TuneResult(
        adapter=folder / "adapter",
        steps=state.step,
        epochs=state.step / state.epoch_steps,
        losses=state.losses,
        held_out_losses=state.held_out_losses,
        best_step=state.best_step,
        seconds=state.seconds,
        tokens=state.tokens,
        tokens_per_s=state.tokens / state.seconds if state.seconds else 0.0,
        peak_mb=state.peak_mb,
        stopped=state.stopped,
        dropped=state.dropped,
        fitted=state.fitted.get("said", ""),
    )


def _silent(progress: TuneProgress) -> None:
    pass


def _always() -> bool:
    return True
