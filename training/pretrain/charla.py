"""The written dialogue data (`charla/*.jsonl`) and its held-out split.

What is held out is a *way of asking*, not a sample: a user form (or a table's question template) whose normalised
text falls in the hashed share is never trained on, under whichever intent it stands, and neither is a dialogue that
contains it. The hash makes the split stable when data are added. Forms of one or two words ("hola", "gracias") are
the thing itself and always trained.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

FOLDER = Path(__file__).parent / "charla"
HELD_OUT_PERMILLE = 80
HELD_OUT_DIALOGUES_PERMILLE = 40
SLOT = re.compile(r"\{\w+\}")
ALTERNATIVES = re.compile(r"\(([^()]*\|[^()]*)\)")  # "(fatal|hecho polvo)"

Turns = list[tuple[str, str]]  # (what the user says, what Tertulia answers)


def normal_form(text: str) -> str:
    """Lower case, no accents, no punctuation: two forms that normalise alike are the same form to the split."""
    plain = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
    return " ".join(re.sub(r"[^a-z0-9{}_+=]+", " ", plain).split())


def bucket(text: str) -> int:
    """A number in 0..999 that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 1000


@cache
def reserved() -> frozenset[str]:
    """Digests of the prompts that benchmarks/charla_eval.py asks: they are never trained on, whatever their length."""
    return frozenset((FOLDER / "reserved.txt").read_text(encoding="ascii").split())


def digest(normal: str) -> str:
    return hashlib.sha256(normal.encode()).hexdigest()[:16]


def held_out(form: str) -> bool:
    """Whether this way of asking is kept for measuring; decided by its normal form alone."""
    normal = SLOT.sub("{}", normal_form(form))
    if digest(normal) in reserved():
        return True
    return len(normal.replace("{}", " ").split()) >= 3 and bucket(normal) < HELD_OUT_PERMILLE


def fill(text: str, slots: dict[str, str]) -> str:
    """Puts the slots' values in; raises KeyError for a slot that has no value."""
    return SLOT.sub(lambda m: str(slots[m.group()[1:-1]]), text)


def said(rng: Random, forms: Sequence[str], slots: dict[str, str], tries: int = 20) -> str:
    """One of the forms, read and filled, if possible none that is held out."""
    for _ in range(tries):
        text = fill(reading(rng, rng.choice(forms)), slots)
        if not held_out(text):
            break
    return text


@dataclass
class Intent:
    """Ways to say one thing, and the replies that fit every one of them."""

    name: str
    topic: str
    forms: list[str]
    replies: list[str]
    follow_ups: list[str]
    slots: dict[str, list[str]]
    held_out_forms: list[str] = field(default_factory=list)


@dataclass
class Table:
    """Question and answer templates over rows of facts."""

    name: str
    forms: list[str]
    replies: list[str]
    rows: list[dict[str, str]]
    held_out_forms: list[str] = field(default_factory=list)


@dataclass
class Charla:
    """Everything written for the project, split. `sources` is the sha256 of every file, for the run's manifest."""

    intents: dict[str, Intent]
    tables: dict[str, Table]
    dialogues: list[Turns]
    held_out_dialogues: list[Turns]
    stories: list[tuple[str, str]]
    sources: dict[str, str]


def reading(rng: Random, form: str, tries: int = 20) -> str:
    """ "(Oye|Mira), estoy (mal|fatal)(| hoy)" -> one of its readings, if possible none that is held out."""
    if "|" not in form:
        return form
    for _ in range(tries):
        chosen = ALTERNATIVES.sub(lambda found: rng.choice(found.group(1).split("|")), form)
        chosen = re.sub(r" +(?=[ ,.?!;:])", "", chosen).strip()  # what an empty alternative left behind
        if not held_out(chosen):
            break
    return chosen


def split_forms(forms: list[str]) -> tuple[list[str], list[str]]:
    """-> (trained, held out), each without repeats; when the hash would hold out every form, none is.

    A form with alternatives is trained as a whole or held out as a whole; of a held-out one, a reading is kept that the
    hash holds out too, so that no other form can come to say the same.
    """
    forms = list(dict.fromkeys(forms))
    trained = [form for form in forms if not held_out(form) and not held_out(reading(Random(form), form))]
    if not trained:
        return forms, []
    left = set(forms).difference(trained)
    return trained, [text for form in forms if form in left if (text := measured(form))]


def measured(form: str) -> str:
    """The reading by which a held-out form is measured, "" if none of those tried is held out by its own text."""
    rng = Random(form)
    readings = (reading(rng, form, tries=1) for _ in range(60))
    return next((text for text in readings if held_out(text)), "")


def records(folder: Path, kind: str) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob(f"{kind}*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line.strip():
                try:
                    yield json.loads(line)
                except json.JSONDecodeError as error:
                    raise ValueError(
                        f"{path.name}, line {number}: not JSON ({error}); mend or remove the line"
                    ) from None


def pairs(turns: list[dict[str, str]]) -> Turns:
    """Alternating messages -> (user, assistant) pairs; a trailing or doubled message ends the dialogue."""
    out = []
    for asked, answered in zip(turns[::2], turns[1::2], strict=False):
        if asked["role"] != "user" or answered["role"] != "assistant":
            break
        out.append((asked["content"], answered["content"]))
    return out


def twins() -> dict[str, str]:
    """Intents that two writers wrote under two names -> the one whose replies stay."""
    merged: dict[str, str] = json.loads((FOLDER / "merged.json").read_text(encoding="utf-8"))
    return merged


def load_intents(folder: Path) -> dict[str, Intent]:
    """`intents*.jsonl`, then the extra ways of `forms*.jsonl` added to them; twins become one."""
    intents: dict[str, Intent] = {}
    merged = twins()
    for row in records(folder, "intents"):
        name = merged.get(row["intent"], row["intent"])
        slots = {slot: values for slot, values in (row.get("slots") or {}).items() if values}
        known = intents.setdefault(name, Intent(name, row["topic"], [], [], [], {}))
        known.forms += row["user"]
        if name == row["intent"]:
            known.topic, known.replies = row["topic"], known.replies + row["bot"]
        known.follow_ups += [merged.get(after, after) for after in row.get("next") or []]
        known.slots.update(slots)
    for row in records(folder, "forms"):
        if "intent" in row:
            name = merged.get(row["intent"], row["intent"])
            if name not in intents:
                raise ValueError(f"forms file names the intent {name!r}, which no intents file defines")
            intents[name].forms += row["user"]
    for intent in intents.values():
        usable = [form for form in intent.forms if {m[1:-1] for m in SLOT.findall(form)} <= set(intent.slots)]
        intent.forms, intent.held_out_forms = split_forms(usable)
        intent.replies = list(
            dict.fromkeys(r for r in intent.replies if {m[1:-1] for m in SLOT.findall(r)} <= set(intent.slots))
        )
    return {name: intent for name, intent in intents.items() if intent.forms and intent.replies}


def load_tables(folder: Path) -> dict[str, Table]:
    """`tables*.jsonl`, then the extra templates of `forms*.jsonl`; a template must find its slots in every row."""
    tables = {
        row["table"]: Table(row["table"], row["user"], row["bot"], row["rows"]) for row in records(folder, "tables")
    }
    for row in records(folder, "forms"):
        if "table" in row:
            if row["table"] not in tables:
                raise ValueError(f"forms file names the table {row['table']!r}, which no tables file defines")
            tables[row["table"]].forms += row["user"]
    for table in tables.values():
        known = set.intersection(*(set(row) for row in table.rows))
        table.forms, table.held_out_forms = split_forms(
            [f for f in table.forms if {m[1:-1] for m in SLOT.findall(f)} <= known]
        )
        table.replies = [r for r in table.replies if {m[1:-1] for m in SLOT.findall(r)} <= known]
    return {name: table for name, table in tables.items() if table.forms and table.replies}


def load(folder: Path = FOLDER) -> Charla:
    """Reads every jsonl file of `folder`; raises ValueError naming the file and line that is no JSON."""
    intents, tables = load_intents(folder), load_tables(folder)
    items: list[Intent | Table] = [*intents.values(), *tables.values()]
    hidden_forms = {normal_form(form) for item in items for form in item.held_out_forms}
    dialogues: list[Turns] = []
    kept: list[Turns] = []
    for row in records(folder, "dialogues"):
        turns = pairs(row["turns"])
        if not turns:
            continue
        asked = [normal_form(user) for user, _ in turns]
        hidden = any(user in hidden_forms or digest(user) in reserved() for user in asked)
        hidden = hidden or bucket(turns[0][1] + turns[-1][1]) < HELD_OUT_DIALOGUES_PERMILLE
        (kept if hidden else dialogues).append(turns)
    stories = [(row["title"], row["text"]) for row in records(folder, "stories")]
    sources = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.json*"))}
    return Charla(intents, tables, dialogues, kept, stories, sources)
