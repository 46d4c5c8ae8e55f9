"""The generator: intents, tables, facts, sums and the graph of follow-ups become dialogues of 1-8 turns.

A dialogue is a function of its random generator alone, so batch i of a run is the same after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from random import Random

from training.pretrain.charla import Charla, Intent, Turns, fill, said
from training.pretrain.drills import Told, calculation, facts, person, place, told, unknowable
from training.pretrain.noise import noisy
from training.pretrain.weights import intent_weight, on_topic, table_weight

NEEDS_CONTEXT = ("saber_mi_nombre",)  # true only while the name has not been told
STORY_ASKS = (
    "Cuéntame un cuento",
    "¿Me cuentas una historia?",
    "Cuéntame una historia corta",
    "Quiero un cuento",
    "Un cuento, por favor",
)
STORY_CAP = 40
REACTION_TOPICS = ("cortesia", "reacciones", "respuestas_breves")  # said at any time: "gracias", "jaja", "vale"
# Short questions that lean on the last one: "¿y la de Portugal?"
ELLIPSES = {
    "capital_de_pais": ("¿Y la {de_pais}?", "¿Y {de_pais}?", "¿y la capital {de_pais}?", "y la {sin_de_pais}?"),
    "idioma_de_pais": ("¿Y en {pais}?", "y en {sin_pais}?"),
    "moneda_de_pais": ("¿Y en {pais}?", "¿Y la {de_pais}?"),
    "continente_de_pais": ("¿Y {pais}?",),
    "que_come_animal": ("¿Y {a}?", "y {sin_a}?"),
    "donde_vive_animal": ("¿Y {a}?", "y {sin_a}?"),
    "contrario": ("¿Y de «{a}»?", "¿Y el de {a}?"),
    "dias_del_mes": ("¿Y {m}?",),
}
NAMING_INTENTS = {
    "presentacion_nombre": "nombre",
    "presentacion_y_tu": "nombre",
    "llamame": "nombre",
    "soy_de_ciudad": "ciudad",
}


@dataclass(frozen=True)
class Mix:
    """Shares of what a stage of the training generates; they need not add up to one."""

    drill: float = 0.0  # tell a fact, ask for it next turn or later
    single: float = 0.0  # one question, one reply
    opening: float = 0.0  # one question and how its reply begins: which reply to give is the hard part
    talk: float = 0.0  # walks over the graph, 2-8 turns, facts remembered
    written: float = 0.0  # hand-written dialogues
    prose: float = 0.0  # Spanish prose (see corpus.py); stories of ours count here too


class Generator:
    """Deals dialogues from the written data; holds no random state of its own."""

    def __init__(self, charla: Charla) -> None:
        self.charla = charla
        self.replies = {name: on_topic(intent) for name, intent in charla.intents.items()}
        self.names = list(charla.intents)
        self.intent_weights = list(accumulate(map(intent_weight, charla.intents.values())))
        self.tables = list(charla.tables.values())
        self.table_weights = list(accumulate(map(table_weight, self.tables)))
        self.greetings = [
            n for n, i in charla.intents.items() if i.topic == "saludos" and not n.startswith(("bien", "reg", "mal"))
        ]
        self.farewells = [n for n, i in charla.intents.items() if i.topic in ("despedidas", "cortesia")]
        self.reactions = [n for n, i in charla.intents.items() if i.topic in REACTION_TOPICS]
        self.stories = sorted((text for _, text in charla.stories), key=len)[:STORY_CAP]

    # --- one turn -------------------------------------------------------------------------------------------------

    def slots(self, rng: Random, intent: Intent) -> dict[str, str]:
        values = {name: rng.choice(choices) for name, choices in intent.slots.items()}
        if "nombre" in values:
            values["nombre"] = person(rng)
        if "ciudad" in values:
            values["ciudad"] = place(rng)
        return values

    def intent_turn(self, rng: Random, name: str) -> tuple[tuple[str, str], dict[str, str]]:
        intent = self.charla.intents[name]
        slots = self.slots(rng, intent)
        keep = slots.get("nombre", slots.get("ciudad", ""))
        asked = said(rng, intent.forms, slots)
        typed = noisy(rng, asked, keep=keep if keep in asked else "", loose=not slots)
        return (typed, fill(rng.choice(self.replies[name]), slots)), slots

    def table_turns(self, rng: Random, more: float = 0.0) -> Turns:
        """A question of a table, and with probability `more` a short one that leans on it."""
        table = rng.choices(self.tables, cum_weights=self.table_weights)[0]
        forms = [table.forms]
        if table.name in ELLIPSES and rng.random() < more:
            forms.append(list(ELLIPSES[table.name]))
        turns = []
        for asked in forms:
            row = table.rows[int(len(table.rows) * rng.random() ** 1.7)]  # the first rows are the best known
            turns.append((noisy(rng, said(rng, asked, row), 0.4), fill(rng.choice(table.replies[:3]), row)))
        return turns

    def story_turn(self, rng: Random) -> tuple[str, str]:
        return noisy(rng, rng.choice(STORY_ASKS)), rng.choice(self.stories)

    def any_intent(self, rng: Random) -> str:
        return rng.choices(self.names, cum_weights=self.intent_weights)[0]

    def single(self, rng: Random) -> Turns:
        draw = rng.random()
        if draw < 0.70:
            return [self.intent_turn(rng, self.any_intent(rng))[0]]
        if draw < 0.83:
            return self.table_turns(rng)
        if draw < 0.94:
            return [calculation(rng)]
        if draw < 0.985 or not self.stories:
            return [unknowable(rng)]
        return [self.story_turn(rng)]

    def opening(self, rng: Random) -> Turns:
        """An intent's turn; the batches cut its reply after the first tokens."""
        return [self.intent_turn(rng, self.any_intent(rng))[0]]

    # --- whole dialogues ------------------------------------------------------------------------------------------

    def drill(self, rng: Random) -> Turns:
        """One to three facts told and asked for, in the next turn or with other turns between."""
        turns: Turns = []
        open_facts: list[Told] = []
        for _ in range(rng.choices((1, 2, 3), (6, 3, 1))[0]):
            fact = told(rng)
            if fact.fact.kind not in {known.fact.kind for known in open_facts}:
                turns.append(fact.statement(rng))
                if fact.fact.corrects and rng.random() < 0.12:
                    fact = Told(fact.fact, fact.fact.value(rng))
                    turns.append(fact.correction(rng))
                open_facts.append(fact)
        for _ in range(rng.choices((0, 1, 2), (5, 3, 2))[0]):
            turns += self.single_short(rng)
        rng.shuffle(open_facts)
        turns += [fact.recall(rng) for fact in open_facts]
        if rng.random() < 0.25:
            turns += self.single_short(rng)
            turns.append(rng.choice(open_facts).recall(rng))
        return turns

    def single_short(self, rng: Random) -> Turns:
        """A turn between; none whose reply is long, or that would be wrong while a name is known."""
        while True:
            name = self.any_intent(rng)
            if name in NEEDS_CONTEXT or name in NAMING_INTENTS:
                continue
            turn, _ = self.intent_turn(rng, name)
            if len(turn[1]) < 140:
                return [turn]

    def talk(self, rng: Random) -> Turns:
        """A walk over the graph of follow-ups, mixed with a greeting, facts that come back, tables, sums, a goodbye."""
        length = rng.choices((2, 3, 4, 5, 6, 7, 8), (20, 20, 18, 14, 12, 9, 7))[0]
        turns: Turns = []
        known: dict[str, Told] = {}
        asked: set[str] = set()
        last = ""
        if rng.random() < 0.4:
            last = rng.choice(self.greetings)
            turns.append(self.intent_turn(rng, last)[0])
        while len(turns) < length:
            pending = [kind for kind in known if kind not in asked]
            draw = rng.random()
            if pending and draw < 0.35:
                kind = rng.choice(pending)
                asked.add(kind)
                turns.append(known[kind].recall(rng))
            elif draw < 0.47:
                fact = told(rng)
                if fact.fact.kind in known:
                    continue
                known[fact.fact.kind] = fact
                turns.append(fact.statement(rng))
            elif draw < 0.57:
                turns += self.table_turns(rng, more=0.35)
            elif draw < 0.62:
                turns.append(calculation(rng))
            elif draw < 0.65:
                turn = unknowable(rng)
                if not known:
                    turns.append(turn)
            else:
                last = self.next_intent(rng, last, bool(len(turns) >= length - 1))
                if (last in NEEDS_CONTEXT and "nombre" in known) or NAMING_INTENTS.get(last, "") in known:
                    continue
                turn, slots = self.intent_turn(rng, last)
                if turn[1] in {reply for _, reply in turns}:
                    continue
                turns.append(turn)
                self.remember(last, slots, known)
        return turns[:length]

    def next_intent(self, rng: Random, last: str, closing: bool) -> str:
        if closing and rng.random() < 0.3:
            return rng.choice(self.farewells)
        if rng.random() < 0.12:
            return rng.choice(self.reactions)
        after = self.charla.intents[last].follow_ups if last else []
        follow_ups = [name for name in after if name in self.charla.intents]
        return rng.choice(follow_ups) if follow_ups and rng.random() < 0.5 else self.any_intent(rng)

    def remember(self, name: str, slots: dict[str, str], known: dict[str, Told]) -> None:
        kind = NAMING_INTENTS.get(name, "")
        if value := slots.get(kind):
            known[kind] = Told(facts()[kind], value)

    def written(self, rng: Random) -> Turns:
        """A hand-written dialogue with light noise; half of them start at a later turn."""
        turns = rng.choice(self.charla.dialogues)
        start = rng.randrange(len(turns)) if rng.random() < 0.3 else 0
        return [(noisy(rng, user, 0.25), reply) for user, reply in turns[start:]]

    def dialogue(self, rng: Random, kind: str) -> Turns:
        """`kind` is a field of Mix other than prose."""
        deal = {"drill": self.drill, "single": self.single, "opening": self.opening, "talk": self.talk}
        return (deal | {"written": self.written})[kind](rng)
