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
