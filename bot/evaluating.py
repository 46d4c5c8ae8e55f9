"""Loads what `tertulia eval` measures: a native checkpoint, or any causal model that transformers reads."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.errors import BotError
from bot.settings import Settings


@dataclass(frozen=True)
class Subject:
    """A model to measure, with its tokenizer as a function; bos_id where texts begin with one."""

    model: Any
    encode: Callable[[str], list[int]]
    context: int
    bos_id: int | None


def load_for_evaluation(settings: Settings) -> Subject:
    """Load the settings' model. A folder that is not native is read by transformers' Auto classes."""
    from bot.quiet import quiet_libraries, set_up_logging

    set_up_logging(settings.log_level)
    quiet_libraries()
    folder = Path(settings.model).expanduser()
    if folder.is_dir() and (folder / "config.json").is_file() and not (folder / "manifest.json").exists():
        return _load_stock(settings, folder)
    from bot.loading import find_folder, load_model
    from bot.progress import progress_bar

    with progress_bar("converting") as progress:
        folder = find_folder(settings, progress)
    model = load_model(settings, folder)
    if settings.adapter is not None:
        from model.lora import load_adapter

        model = load_adapter(model, settings.adapter).eval()
    encode, bos_id = _own_tokenizer(folder)
    return Subject(model, encode, model.config.n_positions, bos_id)


def _load_stock(settings: Settings, folder: Path) -> Subject:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from bot.loading import prepare_torch

    if settings.adapter is not None:
        raise BotError(f"--adapter: {folder} is not a native checkpoint; convert it with `tertulia quantize` first")
    prepare_torch(settings)
    wants_gpu = settings.device == "cuda" or (settings.device == "auto" and torch.cuda.is_available())
    try:
        # safetensors or nothing: a pickle from elsewhere is not opened here
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=settings.dtype, use_safetensors=True)
        model = model.to("cuda" if wants_gpu else "cpu").eval()
        if _has_own_kind(folder):
            encode, bos_id = _own_tokenizer(folder)
        else:
            tokenizer = AutoTokenizer.from_pretrained(folder)
            bos_id = tokenizer.bos_token_id if tokenizer.bos_token_id != tokenizer.eos_token_id else None

            def encode(text: str) -> list[int]:
                return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])

    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BotError(f"{folder} cannot be read by transformers ({reason}); give a model's folder") from None
    return Subject(model, encode, int(getattr(model.config, "max_position_embeddings", 0) or 1024), bos_id)


def _has_own_kind(folder: Path) -> bool:
    """A sentencepiece model (transformers would read a unigram one as BPE) or GPT-J's own vocabulary."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return (folder / "tokenizer.model").is_file() or config.get("model_type") == "gptj"


def _own_tokenizer(folder: Path) -> tuple[Callable[[str], list[int]], int | None]:
    from model.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_pretrained(folder)
    return tokenizer.encode, None if tokenizer.bos_id == tokenizer.eos_id else tokenizer.bos_id
