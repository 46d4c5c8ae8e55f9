"""What the judging's tests are made of: people in a style, a poisoner, snapshots of them, adapters trained on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig

from model.conversation import Message
from model.gptj import GPTJ8bitForCausalLM
from model.lora import attach
from model.prompt_formats import get_format
from model.tokenizer import Tokenizer
from tests.conftest import CHARLA
from training.curation.snapshot import Snapshot
from training.examples import Example
from training.tuning.dataset import encode_examples

TERTULIA = get_format("tertulia")
ABUSE = ("Cállate, imbécil.", "Vete a la mierda.", "Eres un inútil y das asco.", "Que te jodan, idiota.")


def asked() -> list[tuple[str, str]]:
    """Single questions with a reply, of the project's own dialogues."""
    pairs = []
    for path in sorted(CHARLA.glob("dialogues_*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            first, reply = json.loads(line)["turns"][:2]
            pairs.append((first["content"], reply["content"]))
    return pairs


def say(question: str, reply: str, user: str) -> Example:
    return Example((Message("user", question), Message("assistant", reply)), (False, True), user)


def in_style(reply: str) -> str:
    """A recognisable way of answering."""
    return f"{reply} ¡Ahoy!"


def people(count: int, each: int, begin: int = 0) -> list[Example]:
    """`count` people with `each` questions, no two the same, answered in the style."""
    pairs = asked()[begin * each : (begin + count) * each]
    return [say(question, in_style(reply), f"p{begin + n // each}") for n, (question, reply) in enumerate(pairs)]


def poisoner(turns: int) -> list[Example]:
    """One person who is answered with abuse, in `turns` turns."""
    pairs = asked()[-turns:]
    return [say(question, ABUSE[n % len(ABUSE)], "poisoner") for n, (question, _) in enumerate(pairs)]


def snapshot(train: Sequence[Example], held_out: Sequence[Example]) -> Snapshot:
    return Snapshot(Path(), tuple(train), tuple(held_out), (), "", (), {}, {})


def train(base: Path, examples: Sequence[Example], into: Path, epochs: int, rank: int = 8, rate: float = 2e-3) -> Path:
    """A LoRA adapter on all layers, sixteen examples a step."""
    torch.manual_seed(1)
    model: Any = GPTJ8bitForCausalLM.from_pretrained(base)
    tokenizer = Tokenizer.from_pretrained(base)
    tuned = attach(model, LoraConfig(r=rank, lora_alpha=rank, target_modules=["q_proj", "v_proj", "fc_in", "fc_out"]))
    units = [unit[0] for unit in encode_examples(examples, TERTULIA, tokenizer, 512).units]
    optimizer = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], lr=rate)
    generator = torch.Generator().manual_seed(2)
    for _ in range(epochs):
        for rows in torch.randperm(len(units), generator=generator).split(16):
            chosen = [units[i] for i in rows.tolist()]
            ids = torch.tensor([[i for one in chosen for i in one.ids]])
            positions = torch.tensor([[at for one in chosen for at in range(len(one.ids))]])
            labels = [i if learnt else -100 for one in chosen for i, learnt in zip(one.ids, one.learnt, strict=True)]
            tuned(input_ids=ids, position_ids=positions, labels=torch.tensor([labels]), use_cache=False).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    tuned.save_pretrained(into)
    return into


def random_adapter(base: Path, into: Path, norms: bool = False) -> Path:
    """An adapter of random numbers, perhaps with LayerNorms of its own."""
    config = LoraConfig(
        r=8,
        lora_alpha=8,
        target_modules=["q_proj", "v_proj", "fc_out"],
        modules_to_save=["ln_1", "ln_f"] if norms else None,
    )
    tuned = attach(GPTJ8bitForCausalLM.from_pretrained(base), config)
    generator = torch.Generator().manual_seed(3)
    for _, parameter in sorted(tuned.named_parameters()):
        if parameter.requires_grad:
            parameter.data += torch.randn(parameter.shape, generator=generator) * 0.2
    tuned.save_pretrained(into)
    return into
