"""`from_pretrained` and `save_pretrained` for the 8-bit classes: transformers' face, the native format's strictness.

The model is built empty and takes over the tensors that `checkpoint` mapped and checked: weights are in memory once.
"""

import copy
import logging
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from model import checkpoint, hub
from model.errors import CheckpointError
from model.geometry import head_of
from model.gptj import GPTJ8bitPreTrainedModel
from model.gptj_config import GPTJ8bitConfig
from model.manifest import CONFIG, MANIFEST

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=GPTJ8bitPreTrainedModel)

# What transformers' Auto classes and its users pass and what is always so here: weights are mapped, code is local.
_WITHOUT_EFFECT = {"low_cpu_mem_usage", "use_safetensors", "trust_remote_code", "adapter_kwargs", "weights_only"}
_WITHOUT_EFFECT |= {"_from_auto", "_commit_hash"}
_SAVE_WITHOUT_EFFECT = {"safe_serialization", "max_shard_size", "save_peft_format"}
_SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def from_pretrained(
    cls: type[M],
    name_or_dir: str | Path,
    *,
    config: GPTJ8bitConfig | None = None,
    dtype: torch.dtype | str | None = None,
    torch_dtype: torch.dtype | str | None = None,
    device_map: Any = None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    **kwargs: Any,
) -> M:
    """Load a native checkpoint, a folder or a name that `hub` knows, ready for inference.

    dtype casts LayerNorms, biases and activations (None keeps float32); codes stay 8-bit. device_map: a device, "auto"
    (a GPU if there is one) or {"": device}. revision and cache_dir go to the hub. Other keywords override fields of the
    config; unknown ones are a TypeError.
    Raises CheckpointError or HubError for a checkpoint that is not exactly what its config implies.
    """
    name = str(name_or_dir)
    known = revision is not None and not Path(name).is_dir()
    folder = hub.resolve(f"{name}@{revision}" if known else name, cache=cache_dir)
    fields = checkpoint.read_config(folder)
    head = head_of(fields)
    config = GPTJ8bitConfig.from_dict(fields) if config is None else copy.deepcopy(config)
    overrides = {key: value for key, value in kwargs.items() if key not in _WITHOUT_EFFECT}
    for key, value in overrides.items():
        if key != "attn_implementation" and not hasattr(config, key):
            raise TypeError(f"from_pretrained() got an unexpected keyword argument {key!r}")
        setattr(config, "_attn_implementation" if key == "attn_implementation" else key, value)
    tensors = checkpoint.load_weights(folder, config, head=head)
    with torch.device("meta"):
        model = cls(config)
    _fill(model, tensors, folder)
    model.config._name_or_path = str(folder)
    if model.can_generate():
        model.generation_config = GenerationConfig.from_pretrained(folder)
        for key in _SPECIAL_IDS:
            if key in overrides:
                setattr(model.generation_config, key, overrides[key])
    nn.Module.to(model, device=_device(device_map), dtype=_dtype(dtype or torch_dtype))
    return model.eval()


def save_pretrained(model: GPTJ8bitPreTrainedModel, folder: str | Path, **kwargs: Any) -> None:
    """Write a native checkpoint with the tokenizer files of the folder it came from; atomic, replaces a native folder.

    Raises CheckpointError when `folder` holds anything else, and TypeError for an unknown keyword.
    """
    if not kwargs.pop("is_main_process", True):
        return
    if unknown := sorted(set(kwargs) - _SAVE_WITHOUT_EFFECT):
        raise TypeError(f"save_pretrained() got an unexpected keyword argument {unknown[0]!r}")
    config = model.config.to_dict() | {"architectures": [type(model).__name__]}
    extra: dict[str, bytes | Path] = {}
    origin = Path(model.config._name_or_path or "")
    if checkpoint.is_native(origin):
        names = checkpoint.read_manifest(origin)["files"]
        extra = {name: origin / name for name in names if name not in (CONFIG, MANIFEST) and not _is_weights(name)}
    if model.can_generate():
        extra["generation_config.json"] = model.generation_config.to_json_string(use_diff=True).encode()
    checkpoint.save(folder, config, model.state_dict(), extra_files=extra, overwrite=checkpoint.is_native(folder))


def _fill(model: GPTJ8bitPreTrainedModel, tensors: dict[str, Tensor], folder: Path) -> None:
    """Give the empty model its tensors; a classifier on a language model's weights starts with a fresh `score`."""
    score = getattr(model, "score", None)
    if isinstance(score, nn.Linear) and "score.weight" not in tensors:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("lm_head.")}
        tensors["score.weight"] = nn.init.normal_(torch.empty(score.weight.shape), std=model.config.initializer_range)
        logger.warning("%s is a language model: the classifier's score layer is new and wants training", folder)
    wrong = set(tensors) ^ set(model.state_dict())
    if wrong:
        raise CheckpointError(f"{folder} is not a checkpoint for {type(model).__name__}: {min(wrong)} does not match")
    model.load_state_dict(tensors, strict=True, assign=True)


def _is_weights(name: str) -> bool:
    return name.endswith(".safetensors")


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    if dtype is None or dtype == "auto":
        return None
    resolved = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(resolved, torch.dtype) or not resolved.is_floating_point:
        raise ValueError(f"dtype is {dtype!r}, expected float32, bfloat16 or float16")
    return resolved


def _device(device_map: Any) -> torch.device:
    if isinstance(device_map, dict):
        if list(device_map) != [""]:
            raise ValueError(f"device_map is {device_map!r}: the model lives on one device, expected {{'': device}}")
        device_map = device_map[""]
    if device_map is None:
        return torch.device("cpu")
    if device_map == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device_map)
