"""What is worth a small model's tokens: which intents and tables come often, and which few replies of each are learnt.

Greetings, identity, small talk, capitals and small sums are what people see; big tables and rare topics weigh less.
"""

from __future__ import annotations

from training.pretrain.charla import Intent, Table, normal_form

REPLY_CAP = 3
LONG_CAP = 2  # recipes, stories: variants of one text
OPEN_ENDED = (
    "chistes",
    "adivinanzas",
    "poemas",
    "cuentos",
    "refranes",
    "curiosidades",
    "frases bonitas",
)  # variety is the point there
OPEN_ENDED_CAP = 6
_TOPIC_WEIGHTS = {
    3.0: "saludos despedidas cortesia cumplidos presentacion identidad conversacion respuestas_breves reacciones "
    "capacidades chistes sin_acceso desconocido sentimientos aclaraciones frustracion privacidad",
    1.6: "comida aficiones casa bienestar deportes mascotas tiempo trabajo estudios música cine series libros viajes "
    "planes familia tecnología vida_diaria gustos plantas productividad decisiones juegos cuentos curiosidades meta "
    "salud idiomas malas_noticias logros amistad regalos apoyo autoestima pareja relaciones charla fiestas metas ropa "
    "celebraciones",
    0.6: "ciencia cuerpo naturaleza ciudades felicitaciones correos",
}
TOPIC_WEIGHTS = {topic: weight for weight, topics in _TOPIC_WEIGHTS.items() for topic in topics.split()}
ARITHMETIC = (
    "suma",
    "resta",
    "multiplicacion",
    "division",
    "numero_en_letras",
    "letras_en_numero",
)  # the drills do sums
TABLE_WEIGHTS = {
    "capital_de_pais": 14.0,
    "pais_de_ciudad": 2.0,
    "pais_de_capital": 2.0,
    "continente_de_pais": 2.0,
    "definicion_sustantivo": 2.0,
}
TABLE_WEIGHTS |= {
    "contrario": 1.5,
    "sonido_animal": 1.5,
    "dias_del_mes": 1.5,
    "cuanto_hay_cultura": 1.5,
    "que_come_animal": 1.5,
}
TABLE_WEIGHTS |= {
    "palabra_es_en": 0.4,
    "palabra_en_es": 0.3,
    "numero_romano": 0.2,
    "obra_de_autor": 1.0,
    "autor_a_obra": 0.3,
}


def on_topic(intent: Intent) -> list[str]:
    """The few replies worth learning, best first: short, but not bare, and sharing words with the ways of asking."""
    words = {w[:5] for form in intent.forms for w in normal_form(form).split() if len(w) > 3}

    def cost(place: int) -> float:
        reply = intent.replies[place]
        said = {w[:5] for w in normal_form(reply).split() if len(w) > 3}
        return abs(len(reply) - 60) / 50 - 0.5 * len(said & words) + 0.2 * place  # writers put the plainest reply first

    cap = OPEN_ENDED_CAP if intent.topic in OPEN_ENDED else REPLY_CAP
    best = [intent.replies[place] for place in sorted(range(len(intent.replies)), key=cost)]
    return best[: cap if len(best[0]) < 200 else min(cap, LONG_CAP)]


def intent_weight(intent: Intent) -> float:
    return TOPIC_WEIGHTS.get(intent.topic, 1.0) * len(intent.forms) ** 0.5


def table_weight(table: Table) -> float:
    if table.name in ARITHMETIC:
        return 0.0
    return TABLE_WEIGHTS.get(table.name, 0.7) * (min(len(table.rows), 60) / 60) ** 0.5
