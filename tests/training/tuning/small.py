"""A tiny random model with a real tokenizer and a handful of dialogues, the same in every process that asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import GPTJConfig, GPTJForCausalLM

from model import checkpoint
from model.conversation import Message
from model.gptj import GPTJ8bitForCausalLM
from model.gptj_config import GPTJ8bitConfig
from tests.model.test_gptj import quantised_copy
from training.curation import Snapshot
from training.examples import Example, Preference
from training.tuning.presets import TuneOptions

NUMBERS = {
    "vocab_size": 1000,
    "n_positions": 128,
    "n_embd": 64,
    "n_layer": 2,
    "n_head": 4,
    "rotary_dim": 8,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 3,
}
QUICK = TuneOptions(
    rank=4, alpha=8, learning_rate=5e-3, warmup_steps=2, epochs=3, batch_size=4, row_tokens=160, evaluations=4
)
THINGS = ("el mar", "la lluvia", "un libro", "el pan", "la música", "un perro", "el café", "la luna", "el tren")
THINGS += ("una casa", "el río", "la nieve")


def save_model(folder: Path, tokenizer_folder: Path, change: Any = None) -> Path:
    """A native checkpoint of two layers; `change` may damage the model before it is written."""
    torch.manual_seed(0)
    stock = GPTJForCausalLM(GPTJConfig(**NUMBERS, initializer_range=0.1)).eval()
    model = GPTJ8bitForCausalLM(GPTJ8bitConfig(**NUMBERS, block_size=256, prompt_format="tertulia")).eval()
    quantised_copy(stock, model, 256)
    if change is not None:
        change(model)
    files = {"tokenizer.model": tokenizer_folder / "tokenizer.model"}
    fields = model.config.to_dict() | {"architectures": ["GPTJ8bitForCausalLM"]}
    return checkpoint.save(folder, fields, model.state_dict(), extra_files=files)


def dialogue(thing: str, user: str, *more: str) -> Example:
    """One person's talk about `thing`, a turn for each of `more` besides the first."""
    messages = [Message("user", f"¿Qué piensas de {thing}?"), Message("assistant", f"¡Viva {thing}, compadre!")]
    for text in more:
        messages += [Message("user", text), Message("assistant", f"Claro, {text}, compadre.")]
    trained = tuple(message.role == "assistant" for message in messages)
    return Example(tuple(messages), trained, user=user)


def snapshot(data_hash: str = "d1", num_held_out: int = 4) -> Snapshot:
    train = [dialogue(thing, f"user{i % 5}", *["¿y por qué?"] * (i % 3)) for i, thing in enumerate(THINGS)]
    held_out = [dialogue(f"{thing} de hoy", f"other{i % 2}") for i, thing in enumerate(THINGS[:num_held_out])]
    preferences = [
        Preference(example.messages[:1], f"¡Viva {thing}, compadre!", f"No sé nada de {thing}.", example.user)
        for thing, example in zip(THINGS, train[:-2] + held_out[:2], strict=True)
    ]
    return Snapshot(Path("nowhere"), tuple(train), tuple(held_out), tuple(preferences), data_hash, (), {}, {})
