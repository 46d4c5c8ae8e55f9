"""LoRA on 8-bit layers through PEFT: attach, and load an adapter that came from somewhere else.

PEFT refuses layers it does not know, and an `nn.Linear` subclass would let `merge` corrupt the codes in silence; so
`Linear8bit` gets a LoRA layer of its own that refuses what 8 bits cannot do. Gradients equal stock PEFT's on the
dequantised model, and the files are plain PEFT files that load on a 16-bit GPT-J.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners import lora
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from model.errors import CheckpointError
from model.gptj import GPTJ8bitPreTrainedModel
from model.layers import Linear8bit

TARGETS = frozenset({"q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_out"})
NORMS = ("ln_1", "ln_f")  # an adapter may bring LayerNorms of its own, all or none (PEFT's modules_to_save)
MAX_RANK = 512
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"


class LoraLinear8bit(lora.Linear):
    """PEFT's LoRA forward around a `Linear8bit`; merging into codes is refused."""

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        raise ValueError("an adapter cannot be merged into 8-bit codes; export a merged 16-bit checkpoint instead")

    def unmerge(self) -> None:
        raise ValueError("nothing is merged: an adapter cannot be merged into 8-bit codes")

    @property
    def lora_variants(self) -> dict[tuple[str, ...], Callable[..., Any] | None]:
        """Only plain LoRA: DoRA and its kin need the dequantised weight's norm."""
        return {(): None}

    def _get_in_out_features(self, module: torch.nn.Module) -> tuple[int, int]:
        assert isinstance(module, Linear8bit)
        return module.in_features, module.out_features


def attach(model: GPTJ8bitPreTrainedModel, config: LoraConfig, name: str = "default") -> PeftModel:
    """A PEFT model around `model` with a fresh trainable adapter; the base stays frozen and is not copied."""
    _register(config)
    return get_peft_model(model, config, adapter_name=name)


def load_adapter(model: GPTJ8bitPreTrainedModel, folder: str | Path, name: str = "default") -> PeftModel:
    """Put the PEFT adapter in `folder` on `model`, frozen, for inference.

    Every key, shape and value is checked before the model is touched. Raises CheckpointError naming what is wrong: no
    such folder, pickled weights, a method other than LoRA, unknown targets, a rank over 512, missing, foreign or
    non-finite tensors.
    """
    folder = Path(folder)
    config = checked_config(folder, model)
    _register(config)
    config.inference_mode = True
    return PeftModel.from_pretrained(model, folder, adapter_name=name, config=config)


def read_matrices(folder: Path, model: GPTJ8bitPreTrainedModel) -> dict[str, tuple[Tensor, Tensor, float]]:
    """By layer ("transformer.h.0.attn.q_proj") A (r, in), B (out, r), as they are stored, and the scale alpha / r.

    `model` is only what they are checked against, it may be on the meta device. Raises CheckpointError as
    `load_adapter` does.
    """
    config = checked_config(folder, model)
    scale = config.lora_alpha / (config.r**0.5 if config.use_rslora else config.r)
    tensors = load_file(folder / ADAPTER_WEIGHTS)
    matrices = {}
    for key, a in tensors.items():
        if key.endswith(".lora_A.weight"):
            layer = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            matrices[layer] = (a, tensors[key.replace(".lora_A.", ".lora_B.")], scale)
    return matrices


def read_norms(folder: Path) -> dict[str, Tensor]:
    """The LayerNorms that a checked adapter brings, by name ("transformer.ln_f.bias")."""
    tensors = load_file(folder / ADAPTER_WEIGHTS)
    return {key.removeprefix("base_model.model."): tensor for key, tensor in tensors.items() if ".lora_" not in key}


def checked_config(folder: Path, model: GPTJ8bitPreTrainedModel) -> LoraConfig:
    """The adapter's config, after its files were found to be exactly what it implies on `model`.

    Raises CheckpointError as `load_adapter` does.
    """
    config = _read_config(folder)
    _check_tensors(folder, model, config)
    return config


def _register(config: LoraConfig) -> None:
    config._register_custom_module({Linear8bit: LoraLinear8bit})


def _read_config(folder: Path) -> LoraConfig:
    path = folder / ADAPTER_CONFIG
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; give the folder of a PEFT adapter")
    if not path.is_file():
        raise CheckpointError(f"{folder} is not an adapter: {ADAPTER_CONFIG} is missing")
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise CheckpointError(f"{folder} has no {ADAPTER_WEIGHTS}; pickled adapters (.bin) are not read, save it again")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise CheckpointError(f"{path} holds a {type(fields).__name__}, expected a JSON object")
    if fields.get("peft_type") != "LORA":
        raise CheckpointError(f"{path}: peft_type is {fields.get('peft_type')!r}, expected 'LORA'")
    known = set(LoraConfig.__dataclass_fields__)
    if unknown := sorted(set(fields) - known):
        raise CheckpointError(f"{path} has unknown settings: {', '.join(unknown)}")
    targets = fields.get("target_modules")
    if not isinstance(targets, list) or not targets or not set(targets) <= TARGETS:
        raise CheckpointError(f"{path}: target_modules is {targets!r}, expected some of {', '.join(sorted(TARGETS))}")
    rank = fields.get("r")
    if not isinstance(rank, int) or not 1 <= rank <= MAX_RANK:
        raise CheckpointError(f"{path}: r is {rank!r}, expected 1 to {MAX_RANK}")
    saved = fields.get("modules_to_save")
    if saved and (not isinstance(saved, list) or sorted(map(str, saved)) != list(NORMS)):
        raise CheckpointError(f"{path}: modules_to_save is {saved!r}, expected none or {', '.join(NORMS)}")
    if fields.get("use_dora") or fields.get("lora_bias") or fields.get("bias", "none") != "none":
        raise CheckpointError(f"{path}: use_dora, lora_bias and bias do not go with an 8-bit base")
    fields["base_model_name_or_path"] = None  # the base is the model at hand, never a path out of a file
    return LoraConfig(**fields)


def _check_tensors(folder: Path, model: GPTJ8bitPreTrainedModel, config: LoraConfig) -> None:
    """Dry run: the file's keys and shapes are exactly those that the config implies on this model, values finite."""
    path = folder / ADAPTER_WEIGHTS
    targets = set(config.target_modules or ())
    expected: dict[str, tuple[int, ...]] = {}
    for name, module in model.named_modules():
        if isinstance(module, Linear8bit | torch.nn.Linear) and name.rpartition(".")[2] in targets:
            prefix = f"base_model.model.{name}"
            expected[f"{prefix}.lora_A.weight"] = (config.r, module.in_features)
            expected[f"{prefix}.lora_B.weight"] = (module.out_features, config.r)
        elif isinstance(module, torch.nn.LayerNorm) and config.modules_to_save:
            expected[f"base_model.model.{name}.weight"] = (module.weight.shape[0],)
            expected[f"base_model.model.{name}.bias"] = (module.bias.shape[0],)
    try:
        with safe_open(path, framework="pt") as file:
            found = set(file.keys())
            for kind, names in (("lacks", set(expected) - found), ("has foreign", found - set(expected))):
                if names:
                    raise CheckpointError(f"{path} {kind} {min(names)} (and {len(names) - 1} more): not for this model")
            for name, shape in expected.items():
                tensor = file.get_tensor(name)
                if tuple(tensor.shape) != shape or not tensor.is_floating_point():
                    raise CheckpointError(
                        f"{path}: {name} is {tensor.dtype} {list(tensor.shape)}, expected a float {list(shape)}"
                    )
                if not bool(torch.isfinite(tensor).all()):
                    raise CheckpointError(f"{path}: {name} holds NaN or infinite values")
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
