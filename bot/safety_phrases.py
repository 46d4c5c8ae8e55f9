# ruff: noqa: E501 (a phrase stands on one line)
"""The phrases of bot/safety.py, as data: patterns over plain text (lower case, no accents, single spaces).

<name> stands for one of the words of that name, <any> for up to four words. `$` is the end of a clause. "No" before a
phrase in the first person takes it back ("no quiero morir") where <i> stands.
"""

WORDS = {
    "any": r"(?:\w+ ){0,4}?",
    "i": r"(?<!\bno )(?<!\bno me )(?<!\bsi )(?<!\bnunca )",
    "near": r"(?:mi|mis|su|un|una|otro|otra|el|la)(?: mejor| ex)? (?:amig[oa]|herman[oa]|hij[oa]|madre|padre|mama|papa|"
    r"novi[oa]|prim[oa]|ti[oa]|abuel[oa]|companer[oa]|pareja|marido|mujer|espos[oa]|vecin[oa]|alumn[oa]|sobrin[oa]|ex|"
    r"bebe|nino|nina|senor|senora|suegr[oa]|chic[oa]|conocid[oa])",
    "close": r"(?:mi|su)(?: ex)? ?(?:novi[oa]|marido|mujer|pareja|espos[oa]|padre|madre|padrastro|madrastra|papa|mama|"
    r"ti[oa]|hermano|hermana|jefe|ex|abuelo|hijo)",
    "want": r"(?:quiero|quisiera|queria|deseo|necesito|planeo|pienso|pienso en|estoy pensando en|he pensado en|"
    r"pense en|pensando en|ganas de|impulsos de|intente|he intentado|voy a|vuelvo a|prefiero|preferiria|"
    r"me gustaria|he vuelto a)",
    "end_self": r"(?:suicidarme|matarme|quitarme la vida|quitarme de en medio|ahorcarme|cortarme las venas|"
    r"autolesionarme|hacerme dano|lastimarme|cortarme$|pegarme un tiro|"
    r"tirarme (?:por (?:la|una) ventana|por (?:el|un) balcon|de(?:l| un) puente|al tren|a las? vias?)|"
    r"(?:acabar|terminar) con (?:mi vida|mi sufrimiento|todo$|mi existencia))",
    "die": r"(?:morir|matar|suicidar|ahorcar|autolesionar|quitar la vida|cortar las venas|pegar un tiro|"
    r"tirar (?:por (?:la|una) ventana|por (?:el|un) balcon|de(?:l| un) puente|al tren|a las? vias?))",
    "earnest": r"(?!(?: \w+)? (?:de|del|con) (?:la |tanta? |puro |pura )?(?:risa|verguenza|calor|frio|hambre|sed|sueno|"
    r"amor|envidia|aburrimiento|pena ajena|ternura|viejo|vieja|gusto|nervios|cansancio|asco|emocion|alegria)\b"
    r"| por ti\b| a (?:estudiar|trabajar|correr|comer|reir|besos|cosquillas|hacer)\b| (?:estudiando|trabajando)\b"
    r"| en (?:el |la |este |los )?(?:juego|partida|minecraft|videojuego)\b| (?:feliz|sabiendo)\b)",
    "pills": r"(?:pastillas|pildoras|somniferos|ansioliticos|tranquilizantes|medicamentos|antidepresivos|paracetamol)",
    "many": r"(?:tod[oa]s?|un monton de|much[oa]s|demasiad[oa]s|un (?:bote|frasco|punado) (?:entero )?de|una caja de)",
    "attack": r"un (?:infarto|ictus|derrame|derrame cerebral|ataque al corazon|ataque epileptico)",
    "lost": r"(?:no respira|se (?:ha )?desmay(?:ado|o)|esta inconsciente|(?:ha perdido|perdio) el conocimiento|"
    r"esta convulsionando|tiene convulsiones|no tiene pulso|se esta (?:asfixiando|desangrando|atragantando|ahogando))",
    "still": r"(?:no responde|no (?:se )?despierta|no se mueve)",
    "home": r"(?:mi|la|nuestra|el)(?: \w+)? ?(?:casa|piso|cocina|edificio|habitacion|apartamento)",
    "hits": r"(?:pega|pego|ha pegado|pegaba|golpea|golpeo|ha golpeado|maltrata|maltrato|ha maltratado|maltrataba|"
    r"amenaza|ha amenazado|ha violado|quiere matar|quiso matar|levanto la mano|levanta la mano|da palizas|"
    r"dio una paliza|ha dado una paliza|obliga a (?:acostarme|tener sexo)|toca donde no quiero)",
    "abuse": r"(?:maltrato|malos tratos|abusos?|abusos? sexual(?:es)?|violencia|acoso|acoso escolar|bullying)",
    "person": r"(?:mi (?:mujer|marido|novi[oa]|ex|padre|madre|espos[oa]|pareja|jef[ea]|vecin[oa]|profesora?|suegr[oa]|"
    r"familia|companer[oa])|alguien|una persona|gente|mis (?:padres|companeros|hijos|vecinos))",
    "body": r"(?:cabeza|garganta|espalda|barriga|estomago|tripa|vientre|muelas?|dientes?|oidos?|ojos?|pies?|piernas?|"
    r"rodillas?|brazos?|manos?|cuello|hombros?|costado|cuerpo|rinon(?:es)?|ovarios|tobillos?|munecas?|codos?|cadera|"
    r"pecho|articulaciones|huesos?|musculos?|dedos?|talon|mandibula|encias?|sienes|cervicales|lumbares|regla)",
    "drug": r"(?:ibuprofeno|paracetamol|aspirinas?|amoxicilina|antibioticos?|omeprazol|antihistaminicos?|nolotil|"
    r"diazepam|lorazepam|antidepresivos?|insulina|sintrom|medicamentos?|medicinas?|pastillas?|jarabe|ansioliticos?)",
    "illness": r"(?:fiebre|tos|diarrea|nauseas|vomitos|mareos|jaqueca|migranas?|cancer|diabetes|hipertension|"
    r"tension (?:alta|baja)|infeccion|ansiedad|depresion|ataques? de (?:panico|ansiedad)|crisis de (?:panico|ansiedad)|"
    r"gripe|covid|bronquitis|neumonia|anemia|insomnio|sarpullido|taquicardias?|palpitaciones|esguince|hernia|asma|"
    r"catarro|resfriado|otitis|cistitis|apendicitis|gastritis|mocos y tos|conjuntivitis|ciatica)",
    "some": r"(?:(?:un|una|unas|la|mucha|mucho|muchas|muchos|algo de|un poco de|bastante|otra) )?",
    "unwell": r"(?:enferm[oa]|malit[oa]|maread[oa]|resfriad(?:o|a|isimo|isima)|acatarrad[oa]|constipad[oa]|deprimid[oa]|"
    r"gripos[oa]|con (?:gripe|fiebre|migrana|jaqueca|dolor de <body>|ansiedad|catarro|covid|mal cuerpo))",
}

# In the order of looking: what may cost a life first.
PHRASES: dict[str, tuple[str, ...]] = {
    "emergency": (
        r"me (?:he tomado|tome|he tragado|trague|acabo de tomar)(?: casi)? <many>(?: las| los| mis| de)* ?<pills>",
        r"(?:he tomado|tome|ha tomado|ha tenido|tiene|tengo) una sobredosis(?: de <pills>)?$",
        r"(?:trago|tragado|bebio|bebido|tomo|tomado)(?: \w+){0,3} (?:lejia|veneno|cloro|detergente|raticida|matarratas|"
        r"lavandina|sosa caustica|aguarras|una pila)\b",
        r"(?<!\bcasi )no puedo respirar(?! (?:de (?:la )?(?:risa|emocion)|por la nariz|sin ti))|me cuesta(?: mucho)? respirar",
        r"me (?:estoy|esta) (?:asfixiando|desangrando|atragantando)|me estoy ahogando(?! en)|me falta el aire$",
        r"(?:me duele|me oprime|opresion en|presion en|punzadas en)(?: mucho| muchisimo| fuerte)* el pecho",
        r"(?:tengo|tiene)(?: un)?(?: fuerte)? dolor(?: \w+){0,2} (?:en el|de) pecho",
        r"(?:dando|teniendo|sufriendo|creo que (?:tengo|tiene|es)) <attack>",
        r"creo que (?:me estoy|se esta) muriendo$",
        r"(?:<near>|alguien|una persona)(?: \w+){0,5}? <lost>(?! (?:en (?:deudas|trabajo|un vaso)|de (?:risa|calor)))",
        r"<near> <still>(?! (?:a|al|de|del|mis|mi|los|el|con|en|hasta|antes|mensajes|cuando|nunca)\b)",
        r"^(?:no respira|esta inconsciente|no tiene pulso|esta convulsionando)\b",
        r"se (?:ha caido|cayo)(?: \w+){0,3} y no (?:se mueve|responde|despierta|respira)",
        r"se le (?:torcio|ha torcido|tuerce) la (?:boca|cara)|(?:medio cuerpo|medio lado|un lado del cuerpo) dormido",
        r"no (?:para|paro|deja|dejo) de sangrar|perdiendo mucha sangre|sangr(?:o|ando) (?:mucho|muchisimo|a chorros)",
        r"se me (?:cierra|esta cerrando|hincha|esta hinchando) la garganta|reaccion alergica (?:grave|fuerte)",
        r"(?:necesito|llama a|llamad a|llamen a|manda|pide) una ambulancia|hay (?:un herido|heridos)\b",
        r"(?:mi|el|la) bebe(?: \w+)? tiene mucha fiebre",
        r"(?:hay|tengo) (?:un incendio|fuego) en <home>|<home> (?:se esta quemando|esta ardiendo|esta en llamas)",
        r"huele(?: mucho)? a gas en <home>|(?:ladron(?:es)?|alguien) (?:entrando|ha entrado|han entrado) en <home>",
    ),
    "suicide": (
        r"<i><want> <end_self><earnest>",
        r"<i>(?:quiero|quisiera|deseo|tengo ganas de|ganas de|prefiero|me gustaria) (?:morirme|morir|estar muert[oa])\b"
        r"<earnest>(?! en (?:mi|el|la)\b)",
        r"<i>me (?:quiero|quisiera|voy a|gustaria) <die>(?:me)?<earnest>",
        r"no (?:quiero|puedo|deseo) (?:vivir|seguir viviendo|seguir con vida|seguir viv[oa])(?: mas| asi| ya)*$",
        r"no tengo (?:ningun |ninguna )?(?:ganas|motivos?|razon(?:es)?)(?: \w+){1,3} (?:vivir|viviendo)$|sin ganas de vivir$",
        r"perdi(?:do)? las ganas de vivir|no (?:le )?(?:veo|encuentro) (?:el )?sentido a (?:la vida|mi vida|vivir)",
        r"mi vida no (?:tiene sentido|vale nada|merece la pena)|no (?:vale|merece) la pena (?:seguir )?(?:vivir|viviendo)$",
        r"(?:cansad[oa]|hart[oa]) de (?:vivir|la vida|existir|estar viv[oa])(?: asi| ya)?$",
        r"(?:estaria|estarian|estariais)(?: \w+){0,2} mejor (?:sin mi|muert[oa]|si me muriera|si no existiera)",
        r"(?:estarian|estaria|seria)(?: \w+){0,2} mejor (?:sin mi$|si (?:yo )?(?:no estuviera|estuviera muert[oa]))",
        r"(?:ojala|quisiera|quiero|me gustaria) (?:no )(?:despert\w+(?: \w+)?|existir|existiera|haber nacido|hubiera nacido)$",
        r"ojala (?:estuviera muert[oa]|me muriera$|me muera$)|mejor (?:estar )?muert[oa] que",
        r"<i>(?:quiero|quisiera|me gustaria) (?:desaparecer (?:del mundo|de este mundo|para siempre)|dejar de existir)",
        r"<i>(?:tengo|he tenido|vuelvo a tener|con) (?:\w+ )?(?:pensamientos|ideas) (?:suicidas|de suicidio|de muerte)",
        r"<i>(?:pienso|he pensado|pensando)(?: \w+){0,2} en (?:el suicidio|suicidarme|quitarme)|hacer una locura y acabar",
        r"(?:como|cual|que|maneras?|formas?|metodos?) <any>(?:suicidarme|quitarme la vida|ahorcarme|morir sin dolor)",
        r"<i>me (?:autolesiono|lastimo y|quemo a proposito|golpeo cuando|arano hasta)",
        r"<i>me (?:corto|hago cortes)(?: en)? (?:las venas|las munecas|los brazos|las piernas|la piel)",
        r"me (?:hago|hice|he hecho) dano(?: a (?:mi|proposito)\b| cuando| otra vez)|cuando me hago dano|me he vuelto a cortar$",
        r"dejar de (?:lastimarme|cortarme|hacerme dano|autolesionarme)|escondo mis (?:heridas|cortes)",
        r"(?:es|sera) mi ultim[oa] (?:noche|dia) (?:en este mundo|con vida|de vida|viv[oa])|(?:nota|carta) de suicidio$",
    ),
    "suicide_of_other": (
        r"<near> <any>se (?:quiere|va a|intento|ha intentado) <die><earnest>",
        r"<near> <any>(?:quiere|va a|piensa en|ha intentado|intento|habla de|amenaza con) (?:suicidarse|matarse|morirse|"
        r"quitarse la vida|ahorcarse|autolesionarse)<earnest>",
        r"<near> <any>(?:se autolesiona|se hace cortes|se corta los brazos|(?:tiene|con) (?:pensamientos|ideas) suicidas)",
        r"(?:dice|dijo|dicho|escribio|escrito|conto|contado) que (?:se quiere (?:suicidar|matar|morir)|no quiere seguir"
        r" viviendo|quiere (?:suicidarse|matarse|morirse|quitarse la vida))<earnest>",
    ),
    "violence": (
        r"<close>(?: \w+)? (?:me|nos|le|la) <hits>(?! (?:un|unos) (?:grito|abrazo|beso)| (?:la gripe|su|el catarro|las ganas))",
        r"me (?:pega|golpea|maltrata|amenaza)(?: \w+)? <close>|<close> me (?:controla|insulta|humilla|revisa) <any>y me",
        r"me (?:insulta|humilla) <any><close>$|mi ex me persigue",
        r"me (?:violaron|han violado|violo|ha violado)|(?:abusaron|abusan?|han abusado|ha abusado)(?: \w+)? de mi\b",
        r"(?:sufro|sufre|victima de|sufrido) <abuse>",
        r"me (?:acosan|pegan|golpean|amenazan) <any>en (?:(?:el|la|mi) )?(?:cole|colegio|instituto|clase|escuela|casa)\b",
        r"me hacen bullying|(?:miedo de|miedo a|miedo) (?:que )?(?:mi (?:pareja|marido|novi[oa]|espos[oa]|padrastro|ex))\b",
        r"miedo (?:de )?volver a (?:mi )?casa con el$|me empujo y dice que fue culpa mia|no me deja ver a mis amig[oa]s",
    ),
    "harm_to_others": (
        r"<i>(?:quiero|voy a|tengo ganas de|pienso|pensando en|he pensado en|como puedo) "
        r"(?:matar|asesinar|apunalar|disparar|envenenar|dar una paliza) a <person>\b(?! de (?:risa|amor|envidia|aburrimiento))",
    ),
    "health": (
        r"(?:me|le)(?: \w+)? (?:duelen?|dolia|ha dolido)(?: \w+){0,3}? (?:el|la|los|las|mi|mis|todo el) <body>\b",
        r"(?:la|el|las|los) <body> me (?:duelen?|va a estallar|estalla)|me va a estallar la cabeza|cabeza como un bombo",
        r"(?:tengo|tiene|ando|anda|levante|con|este)(?: \w+){0,2} dolor(?:es)? (?:\w+ )?(?:de|en(?: el| la)?) <body>\b",
        r"<i>(?:tengo|estoy con|sufro|sufro de|padezco|diagnosticaron|diagnosticado|otra vez con|me dio|esta dando) "
        r"<some><illness>\b(?! de (?:ser|vivir|verte|saber|viajar))",
        r"ataque de (?:ansiedad|panico) ahora|^(?:ayuda )?ataque de (?:ansiedad|panico)$|estoy hiperventilando",
        r"<near>(?: \w+)? (?:tiene|sufre|padece|esta con) <some><illness>\b",
        r"<i>(?:estoy|toy|me siento|me encuentro|ando|me he puesto|me puse)(?: muy| un poco| bastante| algo)? <unwell>(?! de (?:amor|celos|nervios)\b)",
        r"me encuentro (?:muy |bastante |un poco )?(?:mal|fatal)$|(?:agarre|pille|cogi) un (?:catarro|resfrio|resfriado)",
        r"me (?:he )?(?:roto|rompi|torcido|torci|fracturado|fracture|dislocado|quemado|queme) (?:el|la|un|una) <body>",
        r"he vomitado|no paro de (?:vomitar|toser|estornudar)|estoy vomitando|llevo (?:\w+ ){1,3}sin (?:poder )?dormir",
        r"me ha (?:salido (?:un bulto|un sarpullido)|picado (?:una|un) (?:vibora|serpiente|escorpion|medusa))",
        r"me (?:ha mordido|mordio) (?:un|una) (?:perro|gato|murcielago|serpiente)",
    ),
    "health_question": (
        r"(?:puedo|puede|debo|debe|deberia|podria|conviene|malo|que pasa si) <any>"
        r"(?:tomar|tomo|tomarme|mezclar|mezclo|combinar) <any><drug>\b",
        r"(?:cuant[oa]s?|que dosis de|que cantidad de|cada cuanto|cada cuantas horas) <any><drug>\b",
        r"(?:que|cual) (?:pastilla|medicina|medicamento|antibiotico|jarabe|pomada)(?: \w+)? (?:me|puedo|debo|es|sirve|tomo|hay)",
        r"(?:que (?:puedo tomar|tomo|me tomo|es bueno|me recomiendas|hago|puedo hacer)|remedios?|algo|consejo) "
        r"(?:para|contra) (?:la |el |los |las |un |una |mi )?(?:dolor de|fiebre|tos|diarrea|acidez|estrenimiento|<illness>)\b",
        r"como (?:se cura|curo|curar|trato|bajo|bajar|quito|alivio|se trata|puedo curar) (?:la |el |un |una |mi )?"
        r"(?:dolor de|herida|quemadura|<illness>)\b",
        r"(?:sintomas|efectos secundarios) (?:de|del) (?:(?:la|el|un|una) )?(?:<illness>|<drug>|embarazo|diabetes|infarto|ictus)",
        r"como (?:se|saber|sabe|puedo saber)(?: si)? (?:tengo|tiene|estoy) (?:embarazada|deprimid[oa]|<illness>)",
        r"(?:es|sera) (?:grave|normal) (?:que me (?:duela|sangre|pique|maree)|tener (?:<illness>|sangre))",
    ),
}
