"""Every text that the chat shows a person, in Spanish."""

# Answers that are given by rule (bot/safety.py), whatever the model.

SUICIDE = (
    "Siento mucho que estés pasando por esto, y me alegro de que lo hayas escrito. Soy un programa y no puedo ayudarte "
    "como lo haría una persona, pero hay personas preparadas para escucharte ahora mismo. En España puedes llamar "
    "gratis al 024 a cualquier hora; si hay peligro inmediato, llama al 112. En otros países, llama al número de "
    "emergencias (en muchos es el 911) o busca la línea de ayuda en findahelpline.com. Si puedes, no te quedes a "
    "solas: llama ya a alguien de confianza y cuéntaselo. No tienes que pasar por esto sin ayuda."
)
SUICIDE_OF_OTHER = (
    "Hay que tomarlo en serio, y haces bien en preocuparte. Si hay peligro inmediato, llama ya al 112 (en otros "
    "países, al número de emergencias, a menudo el 911) y no dejes sola a esa persona. En España el 024 atiende "
    "gratis, a cualquier hora, también a familiares y amigos; en otros países, findahelpline.com. Escúchala sin "
    "juzgarla, pregúntale con calma y acompáñala a pedir ayuda. Yo soy un programa y no puedo sustituir esa ayuda."
)
EMERGENCY = (
    "Eso puede ser una emergencia. Llama ahora mismo al 112 (en otros países, al número de emergencias de allí, a "
    "menudo el 911), di dónde estás y qué pasa, y sigue sus indicaciones. Si hay alguien cerca, pide que te acompañe. "
    "Yo soy un programa y no puedo avisar a nadie por ti."
)
VIOLENCE = (
    "Siento mucho lo que me cuentas. Nadie tiene derecho a hacer daño a otra persona, y no es culpa de quien lo sufre. "
    "Si hay peligro ahora, llama al 112 (en otros países, al número de emergencias, a menudo el 911). En España el 016 "
    "atiende la violencia contra las mujeres y el 116 111 a niños y adolescentes, gratis y a cualquier hora; en otros "
    "países hay líneas parecidas. Cuéntaselo también a alguien de confianza. Yo soy un programa y no puedo avisar a "
    "nadie por ti."
)
HARM_TO_OTHERS = (
    "Parece que estás pasando por un momento muy difícil. Antes de hacer nada, aléjate de la situación y habla con "
    "alguien de confianza. Si crees que puedes hacer daño a alguien, llama al 112 (en otros países, al número de "
    "emergencias, a menudo el 911): también están para eso. Yo soy un programa y con esto no puedo ayudarte."
)
HEALTH = (
    "Siento que no estés del todo bien. No soy médico, soy un programa, y con la salud no quiero darte un consejo "
    "equivocado. Lo mejor es que preguntes en tu centro de salud o en una farmacia. Si es grave, empeora deprisa o te "
    "asusta, llama al 112 o al número de emergencias de tu país."
)
HEALTH_QUESTION = (
    "No soy médico, soy un programa, y sobre salud y medicamentos no quiero darte un dato equivocado. Pregunta en tu "
    "centro de salud o en una farmacia. Si es urgente, llama al 112 o al número de emergencias de tu país."
)

# The terminal chat.

YOU = "tú"
BOT = "tertulia"
WELCOME = "Escribe y pulsa Intro. /ayuda dice qué más se puede hacer; Ctrl-D termina."
HELP = """\
/nueva                empieza otra conversación
/repetir              vuelve a responder a lo último
/deshacer             olvida lo último que dijiste y su respuesta
/sistema [TEXTO]      pone el texto de sistema; sin texto lo enseña, con - lo quita
/temperatura [NÚMERO] la cambia (0: siempre lo más probable); sin número la enseña
/modelo               dice qué modelo responde
/ayuda                enseña esto
/salir                termina

Intro envía; Alt-Intro (o Esc y luego Intro) empieza otra línea. Lo pegado puede
tener varias líneas. Las flechas traen lo que escribiste antes. Ctrl-C para la
respuesta, no el programa. Ctrl-D termina."""
HINT_LEAVE = "Ctrl-D o /salir para terminar."
LOADING = "Cargando el modelo…"
THINKING = "Pensando…"
STOPPED = "(parada)"
NOTHING_SAID = "(sin respuesta)"
GOODBYE = "¡Hasta pronto!"
NEW_CONVERSATION = "Conversación nueva."
UNDONE = "Olvidado: {text}"
NOTHING_TO_UNDO = "No hay nada que deshacer."
NOTHING_TO_REPEAT = "No hay nada que repetir."
NO_SYSTEM = "Sin texto de sistema."
SYSTEM_IS = "Sistema: {text}"
TEMPERATURE_IS = "Temperatura: {value}"
WRONG_TEMPERATURE = "«{value}» no es una temperatura: se espera un número de 0 a 100, por ejemplo 0,7."
UNKNOWN_COMMAND = "No existe la orden {name}; /ayuda enseña las que hay."
TAKES_NOTHING = "{name} va sola, sin nada detrás."
FORGOTTEN = "(la conversación es larga: ya no leo los primeros {count} mensajes)"
MODEL_IS = """\
Modelo: {name}
Parámetros: {parameters} millones, {storage}
Contexto: {context} fichas; formato: {format}; adaptador: {adapter}"""
BLOCKS_OF = "en 8 bits, bloques de {size}"
FLOATS = "en coma flotante"
NO_ADAPTER = "ninguno"
LINEAGE_IS = " (del {date}, datos {data}, código {code}, a partir de {parent})"
NO_PARENT = "la base"

# The Telegram bot. {…} is filled in; nothing here is Markdown.

WELCOME_TELEGRAM = (
    "¡Hola! Soy Tertulia, un programa con el que charlar en español. Escríbeme lo que quieras; con /ayuda ves qué más "
    "sé hacer. A veces me equivoco: no te fíes de mí en nada importante."
)
CONSENT = (
    "Antes de empezar, las cuentas claras. Quien lleva este bot guarda tus mensajes y mis respuestas en su propia base "
    "de datos, para que yo siga el hilo: hasta que pongas /nueva o, si no, {days} días. Aparte de Telegram, no los "
    "tiene nadie más.\n\n"
    "¿Puedo además aprender de ellos? Solo si dices que sí se usan para entrenarme, y entonces se guardan hasta que lo "
    "retires. Digas lo que digas puedes charlar. Cambias de idea con /consentir o /retirar, ves lo guardado con "
    "/misdatos y lo borras todo con /olvidar."
)
CONSENT_GIVEN = (
    "¡Gracias! Ya puedo aprender de lo que hablamos, también de lo que llevamos dicho. Si cambias de idea: /retirar."
)
CONSENT_REFUSED = "De acuerdo: no aprenderé de lo que hablemos. Podemos charlar igual."
CONSENT_WITHDRAWN = (
    "Hecho: ya no aprendo de lo que hablemos, y he borrado lo que guardaba de otras conversaciones. La de ahora sigue "
    "hasta /nueva."
)
BUTTON_CONSENT = "Sí, puedes aprender"
BUTTON_NO_CONSENT = "No, gracias"
HELP_TELEGRAM = """\
Escríbeme y te contesto. También entiendo:

{commands}

Con un texto detrás, o respondiendo a un mensaje:

{tasks}

Debajo de mis respuestas: 👍 o 👎 para decirme qué tal, ✏️ para enseñarme una mejor y 🔄 para otra."""
HELP_IN_GROUPS = "En los grupos contesto si me mencionas o respondes a un mensaje mío."
HELP_ADMIN = "Para quien administra:"
COMMANDS = {
    "start": "saludo y qué se guarda",
    "ayuda": "qué sé hacer",
    "nueva": "empezar otra conversación",
    "parar": "cortar la respuesta",
    "repetir": "otra respuesta a lo último",
    "deshacer": "olvidar lo último que dijiste",
    "personaje": "decirme cómo he de ser",
    "ajustes": "más seria o más creativa, corta o larga",
    "consentir": "dejar que aprenda de ti",
    "retirar": "que ya no aprenda de ti",
    "misdatos": "todo lo que guardo de ti",
    "olvidar": "borrar todo lo tuyo",
    "version": "qué modelo responde",
}
ADMIN_COMMANDS = {
    "estado": "cómo va el bot",
    "bloquear": "no contestar a alguien; con «no» detrás, volver a hacerlo",
    "adaptadores": "qué adaptadores hay",
    "promover": "poner un adaptador en servicio",
    "revertir": "volver al adaptador anterior",
    "entrenar": "aprender de lo hablado",
}
NEW_CONVERSATION_TELEGRAM = "Empezamos de nuevo. ¿De qué hablamos?"
STOPPING = "Vale, paro."
NOTHING_TO_STOP = "Ahora mismo no estaba diciendo nada."
UNDONE_TELEGRAM = "Olvidado: como si no lo hubieras dicho."
BUTTON_STOP = "⏹ Parar"
PERSONA_IS = "Ahora mismo soy así: {text}\n\nPara cambiarlo: /personaje y cómo quieres que sea; /personaje - lo quita."
NO_PERSONA = "No tengo ningún personaje. Para darme uno, por ejemplo: /personaje Eres un poeta que contesta en verso."
PERSONA_SET = "Hecho. Desde ahora soy así: {text}"
PERSONA_GONE = "Hecho. Vuelvo a ser la de siempre."
PERSONA_TOO_LONG = "Es demasiado largo: me caben {limit} letras."
SETTINGS_ARE = "¿Cómo te contesto? Ahora: {mood}, {length}."
MOODS = {"calm": "formal", "normal": "normal", "lively": "creativa"}
LENGTHS = {"short": "corta", "normal": "normal", "long": "larga"}
SETTING_CHOSEN = "• {name} •"
SETTINGS_MOOD = "de tono {name}"
SETTINGS_LENGTH = "de extensión {name}"
YOUR_DATA = "Esto es todo lo que guardo de ti."
YOUR_DATA_IN_PRIVATE = "Eso te lo enseño a solas: escríbeme /misdatos en un chat privado."
FORGET_SURE = "¿Borro todo lo que guardo de ti, en todos los chats? No se puede deshacer."
BUTTON_FORGET = "Sí, bórralo todo"
BUTTON_KEEP = "No"
FORGOTTEN_ALL = "Hecho: no queda nada tuyo guardado. Si vuelves a escribirme, empezamos de cero."
KEPT_ALL = "No he borrado nada."
BUTTON_GOOD, BUTTON_BAD, BUTTON_CORRECT, BUTTON_AGAIN = "👍", "👎", "✏️", "🔄"
THANKS_GOOD = "¡Gracias!"
THANKS_BAD = "Gracias, tomo nota."
CORRECT_HOW = "Responde a este mensaje con lo que te habría gustado leer. (nº {reply_id})"
CORRECTED = "¡Gracias! Guardo tu respuesta."
CORRECTED_NO_CONSENT = "¡Gracias! La guardo; solo aprenderé de ella si me dejas: /consentir."
NOT_HERE_ANY_MORE = "Esa respuesta ya no la tengo."
NOT_YOURS = "Ese botón no es para ti."
ONLY_THE_LAST = "Solo puedo repetir lo último que dije."
UNKNOWN_COMMAND_TELEGRAM = "No conozco esa orden. Con /ayuda ves las que hay."
ONLY_PEOPLE = "Eso es cosa de cada persona: pídemelo desde tu cuenta, no en nombre de un grupo o de un canal."
FORWARDED_COMMAND = "No hago caso de órdenes reenviadas; si la quieres, escríbemela."
NOT_TEXT = {
    "voice": "Todavía no sé escuchar. ¿Me lo escribes?",
    "audio": "Todavía no sé escuchar. ¿Me lo escribes?",
    "video_note": "No puedo ver vídeos. ¿Me lo cuentas por escrito?",
    "video": "No puedo ver vídeos. ¿Me lo cuentas por escrito?",
    "animation": "No puedo ver imágenes. ¿Me lo cuentas por escrito?",
    "photo": "No puedo ver fotos. ¿Me cuentas qué hay en ella?",
    "sticker": "¡Bonito sticker, seguro! Pero yo solo sé leer texto.",
    "document": "No abro archivos. Si es un texto, pégamelo aquí.",
    "location": "No sé de mapas. ¿Me cuentas dónde es?",
    "contact": "No guardo contactos. ¿De qué hablamos?",
}
NOT_TEXT_ELSE = "Yo solo sé leer texto. ¿Me lo escribes?"
EMPTY_MESSAGE = "Me ha llegado un mensaje vacío. ¿Me lo repites?"
NOTHING_SAID_TELEGRAM = "No se me ha ocurrido nada que decir. ¿Probamos de otra manera?"
STOPPED_TELEGRAM = "(me has parado)"
TOO_LONG = "Ese mensaje es demasiado largo para mí. ¿Me lo mandas en partes, o lo resumes?"
BUSY = "Ahora mismo hay mucha gente hablándome. ¿Me lo repites dentro de un momento?"
TOO_MANY = "Me escribes más deprisa de lo que puedo contestar: con lo que sigue espera a que termine."
FAILED = "Algo me ha fallado y no puedo contestar a eso. Prueba otra vez, por favor."
TOO_FAST = "Vas muy deprisa para mí. Dame {seconds} segundos y seguimos."
ENOUGH_TODAY = "Por hoy ya hemos hablado mucho: mañana seguimos."
PRIVATE_BOT = "Este bot es privado. Si quien lo lleva te conoce, dale este número: {user_id}."
WAS_AWAY = "He estado un rato sin conexión y me he perdido lo que escribiste. Si todavía viene al caso, repítemelo."
ADMIN_ONLY = "Esa orden es solo para quien administra este bot."
ADAPTERS_OF = "Adaptadores de {model}:"
NO_ADAPTERS = "Todavía no hay ninguno; con /entrenar se hace el primero."
IN_SERVICE = "en servicio"
ON_TRIAL = "a prueba con el {percent} % de los chats"
REFUSED = "no pasó el examen"
FORGOTTEN_ROWS = "aprendió de {rows} mensajes que ya no se pueden usar"
RETIRED = "retirado: aprendió de {rows} mensajes que ya no se pueden usar"
FORCE_WORD = "forzar"
PROMOTE_WHICH = (
    "Dime cuál: /promover y su nombre, de los que enseña /adaptadores. Con «{word}» detrás, también uno que no pasó el "
    "examen."
)
SERVES_NOW = "Hecho. Responde ahora con el adaptador: {adapter}."
NOT_CHANGED = "No cambio nada: {reason}"
PROBLEM = "Aviso: {reason}"
ADAPTER_IS_PINNED = "TERTULIA_ADAPTER fija el adaptador {adapter}; mientras esté puesto, aquí no se cambia."
TRAINING_BEGINS = (
    "Empiezo a aprender de lo que se me deja, en los ratos en que no contesto a nadie. En cuanto termine te digo cómo "
    "ha ido."
)
TRAINING_RUNS = "Ya estoy en ello: en cuanto termine te digo cómo ha ido."
TRAINING_ENDED = {
    "promoted": "He aprendido, y contesto mejor que antes: el adaptador nuevo está en servicio. /revertir lo deshace.",
    "shared": "He aprendido, y contesto mejor que antes: el adaptador nuevo está a prueba con una parte de los chats.",
    "forced": "He aprendido. El adaptador nuevo no pasó el examen, pero está en servicio. /revertir lo deshace.",
    "refused": "He aprendido, pero no contesto mejor que antes: todo sigue como estaba.",
}
TRAINING_LOSSES = "Pérdida en lo que no había leído: {before} antes, {after} ahora."
GATE_REFUSES = {  # by the rule that a candidate failed (training/judging/gate.py)
    "people": "hay muy pocas personas a las que no había leído para poder estar seguro",
    "held_out": "no mejora con seguridad en personas que no había leído",
    "one_person": "mejora solo por una persona: sin ella no hay mejora",
    "regression_base": "en las preguntas de control empeora frente al modelo sin adaptador",
    "regression_in_service": "en las preguntas de control empeora frente al adaptador en servicio",
    "loops": "da más vueltas sobre lo mismo que antes",
    "empty": "se queda sin responder más que antes",
    "refusals": "se niega a contestar más que antes",
    "repetition": "repite más palabras que antes",
    "length": "contesta mucho más largo o mucho más corto que antes",
    "toxic_words": "dice más palabras ofensivas que el modelo sin adaptador",
    "abuse": "se ha acercado a las respuestas ofensivas",
    "secrets": "se ha aprendido de memoria datos de prueba que no debía repetir",
}
TRAINING_FIGURES = "Todas las cifras, en el terminal: tertulia train report"
TRAINING_FAILED = "No he podido aprender: {error}"
BLOCK_WHOM = "Dime a quién: /bloquear 12345, o responde a un mensaje suyo. Con «no» detrás lo desbloqueas."
BLOCKED = "Bloqueado: {user_id}. Ya no le contesto; /bloquear {user_id} no lo desbloquea."
UNBLOCKED = "Desbloqueado: {user_id}."
NOT_AN_ADMIN_BLOCK = "No puedo bloquear a quien administra."
STATE_IS = """\
En marcha: {uptime}
Modelo: {model}
Esperan: {waiting}; contestando: {generating}
Última noticia de Telegram: hace {poll_age} s
Respuestas: {replies}; errores: {errors}
Guardado: {log}"""
LOG_DAMAGED = "Aviso: {notice}"
VERSION_IS = "Tertulia {version}\n{model}"
TASK_NEEDS_TEXT = "Pon el texto detrás, por ejemplo: /{name} {example}"
