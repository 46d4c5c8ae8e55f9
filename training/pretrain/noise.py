"""How people really type: no accents, no opening marks, lower case, a slip of the finger.

Only the user's side is made noisy; replies stay clean.
"""

from __future__ import annotations

import re
import unicodedata
from random import Random

from training.pretrain.charla import held_out

OPENERS = (
    *("Hola, ", "Oye, ", "Buenas, ", "Perdona, ", "Oye Tertulia, ", "Una pregunta: ", "Tertulia, ", "Disculpa, "),
    *("Bueno, ", "Pues ", "A ver, ", "Y ", "Por cierto, ", "Por favor, ", "Mira, ", "Entonces, ", "Ey, ", "Che, "),
    *("Una cosa, ", "Oiga, ", "Amiga, ", "Jaja, ", "Ay, ", "Uf, ", "Mmm, ", "Otra cosa: ", "Ya, pero ", "Vale, "),
    *("Te cuento: ", "Fíjate, ", "La verdad, ", "Pues mira, ", "Sabes qué, ", "Cambiando de tema, ", "Órale, "),
    *("Hola otra vez. ", "Acabo de llegar a casa. ", "Estoy en el bus. ", "Antes de dormir: ", "Tengo una duda. "),
    *("Ando con el café en la mano. ", "Perdón por la hora. ", "Mi hermana dice que te pregunte. ", "Ya que estás, "),
)
CLOSERS = (
    *(" por favor", " porfa", ", Tertulia", ", gracias", " eh", " jaja", " :)", " ya", "...", "!", " ahora"),
    *(", ¿no?", ", la verdad", ", te lo juro", " jeje", ", por curiosidad", ", si puede ser", ", que tengo prisa"),
    *(", es para un amigo", ", así entre nosotros", " 😅", " 😊", " xd", ", que estoy aburrida", ", dime", ", anda"),
    *(", que no me acuerdo", ", me lo preguntan mucho", " y perdona la molestia", ", si no es molestia", " pues"),
)
NEIGHBOURS = {
    **{"q": "wa", "w": "qe", "e": "wr", "r": "et", "t": "ry", "a": "sq", "s": "ad", "d": "sf", "o": "ip"},
    **{"i": "uo", "n": "mb", "l": "ko", "c": "xv"},
}
CHAT_SPELLING = {"que": "q", "qué": "q", "porque": "pq", "también": "tmb", "bien": "bn", "estás": "stas", "por": "x"}

# Words that another speaker, or the same one tomorrow, would use in the same place; tú, vos and usted among them.
_SAME = (
    *(
        "dime decime dígame",
        "cuéntame contame cuénteme",
        "puedes podés puede",
        "tienes tenés tiene",
        "sabes sabés sabe",
    ),
    *("eres sos", "quieres querés quiere", "crees creés cree", "piensas pensás piensa", "conoces conocés conoce"),
    *("quiero quisiera necesito", "recomiéndame recomendame recomiéndeme", "explícame explicame explíqueme"),
    *("dame deme pásame", "ayúdame ayudame ayúdeme", "estoy ando sigo", "muy bastante súper tan", "mucho bastante"),
    *("madre mamá", "padre papá", "abuela abuelita", "abuelo abuelito", "hijo niño", "hija niña", "novio pareja"),
    *("novia pareja", "amigo colega", "coche carro auto", "móvil celular teléfono", "ordenador computadora compu"),
    *("patatas papas", "dinero plata", "trabajo curro chamba", "perro perrito", "gato gatito", "contento feliz alegre"),
    *(
        "contenta feliz alegre",
        "bonito lindo precioso",
        "bonita linda preciosa",
        "enfadado enojado",
        "enfadada enojada",
    ),
    *("cansado agotado", "cansada agotada", "hoy ahora últimamente", "ahora hoy", "rápido veloz", "fácil sencillo"),
    *(
        "fácil sencilla",
        "cena comida",
        "película peli",
        "vacaciones viaje",
        "empezar comenzar",
        "hablar charlar conversar",
    ),
    *(
        "gracias graciass",
        "broma chiste",
        "historia cuento",
        "regalar comprar",
        "piso casa apartamento",
        "profe profesor",
    ),
)
SYNONYMS: dict[str, tuple[str, ...]] = {}
for _group in _SAME:
    for _word in _group.split():
        _others = tuple(other for other in _group.split() if other != _word)
        SYNONYMS[_word] = SYNONYMS.get(_word, ()) + _others


def strip_marks(character: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", character) if unicodedata.category(c) != "Mn")


def without_accents(text: str) -> str:
    """Drops accents but keeps the letter ñ, as most who type in a hurry do."""
    return "".join(c if c in "ñÑ" else strip_marks(c) for c in text)


def slip(rng: Random, text: str) -> str:
    """One letter lost, doubled, swapped or hit beside; digits and capitals (names) are left alone."""
    if len(text) < 6:
        return text
    i = rng.randrange(1, len(text) - 1)
    if not text[i].isalpha() or text[i].isupper():
        return text
    kind = rng.random()
    if kind < 0.35:
        return text[:i] + text[i + 1 :]
    if kind < 0.6 and text[i + 1].isalpha() and text[i + 1].islower():
        return text[:i] + text[i + 1] + text[i] + text[i + 2 :]
    if kind < 0.8:
        return text[:i] + text[i] + text[i:]
    return text[:i] + rng.choice(NEIGHBOURS.get(text[i], text[i])) + text[i + 1 :]


def framed(rng: Random, text: str) -> str:
    """The form with an opener before it or a closer behind."""
    if rng.random() < 0.7 and len(text) < 80:
        body = text if text[:1] in "¿¡" or text.isupper() else text[:1].lower() + text[1:]
        return rng.choice(OPENERS) + body
    return text.rstrip(".") + rng.choice(CLOSERS)


def spelled_for_chat(text: str) -> str:
    return " ".join(CHAT_SPELLING.get(word, word) for word in text.split(" "))


def reworded(rng: Random, text: str, share: float = 0.4) -> str:
    """Some of the words that have a synonym replaced by one; marks and case of the first letter stay."""

    def swap(found: re.Match[str]) -> str:
        word = found.group()
        others = SYNONYMS.get(word.lower())
        if not others or rng.random() >= share:
            return word
        other = rng.choice(others)
        return other.capitalize() if word[:1].isupper() else other

    return re.sub(r"\w+", swap, text)


def without_a_word(rng: Random, text: str) -> str:
    """One word less, of long texts up to three, so that no single word decides what is meant; short ones stay whole."""
    words = text.split(" ")
    for _ in range(1 + (len(words) > 8) + (len(words) > 14)):
        if len(words) >= 4:
            del words[rng.randrange(len(words))]
    return " ".join(words)


def turned_round(rng: Random, text: str) -> str:
    """ "Hoy no, que estoy cansada" -> "Que estoy cansada, hoy no": the two sides of one of the commas change places."""
    commas = [found.start() for found in re.finditer(", ", text)]
    if not commas or text[-1:] in "?!":
        return text
    at = rng.choice(commas)
    front, back = text[:at], text[at + 2 :].rstrip(".")
    return f"{back[:1].upper()}{back[1:]}, {front[:1].lower()}{front[1:]}"


def put_back(text: str, keep: str) -> str | None:
    """`text` with `keep` as it was written, wherever a change of case or accents left it; None if it is gone."""
    if keep in text:
        return text
    for plain, wanted in ((text.lower(), keep.lower()), (without_accents(text).lower(), without_accents(keep).lower())):
        at = plain.find(wanted)
        if at >= 0:
            return text[:at] + keep + text[at + len(keep) :]
    return None


def noisy(rng: Random, text: str, share: float = 0.6, keep: str = "", loose: bool = False) -> str:
    """`text` as somebody might type it, changed in `share` of the cases; the words in `keep` stay as they are.

    `loose`: words may also be replaced by synonyms or left out, for texts in which no word is a value to answer with.
    Never returns a held-out form: a change that would make one is not made.
    """
    if rng.random() >= share:
        return text
    out = reworded(rng, text) if loose and rng.random() < 0.5 else text
    if loose and rng.random() < 0.15:
        out = turned_round(rng, out)
    if loose and rng.random() < 0.3:
        out = without_a_word(rng, out)
    if rng.random() < 0.22:
        out = framed(rng, out)
    if rng.random() < 0.6:
        out = out.lower()
    if rng.random() < 0.55:
        out = without_accents(out)
    if rng.random() < 0.75:
        out = out.replace("¿", "").replace("¡", "")
    if rng.random() < 0.4:
        out = out.rstrip(".?! ")
    if rng.random() < 0.06:
        out = spelled_for_chat(out)
    if rng.random() < 0.2:
        out = slip(rng, out)
    kept = put_back(out, keep)
    return text if kept is None or not kept.strip() or held_out(kept) else kept
