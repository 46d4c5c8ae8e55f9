"""Documents packed into rows: ids, restarted positions, document numbers, and which positions carry how much loss.

Batch i of a stage depends on the seed, the data and i alone, so a resumed run reads on exactly where it stopped. A
document never crosses a row and never sees another one; a dialogue's loss lies on the assistant's tokens, with more
weight on the first of each reply, because they decide *which* reply is given.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from random import Random

import sentencepiece
import torch
from torch import Tensor

from model.user_text import clean
from training.pretrain.charla import Charla, Turns
from training.pretrain.dialogues import Generator, Mix
from training.pretrain.tokenizer import ASSISTANT, USER

Document = tuple[list[int], list[float]]  # ids, and the weight of the loss on each id as a target

FIRST_TOKENS, FIRST_WEIGHT = 4, 2.5
OPENING_TOKENS = 6  # of a reply: by them 98 % of the written replies can be told apart
BUCKET = 1024  # loss positions are padded to a multiple, so that the compiled head sees few shapes
SOURCE_WEIGHTS = {"wiki": 1.0, "mimesis": 5.0, "stories": 6.0, "gnome-help": 0.4, "charla": 8.0}


@dataclass(frozen=True)
class Stage:
    """A named part of the curriculum."""

    name: str
    mix: Mix


COPY = Stage("copy", Mix(drill=0.35, single=0.45, prose=0.20))
TALK = Stage("talk", Mix(drill=0.10, single=0.23, opening=0.33, talk=0.18, written=0.11, prose=0.05))
FINAL = Stage("final", Mix(drill=0.09, single=0.23, opening=0.33, talk=0.22, written=0.13))
STAGES = {stage.name: stage for stage in (COPY, TALK, FINAL)}


@dataclass
class Batch:
    """input_ids, position_ids, documents (B, T); positions, labels (P,) int64 and weights (P,) float32 of the targets,
    flat over B * T.
    """

    input_ids: Tensor
    position_ids: Tensor
    documents: Tensor
    positions: Tensor
    labels: Tensor
    weights: Tensor
    num_tokens: int

    def to(self, device: str) -> Batch:
        return replace(self, **{name: value.to(device) for name, value in vars(self).items() if name != "num_tokens"})


class Encoder:
    """Turns and prose -> ids with loss weights; the same ids as `model.conversation.render` gives (a test holds them
    equal).
    """

    def __init__(self, model_file: Path) -> None:
        self.pieces = sentencepiece.SentencePieceProcessor(model_file=str(model_file))
        self.user, self.assistant = self.pieces.piece_to_id(USER), self.pieces.piece_to_id(ASSISTANT)
        self.end, self.bos, self.pad = self.pieces.eos_id(), self.pieces.bos_id(), self.pieces.pad_id()
        self.vocab_size: int = self.pieces.vocab_size()

    def text(self, text: str) -> list[int]:
        return self.pieces.encode(text)

    def prompt(self, turns: Turns, user: str) -> list[int]:
        """The ids before a reply to `user`, after `turns`."""
        return [*self.dialogue(turns, 10**6)[0], self.user, *self.text(clean(user)), self.assistant]

    def dialogue(self, turns: Turns, longest: int) -> Document:
        """Whole turns from the first on, as many as fit in `longest` ids (at least one, cut if need be), cleaned as the
        chat's are.
        """
        ids: list[int] = []
        weights: list[float] = []
        for user, reply in turns:
            asked = [self.user, *self.text(clean(user)), self.assistant]
            answered = [*self.text(clean(reply)), self.end]
            if ids and len(ids) + len(asked) + len(answered) > longest:
                break
            ids += asked + answered
            weights += [0.0] * len(asked) + [FIRST_WEIGHT if i < FIRST_TOKENS else 1.0 for i in range(len(answered))]
        return ids[:longest], weights[:longest]

    def prose(self, text: str) -> Document:
        ids = [self.bos, *self.text(text)]
        return ids, [0.0] + [1.0] * (len(ids) - 1)


class Prose:
    """Windows of encoded documents, drawn in proportion to their length and their source's weight."""

    def __init__(self, encoder: Encoder, sources: dict[str, list[str]]) -> None:
        self.encoded = [encoder.prose(text) for texts in sources.values() for text in texts]
        lengths = [SOURCE_WEIGHTS.get(name, 1.0) for name, texts in sources.items() for _ in texts]
        self.cumulative = list(
            accumulate(weight * len(ids) for weight, (ids, _) in zip(lengths, self.encoded, strict=True))
        )

    def draw(self, rng: Random, longest: int) -> Document:
        ids, weights = self.encoded[bisect_left(self.cumulative, rng.random() * self.cumulative[-1])]
        start = rng.randrange(0, len(ids) - longest // 2, longest // 2) if len(ids) > longest else 0
        return ids[start : start + longest], [0.0, *weights[start + 1 : start + longest]]


class Stream:
    """Deals the batches of a run."""

    def __init__(self, encoder: Encoder, charla: Charla, prose: dict[str, list[str]], seed: int) -> None:
        self.encoder, self.seed = encoder, seed
        self.generator = Generator(charla)
        own = [f"{title}\n{text}" for title, text in charla.stories]
        own += ["\n".join(f"—{text}" for turn in turns for text in turn) for turns in charla.dialogues[::2]]
        self.prose = Prose(encoder, {**prose, "charla": own})
        rng = Random(seed)
        self.mean_length = {
            kind: sum(len(self.document(rng, kind, 256)[0]) for _ in range(200)) / 200 for kind in vars(Mix())
        }

    def document(self, rng: Random, kind: str, longest: int) -> Document:
        if kind == "prose":
            return self.prose.draw(rng, longest - 16 * rng.randrange(4))
        ids, weights = self.encoder.dialogue(self.generator.dialogue(rng, kind), longest)
        if kind == "opening":
            end = next((i for i, weight in enumerate(weights) if weight), longest) + OPENING_TOKENS
            return ids[:end], weights[:end]
        return ids, weights

    def batch(self, index: int, stage: Stage, num_tokens: int = 6144, row: int = 256) -> Batch:
        """Batch `index` of the run. Every eighth has rows twice as long, so that late positions are trained too."""
        rng = Random(f"{self.seed}/{stage.name}/{index}")
        row = row * 2 if index % 8 == 7 else row
        kinds = [kind for kind, share in vars(stage.mix).items() if share]
        shares = list(accumulate(getattr(stage.mix, kind) / self.mean_length[kind] for kind in kinds))
        rows: list[list[Document]] = [[] for _ in range(num_tokens // row)]
        room = [row + 1] * len(rows)
        misses = 0
        while misses < 12:
            document = self.document(rng, rng.choices(kinds, cum_weights=shares)[0], row)
            place = next((i for i, left in enumerate(room) if left >= len(document[0])), None)
            if place is None:
                misses += 1  # what does not fit is dropped: carrying it over would tie batches together
                continue
            rows[place].append(document)
            room[place] -= len(document[0])
        return pack(rows, row, self.encoder.pad)


def pack(rows: list[list[Document]], row: int, pad: int) -> Batch:
    """Documents of each row, together at most row + 1 ids -> tensors. A document's first id is never a target, its last
    never an input.
    """
    num_rows = len(rows)
    input_ids = torch.full((num_rows, row), pad, dtype=torch.long)
    position_ids = torch.zeros(num_rows, row, dtype=torch.long)
    documents = torch.full((num_rows, row), -1, dtype=torch.long)
    positions: list[int] = []
    labels: list[int] = []
    weights: list[float] = []
    for b, dealt in enumerate(rows):
        at = 0
        for number, (ids, worth) in enumerate(dealt):
            end = min(at + len(ids), row)
            input_ids[b, at:end] = torch.tensor(ids[: end - at])
            position_ids[b, at:end] = torch.arange(end - at)
            documents[b, at:end] = number
            for i in range(len(ids) - 1):
                if worth[i + 1]:
                    positions.append(b * row + at + i)
                    labels.append(ids[i + 1])
                    weights.append(worth[i + 1])
            at += len(ids)
    count = sum(len(ids) for dealt in rows for ids, _ in dealt)
    spare = -len(positions) % BUCKET
    return Batch(
        input_ids,
        position_ids,
        documents,
        torch.tensor(positions + [0] * spare),
        torch.tensor(labels + [pad] * spare),
        torch.tensor(weights + [0.0] * spare),
        count,
    )
