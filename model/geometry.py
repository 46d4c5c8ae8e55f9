"""The shape that a config.json promises: its fields, checked before anything is allocated, and the tensors it implies.

A config is read as plain JSON here, with no model class behind it; the same checks serve native folders and sources.
"""

import json
import math
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from model.dynamic8 import BLOCK_SIZES, num_blocks
from model.errors import CheckpointError

Head = Literal["lm_head", "score"]
Tensors = dict[str, tuple[torch.dtype, tuple[int, ...]]]

MODEL_TYPE = "tertulia_gptj"
SOURCE_MODEL_TYPE = "gptj"
MAX_JSON_BYTES = 64 * 2**20
MAX_PARAMETERS = 2**37  # twenty times the 6B model: what is above is a mistake, not a GPT-J

_LIMITS = {  # field: largest value that is believed
    "vocab_size": 2**22,
    "n_positions": 2**20,
    "n_embd": 2**16,
    "n_layer": 1024,
    "n_head": 1024,
    "n_inner": 2**20,
}
_DEFAULTS: dict[str, Any] = {  # GPTJConfig's own; a config.json may leave these out
    "vocab_size": 50400,
    "n_positions": 2048,
    "n_embd": 4096,
    "n_layer": 28,
    "n_head": 16,
    "rotary_dim": 64,
    "n_inner": None,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "bos_token_id": 50256,
    "eos_token_id": 50256,
    "pad_token_id": None,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "initializer_range": 0.02,
    "use_cache": True,
    "tie_word_embeddings": False,
}


def read_json(path: Path, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """The object in a JSON file. Raises CheckpointError when it is missing, too large, broken, or has a key twice."""
    try:
        if path.stat().st_size > max_bytes:
            raise CheckpointError(f"{path} has {path.stat().st_size} bytes, expected at most {max_bytes} of JSON")
        return parse_json(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from None


def parse_json(text: bytes, where: str) -> dict[str, Any]:
    """The JSON object in `text`; a key that is there twice is refused, because readers differ on which one counts."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise CheckpointError(f"{where} has the key {twice[:60]!r} twice; get the file again")
        return fields

    try:
        fields = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise CheckpointError(f"{where} is not valid JSON ({reason}); get the file again") from None
    if not isinstance(fields, dict):
        raise CheckpointError(f"{where} holds a JSON {type(fields).__name__}, expected an object")
    return fields


def as_fields(config: Any) -> dict[str, Any]:
    """A config as a dict: a mapping, or an object with `to_dict` (any transformers config)."""
    return dict(config) if isinstance(config, Mapping) else dict(config.to_dict())


def head_of(fields: Mapping[str, Any]) -> Head:
    """The head that `architectures` names; a language model when it names none."""
    architectures = fields.get("architectures") or []
    return "score" if any("SequenceClassification" in str(name) for name in architectures) else "lm_head"


def check_config(raw: Mapping[str, Any], where: str, head: Head | None = None) -> dict[str, Any]:
    """The native config.json for `raw`: every field checked, defaults filled in, a fixed set of keys.

    Raises CheckpointError naming `where`, the field and what was expected.
    """
    model_type = raw.get("model_type")
    if model_type not in (MODEL_TYPE, SOURCE_MODEL_TYPE):
        raise CheckpointError(
            f"{where}: model_type is {reprlib.repr(model_type)}, expected a GPT-J "
            f"({SOURCE_MODEL_TYPE!r} or {MODEL_TYPE!r}); other architectures cannot be read"
        )
    fields = {name: raw.get(name, default) for name, default in _DEFAULTS.items()}
    fields["block_size"] = raw.get("block_size", BLOCK_SIZES[-1])
    fields["num_tokens"] = raw.get("num_tokens")
    fields["prompt_format"] = raw.get("prompt_format", "plain")
    _check_numbers(fields, where)
    _check_names(fields, where)
    head = head or head_of(raw)
    fields["model_type"] = MODEL_TYPE
    if head == "score":
        fields["architectures"] = ["GPTJ8bitForSequenceClassification"]
        fields["id2label"], fields["label2id"] = _labels(raw, where)
        fields["problem_type"] = raw.get("problem_type")
    else:
        fields["architectures"] = ["GPTJ8bitForCausalLM"]
    parameters = count_parameters(expected_tensors(fields, head))
    if parameters > MAX_PARAMETERS:
        raise CheckpointError(f"{where} describes {parameters} parameters, expected at most {MAX_PARAMETERS}")
    return fields


def expected_tensors(config: Any, head: Head | None = None) -> Tensors:
    """name -> (dtype, shape): exactly the tensors of a native checkpoint with this config (mapping or config object).

    `block_size` None means plain float32 weights. LayerNorms, biases and `score` are float32 in every native file.
    """
    fields = as_fields(config)
    head = head or head_of(fields)
    width, block_size = fields["n_embd"], fields["block_size"]
    inner = fields["n_inner"] or 4 * width
    tensors: Tensors = {}

    def weight(name: str, rows: int, columns: int, bias: bool = False) -> None:
        if block_size is None:
            tensors[f"{name}.weight"] = torch.float32, (rows, columns)
        else:
            tensors[f"{name}.weight"] = torch.uint8, (rows, columns)
            tensors[f"{name}.absmax"] = torch.float32, (num_blocks(rows * columns, block_size),)
            tensors[f"{name}.code"] = torch.float32, (256,)
        if bias:
            tensors[f"{name}.bias"] = torch.float32, (rows,)

    def norm(name: str) -> None:
        tensors[f"{name}.weight"] = tensors[f"{name}.bias"] = torch.float32, (width,)

    weight("transformer.wte", fields["vocab_size"], width)
    for layer in range(fields["n_layer"]):
        block = f"transformer.h.{layer}"
        norm(f"{block}.ln_1")
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            weight(f"{block}.attn.{projection}", width, width)
        weight(f"{block}.mlp.fc_in", inner, width, bias=True)
        weight(f"{block}.mlp.fc_out", width, inner, bias=True)
    norm("transformer.ln_f")
    if head == "lm_head":
        weight("lm_head", fields["vocab_size"], width, bias=True)
    else:
        tensors["score.weight"] = torch.float32, (len(_labels(fields, "config")[0]), width)
    return tensors


def size_bytes(tensors: Tensors) -> int:
    """Bytes of the tensors' values."""
    return sum(math.prod(shape) * dtype.itemsize for dtype, shape in tensors.values())


def count_parameters(tensors: Tensors) -> int:
    """Weights and biases; the scales and tables of the 8-bit storage are not parameters."""
    return sum(math.prod(shape) for name, (_, shape) in tensors.items() if not name.endswith((".absmax", ".code")))


def _check_numbers(fields: dict[str, Any], where: str) -> None:
    def fail(name: str, expected: str) -> None:
        raise CheckpointError(f"{where}: {name} is {reprlib.repr(fields[name])}, expected {expected}")

    def integer(value: Any, low: int, high: int) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    for name, limit in _LIMITS.items():
        if not integer(fields[name], 1, limit) and not (name == "n_inner" and fields[name] is None):
            fail(name, f"an integer from 1 to {limit}")
    if fields["n_embd"] % fields["n_head"]:
        fail("n_embd", f"a multiple of n_head = {fields['n_head']}")
    head_dim = fields["n_embd"] // fields["n_head"]
    if not integer(fields["rotary_dim"], 2, head_dim) or fields["rotary_dim"] % 2:
        fail("rotary_dim", f"an even integer from 2 to {head_dim}, the size of a head")
    if fields["block_size"] is not None and not (
        integer(fields["block_size"], 1, BLOCK_SIZES[-1]) and fields["block_size"] in BLOCK_SIZES
    ):
        fail("block_size", f"one of {', '.join(map(str, BLOCK_SIZES))}, or null for float weights")
    vocab_size = fields["vocab_size"]
    if fields["num_tokens"] is not None and not integer(fields["num_tokens"], 1, vocab_size):
        fail("num_tokens", f"an integer from 1 to vocab_size = {vocab_size}")
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        ids = fields[name] if isinstance(fields[name], list) else [fields[name]]
        if not all(token is None or integer(token, 0, vocab_size - 1) for token in ids):
            fail(name, f"an id below vocab_size = {vocab_size}, or null")
    for name, high in (("layer_norm_epsilon", 1), ("resid_pdrop", 1), ("embd_pdrop", 1), ("attn_pdrop", 1)):
        value = fields[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < high:
            fail(name, f"a number from 0 to {high}")


def _check_names(fields: dict[str, Any], where: str) -> None:
    if fields["activation_function"] != "gelu_new":
        raise CheckpointError(
            f"{where}: activation_function is {reprlib.repr(fields['activation_function'])}, "
            "expected 'gelu_new', as GPT-J has it"
        )
    if fields["tie_word_embeddings"] not in (False, None):
        raise CheckpointError(f"{where}: tie_word_embeddings is true, expected false: GPT-J has a head of its own")
    fields["tie_word_embeddings"] = False
    if not isinstance(fields["prompt_format"], str) or not fields["prompt_format"].strip():
        raise CheckpointError(
            f"{where}: prompt_format is {reprlib.repr(fields['prompt_format'])}, expected the name of a format"
        )


def _labels(fields: Mapping[str, Any], where: str) -> tuple[dict[str, str], dict[str, int]]:
    """id2label and label2id of a classifier, with string keys as JSON has them."""
    id2label = fields.get("id2label")
    if id2label is None:
        number = fields.get("num_labels", 2)
        if not isinstance(number, int) or not 1 <= number <= 2**16:
            raise CheckpointError(
                f"{where}: num_labels is {reprlib.repr(number)}, expected an integer from 1 to {2**16}"
            )
        id2label = {str(index): f"LABEL_{index}" for index in range(number)}
    if not isinstance(id2label, Mapping) or sorted(map(str, id2label)) != sorted(map(str, range(len(id2label)))):
        raise CheckpointError(f"{where}: id2label is {reprlib.repr(id2label)}, expected names for the ids 0, 1, ...")
    names = {str(index): str(name) for index, name in sorted(id2label.items(), key=lambda item: int(item[0]))}
    return names, {name: int(index) for index, name in names.items()}
