"""Which sampling settings suit the embedded model: right intent, copied names, unknown words, loops, variety.

    python -m benchmarks.charla_sampling [--model embedded] [--forms 120]

Prompts are ways of asking that training held out; the chosen setting is written into generation_config.json by
`training/pretrain/export.py`. The table in docs/figures.md comes from here.
"""

import argparse
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from random import Random

from model import GPTJ8bitForCausalLM, Tokenizer, hub
from model.conversation import Message, render
from model.engine.engine import Engine
from model.engine.sampling import SamplingParams
from model.prompt_formats import get_format
from training.pretrain import charla
from training.pretrain.batches import Encoder
from training.pretrain.charla import fill, normal_form
from training.pretrain.probes import Probes

SETTINGS = (
    SamplingParams(temperature=0.0),
    SamplingParams(temperature=0.2, top_p=0.9),
    SamplingParams(temperature=0.3, top_p=0.9),
    SamplingParams(temperature=0.3, top_p=0.9, repetition_penalty=1.05),
    SamplingParams(temperature=0.5, top_p=0.9),
    SamplingParams(temperature=0.5, top_p=0.9, repetition_penalty=1.05),
    SamplingParams(temperature=0.7, top_p=0.95),
)
AT_ONCE = 16
WORD = re.compile(r"[^\W\d_]+")


@dataclass
class Row:
    """Figures of one setting, as shares of the replies."""

    intent: float
    copied: float
    unknown_words: float
    repeats: float
    unfinished: float
    distinct_2: float


class Study:
    """The model, the prompts, and the words that a person wrote."""

    def __init__(self, name: str, num_forms: int) -> None:
        folder = hub.resolve(name)
        self.tokenizer = Tokenizer.from_pretrained(folder)
        model = GPTJ8bitForCausalLM.from_pretrained(folder)
        self.format = get_format(model.config.prompt_format)
        self.engine = Engine(model, self.tokenizer)
        data = charla.load()
        self.probes = Probes(data, Encoder(Path(self.tokenizer.files()[0])))
        rng = Random(5)
        self.forms = [
            (name, form, fill(form, self.probes.generator.slots(rng, data.intents[name])))
            for name, form in self.probes.forms[:num_forms]
        ]
        texts = [reply for intent in data.intents.values() for reply in intent.replies]
        texts += [text for turns in data.dialogues for turn in turns for text in turn]
        texts += [value for table in data.tables.values() for row in table.rows for value in row.values()]
        self.written = {word.lower() for text in texts for word in WORD.findall(text)}

    def reply(self, messages: list[Message], params: SamplingParams, seed: int) -> tuple[str, bool]:
        """-> (text, whether it came to an end by itself)."""
        ids = render(messages, self.format, self.tokenizer, reply=True).ids
        settings = {name: getattr(params, name) for name in ("temperature", "top_p", "top_k", "repetition_penalty")}
        stops = {"stop_ids": self.format.stop_ids(self.tokenizer), "stop_strings": self.format.stop_strings}
        pieces = list(self.engine.submit(ids, SamplingParams(**settings, max_new_tokens=160, seed=seed), **stops))
        return "".join(piece.text for piece in pieces).strip(), pieces[-1].finish == "stop"

    def copied(self, params: SamplingParams, trials: int) -> float:
        def comes_back(seed: int) -> bool:
            question = self.probes.copy_next[seed]
            told, heard = question.turns[0]
            messages = [Message("user", told), Message("assistant", heard), Message("user", question.user)]
            return question.right[0] in self.reply(messages, params, seed)[0]

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return sum(pool.map(comes_back, range(trials))) / trials

    def row(self, params: SamplingParams) -> Row:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            asked = ([Message("user", text)] for _, _, text in self.forms)
            replies = list(pool.map(lambda messages, seed: self.reply(messages, params, seed), asked, count()))
        right = unknown = repeats = 0
        pairs = []
        for (name, form, text), (reply, _) in zip(self.forms, replies, strict=True):
            owners = self.probes.owners.get(normal_form(form), {name})
            right += self.probes.nearest_intent(reply) in owners
            words = [word.lower() for word in WORD.findall(reply)]
            unknown += not set(words) <= self.written | {word.lower() for word in WORD.findall(text)}
            runs = [tuple(words[i : i + 4]) for i in range(len(words) - 3)]
            repeats += len(runs) != len(set(runs))
            pairs += list(pairwise(words))
        n = len(replies)
        unfinished = sum(not ended for _, ended in replies)
        distinct = len(set(pairs)) / max(len(pairs), 1)
        return Row(right / n, self.copied(params, 50), unknown / n, repeats / n, unfinished / n, distinct)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--forms", type=int, default=120)
    options = parser.parse_args()
    study = Study(options.model, options.forms)
    print(
        "| temperature | top-p | penalty | right intent | name copied | unknown word | repeats | no end | distinct-2 |"
    )
    print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for params in SETTINGS:
        figures = " | ".join(f"{value:.3f}" for value in vars(study.row(params)).values())
        print(f"| {params.temperature} | {params.top_p} | {params.repetition_penalty} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
