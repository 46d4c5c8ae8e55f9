"""What a checkpoint can do, measured on what it never trained on: the mean loss misleads, because reply endings are
learnt by heart.

Right intent on held-out ways of asking, copying of unseen names (next turn, two turns later), capitals asked with a
held-out template, small sums, and the loss of the first three reply tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

import torch
import torch.nn.functional as F

from training.pretrain.batches import Encoder
from training.pretrain.charla import Charla, Turns, fill, normal_form, reading
from training.pretrain.dialogues import Generator
from training.pretrain.drills import HELD_OUT_NAMES, facts, syllabic
from training.pretrain.network import PretrainGPTJ


@torch.no_grad()
def greedy(model: PretrainGPTJ, prompts: list[list[int]], max_new_tokens: int, end: int) -> list[list[int]]:
    """Greedy replies to a batch of prompts, without a cache: rows are padded on the right, which a causal model never
    sees.
    """
    lengths = [len(prompt) for prompt in prompts]
    device = model.cos.device
    ids = torch.zeros(len(prompts), max(lengths) + max_new_tokens, dtype=torch.long, device=device)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.tensor(prompt, device=device)
    at = torch.tensor(lengths, device=device)
    done = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    rows = torch.arange(len(prompts), device=device)
    position_ids = torch.arange(ids.size(1), device=device)
    for _ in range(max_new_tokens):
        width = int(at.max())
        view = ids[:, :width]
        hidden = model.hidden(view, position_ids[:width].expand_as(view), torch.zeros_like(view))
        chosen = model.lm_head(hidden[rows, at - 1]).argmax(-1)
        chosen[done] = end
        ids[rows, at] = chosen
        at = at + 1
        done |= chosen == end
        if bool(done.all()):
            break
    replies = [ids[row, lengths[row] : int(at[row])].tolist() for row in range(len(prompts))]
    return [reply[: reply.index(end)] if end in reply else reply for reply in replies]


@dataclass(frozen=True)
class Question:
    """A prompt, and the texts of which one must occur in a right reply."""

    turns: Turns
    user: str
    right: tuple[str, ...]


class Probes:
    """Fixed questions, drawn once with a fixed seed from data and split."""

    def __init__(self, charla: Charla, encoder: Encoder, size: int = 100, seed: int = 17) -> None:
        self.charla, self.encoder = charla, encoder
        self.generator = Generator(charla)
        rng = Random(seed)
        held = [(i.name, form) for i in charla.intents.values() if "cuento" not in i.topic for form in i.held_out_forms]
        self.forms = rng.sample(held, min(len(held), 2 * size))
        self.owners: dict[str, set[str]] = {}
        for intent in charla.intents.values():
            for form in (*intent.forms, *intent.held_out_forms):
                self.owners.setdefault(normal_form(form), set()).add(intent.name)
        self.signatures = [
            (name, frozenset(normal_form(reply).split()[:12]))
            for name, replies in self.generator.replies.items()
            for reply in replies
        ]
        names = [*sorted(HELD_OUT_NAMES), *(syllabic(rng, rng.randint(2, 3)).capitalize() for _ in range(size))][:size]
        rng.shuffle(names)
        self.copy_next = [self.copy_question(rng, name, 0) for name in names]
        self.copy_later = [self.copy_question(rng, name, 1) for name in names]
        capitals = charla.tables["capital_de_pais"]
        templates = capitals.held_out_forms or capitals.forms
        self.capitals = [
            Question([], fill(rng.choice(templates), row), (row["capital"],)) for row in capitals.rows[: size // 2]
        ]
        self.sums = [
            Question([], rng.choice(("¿Cuánto es {} más {}?", "cuanto es {} + {}")).format(a, b), (f"Son {a + b}",))
            for a, b in ((rng.randint(0, 12), rng.randint(0, 12)) for _ in range(size // 2))
        ]

    def copy_question(self, rng: Random, name: str, between: int) -> Question:
        told = facts()["nombre"]
        turns = [(fill(rng.choice(told.says[:10]), {"x": name}), fill(rng.choice(told.heard), {"x": name}))]
        for _ in range(between):
            turns += self.generator.single_short(rng)
        return Question(turns, rng.choice(told.asks[:20]), (name,))

    def share_right(self, model: PretrainGPTJ, questions: list[Question], max_new_tokens: int = 16) -> float:
        prompts = [self.encoder.prompt(question.turns, question.user) for question in questions]
        replies = greedy(model, prompts, max_new_tokens, self.encoder.end)
        right = 0
        for question, ids in zip(questions, replies, strict=True):
            text = self.encoder.pieces.decode(ids)
            right += any(re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text) is not None for answer in question.right)
        return right / max(len(questions), 1)

    def nearest_intent(self, reply: str) -> str:
        """The intent one of whose replies begins most like this one (shared words among the first twelve)."""
        words = frozenset(normal_form(reply).split()[:12])
        return max(self.signatures, key=lambda known: len(words & known[1]) / (len(words | known[1]) + 1e-9))[0]

    def intent_accuracy(self, model: PretrainGPTJ, forms: list[tuple[str, str]]) -> float:
        rng = Random(5)
        asked = [(name, form, fill(form, self.generator.slots(rng, self.charla.intents[name]))) for name, form in forms]
        replies = greedy(model, [self.encoder.prompt([], text) for _, _, text in asked], 20, self.encoder.end)
        right = 0
        for (name, form, _), ids in zip(asked, replies, strict=True):
            right += self.nearest_intent(self.encoder.pieces.decode(ids)) in self.owners.get(normal_form(form), {name})
        return right / max(len(forms), 1)

    @torch.no_grad()
    def first_tokens_loss(self, model: PretrainGPTJ, dialogues: list[Turns], width: int = 256) -> tuple[float, float]:
        """-> (loss of the first three tokens of the replies, loss of all their tokens), nats a token, on held-out
        dialogues.
        """
        first = rest = 0.0
        num_first = num_rest = 0
        for turns in dialogues:
            ids, weights = self.encoder.dialogue(turns, width)
            logits = model(torch.tensor([ids[:-1]], device=model.cos.device))[0].cpu()
            losses = F.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none")
            begun = 0
            for i, weight in enumerate(weights[1:]):
                begun = begun + 1 if weight else 0
                if weight:
                    rest, num_rest = rest + losses[i].item(), num_rest + 1
                if weight and begun <= 3:
                    first, num_first = first + losses[i].item(), num_first + 1
        return first / max(num_first, 1), rest / max(num_rest, 1)

    def measure(self, model: PretrainGPTJ) -> dict[str, float]:
        """All figures of one checkpoint; the model is left in training mode."""
        model.eval()
        first, whole = self.first_tokens_loss(model, self.charla.held_out_dialogues[:40])
        trained = [(name, reading(Random(name), self.charla.intents[name].forms[0])) for name, _ in self.forms[:60]]
        figures = {
            "intent_held_out": self.intent_accuracy(model, self.forms),
            "intent_trained": self.intent_accuracy(model, trained),
            "copy_next": self.share_right(model, self.copy_next),
            "copy_later": self.share_right(model, self.copy_later),
            "capitals": self.share_right(model, self.capitals),
            "sums": self.share_right(model, self.sums),
            "first_tokens_loss": first,
            "dialogue_loss": whole,
        }
        model.train()
        return figures
