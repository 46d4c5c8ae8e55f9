"""The model, its adapter and the optimizer: one step, one evaluation, and their whole state as named tensors.

Always: the base stays frozen and 8-bit; LayerNorms, biases and the stream between blocks are float32, products are in
the run's dtype (autocast); the adapter and its gradients are float32. Chance (dropout, NEFTune) is seeded for each row
of each step, so there is no state of a random generator to keep.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.optim import AdamW8bit
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor

from model.errors import CheckpointError
from model.gptj import GPTJ8bitForCausalLM, GPTJ8bitPreTrainedModel
from model.lora import ADAPTER_WEIGHTS, NORMS, attach, checked_config
from training.errors import TuneError
from training.tuning.checkpointing import keep_less
from training.tuning.dataset import Encoded, Row, pack
from training.tuning.losses import loss_sum, num_items
from training.tuning.presets import TuneOptions
from training.tuning.processes import Processes

Units = Sequence[tuple[Encoded, ...]]
DTYPES = {"float32": None, "bfloat16": torch.bfloat16}


def learning_rate(step: int, total_steps: int, options: TuneOptions) -> float:
    """Of step `step`, counted from 0: up over the warm-up, then down to 0 at the end of the plan."""
    warmup = min(options.warmup_steps, total_steps // 10)
    if step < warmup:
        return options.learning_rate * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, total_steps - warmup)
    if options.schedule == "linear":
        return options.learning_rate * (1 - done)
    if options.schedule == "cosine":
        return options.learning_rate * (1 + math.cos(math.pi * done)) / 2
    return options.learning_rate


def load_base(folder: Path, device: torch.device) -> GPTJ8bitForCausalLM:
    """The frozen base for training. Raises CheckpointError."""
    return GPTJ8bitForCausalLM.from_pretrained(folder, dtype="float32", device_map=str(device))


class Learner:
    """Trains a fresh adapter on `base`, or the one in the folder `parent` on."""

    def __init__(
        self,
        base: GPTJ8bitPreTrainedModel,
        options: TuneOptions,
        processes: Processes,
        dtype: str = "bfloat16",
        parent: Path | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise TuneError(f"dtype is {dtype!r}: expected {' or '.join(DTYPES)}")
        self.options, self.processes, self.dtype = options, processes, DTYPES[dtype]
        if self.dtype is not None and processes.device.type == "cuda" and not torch.cuda.is_bf16_supported(False):
            raise TuneError("dtype is 'bfloat16': this GPU has no such arithmetic; give float32")
        torch.manual_seed(options.seed)
        config = LoraConfig(
            r=options.rank,
            lora_alpha=options.alpha,
            target_modules=sorted(options.targets),
            lora_dropout=options.dropout,
            modules_to_save=list(NORMS) if options.train_norms else None,
            task_type="CAUSAL_LM",
        )
        before = None if parent is None else _parent_tensors(base, parent, config)
        self.model: Any = attach(base, config)
        if before is not None:
            set_peft_model_state_dict(self.model, before)
        self.use(options)
        self.model.train()
        self.trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        matrices = [p for p in self.parameters if p.dim() == 2]
        norms = [p for p in self.parameters if p.dim() == 1]  # no decay: nothing draws a scale to 0
        groups = [{"params": matrices, "weight_decay": options.weight_decay}]
        groups += [{"params": norms, "weight_decay": 0.0}] if norms else []
        self.optimizer = AdamW8bit(groups, lr=options.learning_rate)

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        return list(self.trained.values())

    def use(self, options: TuneOptions) -> None:
        """Other options for how memory is spent (row_tokens, checkpointing, offload) from now on."""
        self.options = options
        keep_less(self.model, options.checkpointing, options.offload)

    def step(self, units: Units, number: int, total_steps: int) -> float:
        """One step over `units`; the mean loss an item. If that or a gradient is not finite nothing was changed."""
        items = sum(num_items(unit, self.options) for unit in units)
        rows = pack(units, self.options.row_tokens, at_least=self.processes.count)
        self.optimizer.zero_grad(set_to_none=True)
        mine = range(self.processes.index, len(rows), self.processes.count)
        mean = self.processes.sum(sum(self._learn_from(rows[i], items, number, i) for i in mine))
        self.processes.sum_gradients(self.parameters)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.options.clip_norm)
        if not math.isfinite(mean) or not math.isfinite(float(norm)):
            return math.nan
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(number, total_steps, self.options)
        self.optimizer.step()
        return mean

    def rehearse(self, units: Units) -> None:
        """A way forward and back as in a step, of which nothing stays; in this process alone."""
        items = sum(num_items(unit, self.options) for unit in units)
        try:
            for row in pack(units, self.options.row_tokens):
                self._learn_from(row, items, 0, 0)
        finally:
            self.optimizer.zero_grad(set_to_none=True)

    def _learn_from(self, row: Row, items: int, number: int, i: int) -> float:
        """Adds the gradients of a row; its part of the mean loss."""
        torch.manual_seed(hash((self.options.seed, number, i)))
        with self._autocast():
            loss = loss_sum(self.model, row.to(self.processes.device), self.options) / items
        loss.backward()
        return float(loss.detach())

    @torch.no_grad()
    def evaluate(self, units: Units) -> float:
        """The mean loss an item over `units`, without chance."""
        self.model.eval()
        rows = pack(units, self.options.row_tokens, at_least=self.processes.count)
        total = 0.0
        for i in range(self.processes.index, len(rows), self.processes.count):
            with self._autocast():
                total += float(loss_sum(self.model, rows[i].to(self.processes.device), self.options))
        self.model.train()
        return self.processes.sum(total) / sum(num_items(unit, self.options) for unit in units)

    def _autocast(self) -> Any:
        return torch.autocast(self.processes.device.type, self.dtype, enabled=self.dtype is not None)

    # State

    def adapter(self) -> dict[str, Tensor]:
        """A copy of the trained tensors, by their names in the model."""
        return {name: parameter.detach().cpu().clone() for name, parameter in self.trained.items()}

    def optimizer_state(self) -> dict[str, Tensor]:
        """A copy of AdamW8bit's state: "NAME/KEY" -> tensor; its step counts as tensors of one number."""
        return {
            f"{name}/{key}": torch.as_tensor(value).detach().cpu().clone()
            for name, parameter in self.trained.items()
            for key, value in self.optimizer.state[parameter].items()
        }

    def restore(self, adapter: dict[str, Tensor], optimizer: dict[str, Tensor]) -> None:
        """Take back what `adapter` and `optimizer_state` gave."""
        assert adapter.keys() == self.trained.keys()
        for name, tensor in adapter.items():
            self.trained[name].data.copy_(tensor)
        for entry, tensor in optimizer.items():
            name, _, key = entry.rpartition("/")
            value = int(tensor) if key == "step" else tensor.to(self.processes.device)
            self.optimizer.state[self.trained[name]][key] = value

    def peft_tensors(self, adapter: dict[str, Tensor]) -> dict[str, Tensor]:
        """`adapter` under the names of a PEFT file."""
        return get_peft_model_state_dict(self.model, state_dict=adapter)

    def peft_config(self) -> dict[str, Any]:
        """adapter_config.json's fields, the same bytes for the same run: no order of a set, no path of this machine."""
        fields = self.model.peft_config["default"].to_dict()
        fields |= {"base_model_name_or_path": None, "inference_mode": True}
        return {key: sorted(value) if isinstance(value, set) else value for key, value in fields.items()}


def _parent_tensors(base: GPTJ8bitPreTrainedModel, folder: Path, config: LoraConfig) -> dict[str, Tensor]:
    """The adapter to go on from, as its file names things. Raises TuneError if it is of another kind."""
    try:
        theirs = checked_config(folder, base)
    except CheckpointError as error:
        raise TuneError(f"the adapter to begin with: {error}") from None
    for name in ("r", "lora_alpha", "target_modules", "modules_to_save", "use_rslora"):
        if _comparable(getattr(theirs, name)) != _comparable(getattr(config, name)):
            raise TuneError(
                f"the adapter to begin with, {folder}, has {name} {getattr(theirs, name)}, the options say "
                f"{getattr(config, name)}: give the same, or begin without it"
            )
    return load_file(folder / ADAPTER_WEIGHTS)


def _comparable(value: Any) -> Any:
    return sorted(value) if isinstance(value, set | list) else value or None
